"""The state of a training: the task, its progress, and the mean of its weights.

A checkpoint holds the whole state, so that a resumed training continues exactly.

Stochastic weight averaging takes the mean of the weights at the beginning of some epochs. As in
``helpers/swa_callback.py`` of the reference code it only averages: it does not change the learning
rate or the training. The published start of 50 is counted from 1, here it is 49: 17 snapshots of
equal weight at the beginning of the epochs 49, 54, …, 129 of 130, counted from 0.

The running means and variances of BatchNorm are averaged like weights (the reference code averages
only parameters, and its models have no BatchNorm). Estimating them again for the averaged weights
would be more exact, at the cost of another pass over the training clips.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import nn

from passt_bench.data.targets import Targets
from passt_bench.errors import InputError
from passt_bench.measure.memory import peak_bytes
from passt_bench.spec.codec import to_plain, validate, written_as
from passt_bench.spec.recipe import Recipe, TrainingSpec
from passt_bench.training import checkpoint
from passt_bench.training.features import Features

Weights = dict[str, torch.Tensor]


def snapshot_epochs(training: TrainingSpec) -> range:
    """The epochs, counted from 0, at whose beginning the weights enter the mean."""
    if training.swa_start is None:
        return range(0)
    return range(training.swa_start, training.epochs, training.swa_every)


def check_averaging(training: TrainingSpec) -> None:
    """Checks the settings of weight averaging.

    Raises:
        InputError: it starts after the last epoch, or averaged weights are to be evaluated without
            ``swa_start``.
    """
    if training.swa_start is not None and not snapshot_epochs(training):
        raise InputError(
            f"must be at most {training.epochs - 1}, because epochs count from 0",
            field="training.swa_start",
            value=training.swa_start,
            remedy="Start averaging earlier, or train for longer.",
        )
    if training.swa_start is None and training.eval_weights == "swa":
        raise InputError(
            "averaged weights are to be evaluated, but training.swa_start is not set",
            field="training.eval_weights",
            value="swa",
            remedy="Set training.swa_start to an epoch, or training.eval_weights to 'last'.",
        )


class Average:
    """The equal-weight mean of several states of a model.

    Attributes:
        count: number of states.
        weights: the mean, by name; integers are those of the last state.
    """

    def __init__(self) -> None:
        self.count = 0
        self.weights: Weights = {}

    @torch.no_grad()
    def add(self, net: nn.Module) -> None:
        """Adds the current weights of the model."""
        for name, value in net.state_dict().items():
            mean = self.weights.get(name)
            if mean is None or not value.is_floating_point():
                self.weights[name] = value.clone()
            else:
                mean += (value - mean) / (self.count + 1)
        self.count += 1

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"count": self.count, "weights": self.weights}

    def load(self, state: dict[str, Any], device: str) -> None:
        """Restores the state from a checkpoint."""
        self.count = int(state["count"])
        self.weights = {name: value.to(device) for name, value in state["weights"].items()}


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


CHECKPOINT_SECONDS = 20.0


@dataclass
class Task:
    """The data and settings of a training. Fields marked * do not affect the result.

    Attributes:
        key: key of the cell. *
        recipe: all settings of the run.
        seed: seed of the run.
        features: (clips, mels, frames) of the whole data set.
        targets: (clips, classes).
        train: indices of the training clips.
        folder: folder of checkpoints. *
        validation: indices of the validation split, for ``best_on_validation``.
        attempt: checkpoints of earlier attempts are not used. *
        checkpoint_seconds: seconds between two checkpoints. *
        clocks: wall seconds that this process has spent before training, by part. *
        warn: called with a sentence for each checkpoint that cannot be used. *
    """

    key: str
    recipe: Recipe
    seed: int
    features: Features
    targets: Targets
    train: np.ndarray
    folder: Path
    validation: np.ndarray | None = None
    attempt: int = 1
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    clocks: dict[str, float] = field(default_factory=dict)
    warn: Callable[[str], None] = checkpoint.warn


@dataclass
class Progress:
    """What a training has done so far, over all resumes; saved in checkpoints.

    Attributes:
        epoch: completed epochs.
        step: completed steps of the current epoch.
        train_loss: mean loss of each epoch.
        learning_rate: last learning rate of each epoch.
        validation: metric on the validation split after each epoch, for ``best_on_validation``.
        best_epoch: the first epoch with the best of these, counted from 1; 0 is none.
        seconds: wall seconds of training steps.
        cpu_seconds: CPU seconds of the process in training steps.
        epoch_seconds: wall seconds of the current epoch.
        step_seconds: mean seconds per step of each epoch.
        peak_bytes: maximum memory use.
        before: wall seconds of earlier processes by part, training steps not included.
    """

    epoch: int = 0
    step: int = 0
    train_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    validation: Annotated[list[float], written_as("inner")] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    epoch_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    before: dict[str, float] = field(default_factory=dict)


# Minimum time between two checkpoints, in units of the time that writing one takes.
_CHECKPOINT_COST_FACTOR = 30


class Training:
    """A model in training, with everything that is needed to resume.

    Random numbers are not part of the state: they are functions of seed and step.

    Args:
        net: model on the recipe's device, with initial weights.
        stateful: other objects with a state (optimizer, scaler of the loss), by name.
        task: data and recipe.

    Attributes:
        average: average of the weights, if the recipe asks for one.
        other_weights: after the training, the kind and values of the weights that the run's metrics
            are not of; None if there is only one kind.

    Raises:
        InputError: see `check_averaging`.
    """

    def __init__(self, net: nn.Module, stateful: dict[str, Any], task: Task) -> None:
        training = task.recipe.training
        check_averaging(training)
        self.net, self.stateful, self.task = net, stateful, task
        self.average = Average() if training.swa_start is not None else None
        self.other_weights: tuple[str, Weights] | None = None
        self.progress = Progress()
        self.losses: list[torch.Tensor] = []  # of the current epoch
        self._unsaved, self._wait = 0, task.checkpoint_seconds
        self._resume()
        self._saved = time.monotonic()
        self.start()

    @property
    def identity(self) -> tuple[str, int]:
        """Key and attempt that a checkpoint must belong to."""
        return self.task.key, self.task.attempt

    def begin_epoch(self) -> None:
        """Averages the weights if the recipe says so, and starts the clock."""
        epochs = snapshot_epochs(self.task.recipe.training)
        progress = self.progress
        if self.average is not None and progress.epoch in epochs and not progress.step:
            self.average.add(self.net)  # otherwise the checkpoint includes it
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

    def stepped(self, loss: torch.Tensor) -> None:
        """Counts a step; writes a checkpoint if one is due."""
        self.losses.append(loss)
        self.progress.step += 1
        self._unsaved += 1
        if time.monotonic() - self._saved > self._wait:
            self.stop()
            self.save()
            self.start()

    def save(self) -> None:
        """Writes a checkpoint, unless the last one holds everything."""
        if not self._unsaved:
            return
        progress, task = self.progress, self.task
        progress.peak_bytes = max(progress.peak_bytes, peak_bytes(task.recipe.engine.device))
        clocks = add_clocks(progress.before, task.clocks)
        state = {
            "key": task.key,
            "attempt": task.attempt,
            "net": self.net.state_dict(),
            "parts": {name: part.state_dict() for name, part in self.stateful.items()},
            "progress": {**to_plain(progress), "before": clocks},
            "losses": torch.stack(self.losses) if self.losses else None,
            "average": self.average.state() if self.average is not None else None,
        }
        began = time.monotonic()
        checkpoint.save(task.folder, state)
        self._unsaved, self._saved = 0, time.monotonic()
        # Slow checkpoints are written less often, so that they cost at most a few percent.
        longest = _CHECKPOINT_COST_FACTOR * task.checkpoint_seconds
        self._wait = min(
            max(task.checkpoint_seconds, _CHECKPOINT_COST_FACTOR * (self._saved - began)), longest
        )

    def save_best(self) -> None:
        """Keeps the weights of the epoch that has just ended."""
        state = {
            "key": self.task.key,
            "attempt": self.task.attempt,
            "net": self.net.state_dict(),
            "epoch": self.progress.epoch,
        }
        checkpoint.save_best(self.task.folder, state)

    def evaluated(self) -> AbstractContextManager[None]:
        """Loads the weights that would be evaluated if the training ended now."""
        if self.task.recipe.training.eval_weights == "swa" and self.average and self.average.count:
            return temporarily_load(self.net, self.average.weights)
        return nullcontext()

    def finish(self) -> None:
        """Puts the weights to evaluate into the model, and the others into `other_weights`."""
        self.save()
        training, average = self.task.recipe.training, self.average
        if average is not None:
            swa = training.eval_weights == "swa"
            self.other_weights = ("last", copy_of(self.net)) if swa else ("swa", average.weights)
            if swa:
                self.net.load_state_dict(average.weights)
        if self.task.validation is not None:
            self.use_best()

    def use_best(self) -> None:
        """Puts the weights of the best epoch into the model.

        Raises:
            OSError: the file with these weights is missing or damaged.
        """
        state = checkpoint.load_best(self.task.folder, self.identity, self.task.warn)
        if state is None or state["epoch"] != self.progress.best_epoch:
            raise OSError(f"the weights of epoch {self.progress.best_epoch} are missing")
        self.net.load_state_dict(state["net"])

    def _resume(self) -> None:
        """Resumes from the newest usable checkpoint."""
        warn = self.task.warn
        for state in checkpoint.states(self.task.folder, self.identity, warn):
            if not self._fits(state):
                warn(f"{self.task.key}: a checkpoint does not fit the model; it is not used")
            elif state["progress"]["best_epoch"] and not self._has_best(state):
                warn(f"{self.task.key}: the weights of the best epoch are missing")
            else:
                self._load(state)
                return
        if checkpoint.exists(self.task.folder):
            warn(f"{self.task.key}: no checkpoint can be used; the run starts from the beginning")

    def _fits(self, state: dict[str, Any]) -> bool:
        current, saved = self.net.state_dict(), state["net"]
        shapes = {name: value.shape for name, value in current.items()}
        averaged = state.get("average") is not None
        return (
            shapes == {name: value.shape for name, value in saved.items()}
            and set(state["parts"]) == set(self.stateful)
            and averaged == (self.average is not None)
        )

    def _has_best(self, state: dict[str, Any]) -> bool:
        """Whether the best weights are of this state or of an epoch that will be repeated."""
        best = checkpoint.load_best(self.task.folder, self.identity, self.task.warn)
        known = state["progress"]
        return best is not None and (
            best["epoch"] == known["best_epoch"] or best["epoch"] > known["epoch"]
        )

    def _load(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        for name, part in self.stateful.items():
            part.load_state_dict(state["parts"][name])
        self.progress = validate(Progress, state["progress"])
        if self.average is not None:
            self.average.load(state["average"], self.task.recipe.engine.device)
        if state["losses"] is not None:
            self.losses = list(state["losses"].to(self.task.recipe.engine.device))


def add_clocks(one: dict[str, float], two: dict[str, float]) -> dict[str, float]:
    """Seconds by part, added up."""
    return {name: one.get(name, 0.0) + two.get(name, 0.0) for name in {**one, **two}}
