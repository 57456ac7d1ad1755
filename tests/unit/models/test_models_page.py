"""docs/models.md has a row for every model, with its parameters and tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from passt_bench.models import build_model, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.registry import MODELS
from passt_bench.spec.frontends import frontend_of

PAGE = Path(__file__).parents[3] / "docs" / "models.md"
ROWS = {
    cells[1].strip().strip("`"): [cell.strip() for cell in cells[2:-1]]
    for cells in (line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines())
    if len(cells) == 7 and cells[1].strip().startswith("`")
}


def test_every_model_has_a_row() -> None:
    assert set(ROWS) == {model.name for model in MODELS.all() if not model.packages}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_correct(name: str) -> None:
    _, parameters, tokens, frontend = ROWS[name]
    spec = frontend_of(name)
    frames = 998 if spec.name == "logmel" else frame_count(spec, 10.0)
    with torch.device("meta"):
        net = build_model(name, 527, mels=spec.mels, frames=frames)
    assert f"{sum(parameter.numel() for parameter in net.parameters()):,}" == parameters
    grid = net.grid(frames)
    if grid is None:
        assert tokens == "–"
    else:
        counts = (grid[0] * grid[1], resolve(net.patchout, grid).kept)
        assert tokens == ", ".join(str(count + net.special_tokens) for count in counts)
    kinds = {"logmel": "passt", "kaldi": "ast", "panns": "panns"}
    assert frontend.strip("`") in (kinds[spec.name], "any")
