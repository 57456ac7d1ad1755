"""A variant of a study names model and front end together, and they fit."""

from __future__ import annotations

import pytest
import torch
from passt_bench.ablations.recipes import ast, esc, panns, passt

from passt_bench.models import from_recipe
from passt_bench.models.frontend import frame_count
from passt_bench.spec import override


@pytest.mark.parametrize(
    ("changes", "shape", "grid"),
    [
        (passt(), (128, 504), (12, 49)),
        (passt("cp_resnet", jitter=False), (128, 504), None),
        (ast(), (128, 1024), (12, 101)),
        (ast("ast_n"), (128, 1024), (8, 64)),
        (panns(), (64, 505), None),
        (panns("cnn6"), (64, 505), None),
    ],
)
def test_model_and_front_end_fit(
    changes: dict[str, object], shape: tuple[int, int], grid: tuple[int, int] | None
) -> None:
    recipe = override(esc(), changes)
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    assert (recipe.frontend.mels, frames) == shape
    with torch.device("meta"):
        net = from_recipe(recipe, 50, frames)
        assert net.eval()(torch.empty(2, 1, *shape)).shape == (2, 50)
    assert net.grid(frames) == grid
