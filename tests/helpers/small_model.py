"""A model file of a small transformer with initial weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from passt_bench.models import create_model, save_model
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe, TrainingSpec

SIZE = {"patch": (16, 16), "stride": (16, 16), "width": 16, "depth": 1, "heads": 2}
SECOND = DataSpec(seconds=1.0)


def write_model(
    path: Path,
    classes: Sequence[str],
    *,
    seed: int = 0,
    loss: Any = "bce",
    data: DataSpec = SECOND,
    scale: float = 1.0,
) -> Path:
    """Writes it, its weights multiplied by ``scale``."""
    recipe = Recipe(
        model=ModelSpec("passt_micro", **SIZE),  # type: ignore[arg-type]
        frontend=FrontendSpec(hop=250),
        data=data,
        training=TrainingSpec(loss=loss),
    )
    net = create_model("passt_micro", len(classes), mels=64, frames=64, seed=seed, **SIZE)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= scale
    return save_model(path, net, recipe, classes)
