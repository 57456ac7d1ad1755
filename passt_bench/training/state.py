"""The state of a training run: the task, its progress, and the mean of its weights.

Stochastic weight averaging only takes the mean of the weights at the beginning of some epochs, as
in ``helpers/swa_callback.py`` of the reference code. The published start of 50 is counted from 1,
here it is 49: 17 snapshots of equal weight, in the epochs 49, 54, …, 129 of 130. The running means
and variances of BatchNorm, which the models of the reference code do not have, are averaged alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from passt_bench.data.targets import Targets
from passt_bench.measure.memory import peak_bytes
from passt_bench.spec.codec import to_plain, validate, written_as
from passt_bench.spec.recipe import Recipe, TrainingSpec
from passt_bench.training import checkpoint
from passt_bench.training.batches import epoch_steps, total_steps
from passt_bench.training.engine import Diverged, ModelStep
from passt_bench.training.features import Features

Weights = dict[str, torch.Tensor]
CHECKPOINT_SECONDS = 20.0
# Minimum time between two checkpoints, in units of the time that writing one takes.
_CHECKPOINT_COST_FACTOR = 30


def snapshot_epochs(training: TrainingSpec) -> range:
    """The epochs, counted from 0, at whose beginning the weights enter the mean."""
    if training.swa_start is None:
        return range(0)
    return range(training.swa_start, training.epochs, training.swa_every)


def _mean(mean: torch.Tensor, value: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
    """The equal-weight mean with one more value; integer buffers are the latest weights'."""
    return mean + (value - mean) / (count + 1) if value.is_floating_point() else value


def copy_of(net: nn.Module) -> Weights:
    """A copy of the weights and buffers of a model."""
    return {name: value.clone() for name, value in net.state_dict().items()}


@contextmanager
def temporarily_load(net: nn.Module, weights: Weights) -> Iterator[None]:
    """Loads other weights into a model and restores its own afterwards."""
    original = copy_of(net)
    net.load_state_dict(weights)
    try:
        yield
    finally:
        net.load_state_dict(original)


@dataclass
class Task:
    """The data and settings of a training run. Fields marked * do not affect the result."""

    key: str  # * of the cell
    recipe: Recipe
    seed: int
    features: Features  # of the whole data set
    targets: Targets  # of the whole data set
    train: np.ndarray  # indices of the training clips
    folder: Path  # * of checkpoints
    validation: np.ndarray | None = None  # indices of clips to evaluate after each epoch
    keeps_best: bool = True  # whether the best epoch's weights are tested, not the last one's
    attempt: int = 1  # * checkpoints of earlier attempts are not used
    checkpoint_seconds: float = CHECKPOINT_SECONDS  # * between two checkpoints
    # * Wall seconds that this process has spent before training, by part.
    clocks: dict[str, float] = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training."""
        return total_steps(self.recipe.training, len(self.train))

    @property
    def epochs(self) -> int:
        """Epochs of the whole training; the last one may be cut short."""
        return -(-self.total_steps // epoch_steps(self.recipe.training, len(self.train)))


@dataclass
class Progress:
    """What a training run has done so far, over all resumes; saved in checkpoints."""

    epoch: int = 0  # completed
    step: int = 0  # completed in the current epoch
    train_loss: list[float] = field(default_factory=list)  # mean of each epoch
    learning_rate: list[float] = field(default_factory=list)  # last of each epoch
    # The metric on the validation split after each epoch, for ``best_on_validation``.
    validation: Annotated[list[float], written_as("inner")] = field(default_factory=list)
    best_epoch: int = 0  # with the best of these, counted from 1; 0 is none
    best_loss: float = np.inf  # of that epoch, on the validation split
    seconds: float = 0.0  # wall seconds of training steps
    cpu_seconds: float = 0.0  # of the process in training steps
    epoch_seconds: float = 0.0  # wall seconds of the current epoch
    step_seconds: list[float] = field(default_factory=list)  # mean per step of each epoch
    peak_bytes: int = 0
    # Wall seconds of earlier processes by part, training steps not included.
    earlier_seconds: Annotated[dict[str, float], written_as("before")] = field(default_factory=dict)


class Training:
    """A model in training, with everything that is needed to resume.

    Random numbers are not part of the state: they are functions of seed and step.

    Attributes:
        average: average of the weights, if the recipe asks for one.
        other_weights: after the training, the name and values of the set of weights that is not
            reported; None if there is only one set.
    """

    def __init__(self, net: nn.Module, step: ModelStep, task: Task) -> None:
        self.net, self.task = net, task
        self._stateful: dict[str, Any] = {"optimizer": step.optimizer}
        if step.scaler.is_enabled():
            self._stateful["scaler"] = step.scaler
        self.average: AveragedModel | None = None
        if task.recipe.training.swa_start is not None:
            self.average = AveragedModel(net, avg_fn=_mean, use_buffers=True)
        self.other_weights: tuple[str, Weights] | None = None
        self.progress = Progress()
        self._losses: list[torch.Tensor] = []  # of the current epoch
        self._unsaved, self._wait = 0, task.checkpoint_seconds
        self._resume()
        self._saved = time.monotonic()

    def begin_epoch(self) -> None:
        """Averages the weights if the recipe says so, and starts the clock."""
        progress, epochs = self.progress, snapshot_epochs(self.task.recipe.training)
        if self.average is not None and progress.epoch in epochs and not progress.step:
            self.average.update_parameters(self.net)  # a resumed epoch's average has it already
        self.start()

    def start(self) -> None:
        """Starts counting training time."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Adds the time since `start`, and restarts."""
        elapsed = time.perf_counter() - self._wall
        self.progress.seconds += elapsed
        self.progress.epoch_seconds += elapsed
        self.progress.cpu_seconds += time.process_time() - self._cpu
        self.start()

    def count_step(self, loss: torch.Tensor) -> None:
        """Counts a step; writes a checkpoint if one is due."""
        self._losses.append(loss)
        self.progress.step += 1
        self._unsaved += 1
        if time.monotonic() - self._saved > self._wait:
            self.stop()
            self.save()
            self.start()

    def end_epoch(self, rate: float) -> None:
        """Records an epoch after its last step.

        Raises:
            Diverged: a loss was NaN or infinite.
        """
        progress, epochs = self.progress, self.task.epochs
        mean = float(torch.stack(self._losses).mean())
        if not np.isfinite(mean):
            raise Diverged(f"the loss is {mean} in epoch {progress.epoch + 1} of {epochs}")
        self.stop()
        self._losses = []
        progress.train_loss.append(mean)
        progress.learning_rate.append(rate)
        progress.step_seconds.append(progress.epoch_seconds / progress.step)
        progress.epoch, progress.step, progress.epoch_seconds = progress.epoch + 1, 0, 0.0

    def save(self) -> None:
        """Writes a checkpoint, unless the last one holds everything."""
        if not self._unsaved:
            return
        progress, task = self.progress, self.task
        progress.peak_bytes = max(progress.peak_bytes, peak_bytes(task.recipe.engine.device))
        clocks = add_clocks(progress.earlier_seconds, task.clocks)
        state = {
            **self._common(),
            "parts": {name: part.state_dict() for name, part in self._stateful.items()},
            "progress": {**to_plain(progress), "before": clocks},
            "losses": torch.stack(self._losses) if self._losses else None,
            "average": self.average.state_dict() if self.average is not None else None,
        }
        began = time.monotonic()
        checkpoint.save(task.folder, state)
        self._unsaved, self._saved = 0, time.monotonic()
        # Slow checkpoints are written less often, so that they cost at most a few percent.
        least, took = task.checkpoint_seconds, self._saved - began
        self._wait = min(
            max(least, _CHECKPOINT_COST_FACTOR * took), _CHECKPOINT_COST_FACTOR * least
        )

    def save_best(self) -> None:
        """Keeps the weights of the epoch that has just ended."""
        state = {**self._common(), "epoch": self.progress.epoch}
        checkpoint.save(self.task.folder, state, checkpoint.BEST)

    def _common(self) -> dict[str, Any]:
        task = self.task
        return {"key": task.key, "attempt": task.attempt, "net": self.net.state_dict()}

    def with_evaluation_weights(self) -> AbstractContextManager[None]:
        """Loads the weights that would be evaluated if the training ended now."""
        average, swa = self.average, self.task.recipe.training.eval_weights == "swa"
        if swa and average is not None and average.n_averaged:
            return temporarily_load(self.net, average.module.state_dict())
        return nullcontext()

    def finish(self) -> None:
        """Puts the weights to evaluate into the model, and the others into `other_weights`.

        Raises:
            OSError: the file with the weights of the best epoch is missing or damaged.
        """
        self.save()
        if self.average is not None:
            self.other_weights = "swa", self.average.module.state_dict()
            if self.task.recipe.training.eval_weights == "swa":
                self.other_weights = "last", copy_of(self.net)
                self.net.load_state_dict(self.average.module.state_dict())
        if self.task.validation is not None and self.task.keeps_best:
            state = self._load(checkpoint.BEST)
            if state is None or state["epoch"] != self.progress.best_epoch:
                raise OSError(f"the weights of epoch {self.progress.best_epoch} are missing")
            self.net.load_state_dict(state["net"])

    def _load(self, name: str) -> dict[str, Any] | None:
        task = self.task
        return checkpoint.load(task.folder, (task.key, task.attempt), name)

    def _resume(self) -> None:
        """Resumes from the checkpoint, if there is one that can be used."""
        key, state = self.task.key, self._load(checkpoint.LATEST)
        if state is not None and not self._fits(state):
            checkpoint.warn(f"{key}: the checkpoint does not fit the model; it is not used")
        elif state is not None and not self._has_best(state["progress"]):
            checkpoint.warn(f"{key}: the weights of the best epoch are missing")
        elif state is not None:
            self._restore(state)
            return
        if checkpoint.exists(self.task.folder):
            checkpoint.warn(f"{key}: no checkpoint can be used; the run starts from the beginning")

    def _fits(self, state: dict[str, Any]) -> bool:
        current, saved = (
            {name: value.shape for name, value in weights.items()}
            for weights in (self.net.state_dict(), state["net"])
        )
        same = current == saved and set(state["parts"]) == set(self._stateful)
        return same and (state["average"] is not None) == (self.average is not None)

    def _has_best(self, progress: dict[str, Any]) -> bool:
        """Whether the best weights are of this state, or of a later epoch, to be repeated."""
        if not progress["best_epoch"]:
            return True
        best = self._load(checkpoint.BEST)
        return best is not None and (
            best["epoch"] == progress["best_epoch"] or best["epoch"] > progress["epoch"]
        )

    def _restore(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        for name, part in self._stateful.items():
            part.load_state_dict(state["parts"][name])
        self.progress = validate(Progress, state["progress"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["losses"] is not None:
            self._losses = list(state["losses"].to(self.task.recipe.engine.device))


def add_clocks(one: dict[str, float], two: dict[str, float]) -> dict[str, float]:
    """Seconds by part, added up."""
    return {name: one.get(name, 0.0) + two.get(name, 0.0) for name in {**one, **two}}
