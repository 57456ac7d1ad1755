"""A small model as a file, and its evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from passt_bench.data.synthetic import CLASSES
from passt_bench.models import create_model, save_model
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe, TrainingSpec


def model(
    path: Path,
    classes: Sequence[str] = CLASSES,
    *,
    seed: int = 0,
    loss: str = "bce",
    data: DataSpec | None = None,
    scale: float = 1.0,
) -> Path:
    """A small model with initial weights, as a file."""
    recipe = Recipe(
        model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
        frontend=FrontendSpec(hop=250),
        data=data or DataSpec(seconds=1.0, test_clips=40),
        training=TrainingSpec(loss="ce" if loss == "ce" else "bce"),
    )
    net = create_model(
        "passt_micro", len(classes), patch=8, stride=8, mels=64, frames=64, seed=seed
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= scale
    return save_model(path, net, recipe, classes)


def evaluated(
    out: Path, *checkpoints: Path, data: str = "synthetic", **more: object
) -> EvaluationRecord:
    """Evaluates checkpoints; more arguments by name."""
    names = [str(path) for path in checkpoints]
    return evaluate_checkpoints(names, data, out, **more)[0]  # type: ignore[arg-type]
