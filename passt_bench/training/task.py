"""What is trained, and how far it has come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from passt_bench.data.targets import Targets
from passt_bench.spec.recipe import Recipe
from passt_bench.training import checkpoint
from passt_bench.training.features import Features

CHECKPOINT_SECONDS = 20.0


@dataclass
class Task:
    """What is trained on, and how it is kept; the last four fields do not decide the result.

    Attributes:
        key: of the cell.
        recipe: everything that makes the run.
        seed: of the run.
        features: (clips, mels, frames) of the whole data set.
        targets: (clips, classes).
        train: indices of the training clips.
        folder: where checkpoints are written.
        inner: indices of the clips that the epoch is chosen by, for ``best_on_inner``.
        attempt: a checkpoint of an earlier attempt does not serve.
        checkpoint_seconds: between two checkpoints.
        clocks: wall seconds that this process has spent before, by part.
        tell: told what a checkpoint that cannot serve is.
    """

    key: str
    recipe: Recipe
    seed: int
    features: Features
    targets: Targets
    train: np.ndarray
    folder: Path
    inner: np.ndarray | None = None
    attempt: int = 1
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    clocks: dict[str, float] = field(default_factory=dict)
    tell: Callable[[str], None] = checkpoint.say


@dataclass
class Progress:
    """What a training has done so far, over all resumes; a checkpoint holds all of it.

    Attributes:
        epoch: whole epochs.
        step: steps of the epoch that has begun.
        train_loss: mean of each epoch.
        learning_rate: last of each epoch.
        inner: metric on the inner split after each epoch, for ``best_on_inner``.
        best_epoch: the first with the best of these, from 1; 0 is none.
        seconds: wall seconds of training steps.
        cpu_seconds: of the process, in training steps.
        epoch_seconds: wall seconds of the epoch that has begun.
        step_seconds: mean of each epoch.
        peak_bytes: highest memory use.
        before: wall seconds of earlier processes by part, training steps not included.
    """

    epoch: int = 0
    step: int = 0
    train_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    inner: list[float] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    epoch_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    before: dict[str, float] = field(default_factory=dict)
