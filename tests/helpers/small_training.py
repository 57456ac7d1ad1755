"""One small training on random log-mels, which can be stopped after any step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from passt_bench.models import create_model
from passt_bench.spec import ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.loop import train
from passt_bench.training.state import Task, Training

EPOCHS, STEPS = 4, 4
VALIDATION = np.arange(32, 40)
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, heads=2),
    patchout=Patchout("unstructured", rate=0.5),
    training=TrainingSpec(epochs=EPOCHS, batch_size=8, mixup=0.3, roll=0.2),
)


class Stopped(Exception):
    """Stands for a kill at a known moment."""


def make_task(
    folder: Path,
    training: TrainingSpec = RECIPE.training,
    patchout: Patchout = RECIPE.patchout,
    **changes: Any,
) -> Task:
    """Trains on 32 clips, of which a new checkpoint is written after each step."""
    random = np.random.default_rng(1)
    targets = (random.random((40, 3)) < 0.4).astype("f4")
    features = random.normal(size=(40, 16, 32)).astype("f4") + targets[:, :1, None]
    recipe = replace(RECIPE, training=training, patchout=patchout)
    task = Task("key", recipe, 5, features, targets, np.arange(32), folder)
    return replace(task, checkpoint_seconds=0.0, **changes)


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The warnings since the last call."""
    return capsys.readouterr().err.splitlines()


def fresh(width: int = 16) -> torch.nn.Module:
    """The model with the same initial weights each time."""
    size = {"patch": 8, "stride": 8, "heads": 2, "mels": 16, "frames": 32}
    return create_model("passt_micro", 3, width=width, **size)


def trained(task: Task, net: torch.nn.Module | None = None, **more: Any) -> Training:
    """The state after a training, of a fresh model unless one is given."""
    return train(net or fresh(), task, **more)


def stopped(monkeypatch: pytest.MonkeyPatch, steps: int, task: Task, net: Any = None) -> None:
    """Trains until that many steps are taken, the last checkpoint written."""
    count, real = 0, Training.count_step

    def stepped(self: Training, loss: torch.Tensor) -> None:
        nonlocal count
        real(self, loss)
        count += 1
        if count == steps:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Training, "count_step", stepped)
        with pytest.raises(Stopped):
            trained(task, net)


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    """Whether two states of a model are the same bit for bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
