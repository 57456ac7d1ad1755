"""The training loop (fixed steps, AdamW, exact resume), and its checks of recipe and data."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from passt_bench.data.targets import Targets
from passt_bench.errors import InputError
from passt_bench.models.base import AudioModel
from passt_bench.models.patchout import philox
from passt_bench.registry import METRICS
from passt_bench.spec.recipe import EngineSpec, Recipe
from passt_bench.training.batches import (
    Arrays,
    Sampler,
    Supply,
    check_sampling,
    clip_weights,
    epoch_steps,
    loading,
)
from passt_bench.training.engine import Engine, ModelStep, StepGraph, check_engine, set_rate
from passt_bench.training.evaluate import predict
from passt_bench.training.loss import Diverged
from passt_bench.training.metrics import score
from passt_bench.training.schedule import at_stage, rate_at
from passt_bench.training.state import Progress, Task, Training, check_averaging

_TORCH = 0x70C4  # keeps this random stream apart from others with the same seed


def set_up(engine: EngineSpec) -> None:
    """Threads and determinism of a process that trains, measured or not."""
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(engine.device == "cpu")
    # A slow debugging aid that comes with it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _seed_torch(device: str, seed: int, step: int) -> None:
    """Seeds torch's generators, which dropout uses, as a function of seed and step."""
    value = int(philox(_TORCH, seed, step).integers(2**63))
    torch.default_generator.manual_seed(value)
    if device == "cuda":
        torch.cuda.manual_seed(value)


def train(
    net: AudioModel, task: Task, on_epoch: Callable[[Progress], None] = lambda progress: None
) -> Progress:
    """Trains a model, see `run_training`; it then holds the weights to test."""
    return run_training(net, task, on_epoch).progress


def run_training(
    net: AudioModel, task: Task, on_epoch: Callable[[Progress], None] = lambda progress: None
) -> Training:
    """Trains a model, from its last checkpoint if there is one, and writes one at the end.

    Args:
        net: model on the recipe's device, with initial weights.
        task: data and recipe.
        on_epoch: called after each epoch.

    Returns:
        The state at the end; the model holds the weights to test.

    Raises:
        Diverged: a loss was NaN or infinite; the message names epoch and value.
        InputError: sampling or averaging do not fit the clips or epochs.
    """
    recipe, step = task.recipe, ModelStep(net, task.recipe)
    stateful: dict[str, Any] = {"optimizer": step.optimizer}
    stateful |= {"scaler": step.scaler} if step.scaler.is_enabled() else {}
    sampler = Sampler(recipe.training, task.targets, task.train, task.seed, recipe.salt)
    state = Training(net, stateful, task)
    progress, steps = state.progress, sampler.steps
    run_step = StepGraph(step.take) if recipe.engine.graph else step.take
    supply = Supply(task.features, task.targets, sampler, recipe, task.seed)
    remaining = range(progress.epoch * steps + progress.step, recipe.training.epochs * steps)
    with loading(supply, remaining, recipe.engine.num_workers) as batches:
        while progress.epoch < recipe.training.epochs:
            net.train()
            state.begin_epoch()
            for number in range(
                progress.epoch * steps + progress.step, (progress.epoch + 1) * steps
            ):
                set_rate(step.optimizer, rate_at(recipe.training, number, steps))
                inputs = _inputs(net, task, number, recipe.training.epochs * steps, next(batches))
                state.stepped(run_step(step.engine.send(inputs)))
            _end_epoch(state, steps, float(step.optimizer.param_groups[0]["lr"]))
            if task.validation is not None:
                _validate(state, task.validation)
            on_epoch(progress)
    state.finish()
    return state


def _inputs(
    net: AudioModel, task: Task, step: int, total: int, batch: Arrays
) -> dict[str, torch.Tensor | None]:
    """The inputs of a training step: a batch, and the random inputs of the model."""
    x, targets = map(torch.from_numpy, batch)
    grid = net.grid(x.shape[3])
    setting = task.recipe.patchout
    if grid:
        setting = at_stage(setting, grid, step, total)
    extra = net.step_inputs(setting, x.shape[3], task.seed, step, len(x))
    _seed_torch(task.recipe.engine.device, task.seed, step)
    return {"x": x, "targets": targets, **extra}


def _end_epoch(state: Training, steps: int, rate: float) -> None:
    """Records an epoch after its last step."""
    progress, epochs = state.progress, state.task.recipe.training.epochs
    mean = float(torch.stack(state.losses).mean())
    if not np.isfinite(mean):
        raise Diverged(f"the loss is {mean} in epoch {progress.epoch + 1} of {epochs}")
    state.stop()
    state.losses = []
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.train_loss.append(mean)
    progress.learning_rate.append(rate)
    progress.step_seconds.append(progress.epoch_seconds / steps)
    progress.epoch_seconds = 0.0


def _validate(state: Training, clips: np.ndarray) -> None:
    """Evaluates on the validation split; keeps the weights if the epoch is the best so far."""
    task, progress, since = state.task, state.progress, time.perf_counter()
    name = task.recipe.metrics[0]
    with state.evaluated():
        scores = predict(state.net, task.features, clips, Engine(task.recipe.engine))
        value, _ = score(name, task.targets[clips], scores)
        sign = -1 if METRICS.get(name).build.better == "less" else 1
        if sign * value > max((sign * before for before in progress.validation), default=-np.inf):
            progress.best_epoch = progress.epoch
            state.save_best()
    progress.validation.append(value)
    elapsed = time.perf_counter() - since
    task.clocks["select"] = task.clocks.get("select", 0.0) + elapsed


def total_steps(task: Task) -> int:
    """Steps of the whole training."""
    training = task.recipe.training
    return training.epochs * epoch_steps(training, len(task.train))


_ROWS = 1 << 16  # clips whose labels are checked at a time


def check_training(recipe: Recipe, targets: Targets, train: np.ndarray) -> None:
    """Raises InputError if recipe and data do not fit.

    Args:
        recipe: recipe of a run.
        targets: labels of all clips.
        train: indices of the training clips.

    Raises:
        InputError: names the field.
    """
    training = recipe.training
    if not len(train):
        raise InputError(
            "no clip to train on",
            field="data.name",
            value=recipe.data.name,
            remedy="Add the training split to the data folder; `passt-bench evaluate` needs none.",
        )
    if training.loss == "ce" and not _one_class(targets, train):
        raise InputError(
            "some clips have several classes, or none",
            field="training.loss",
            value="ce",
            remedy="Use 'bce'.",
        )
    check_engine(recipe.engine)
    check_averaging(training)
    check_sampling(training, len(train))
    if training.sampling == "weighted":
        clip_weights(targets, train)
    if recipe.data.crop == "random" and recipe.data.storage == "prepared":
        raise InputError(
            "random crops of longer clips cannot be prepared",
            field="data.storage",
            value="prepared",
            remedy="Use 'auto' or 'streamed'; `passt-bench data prepare` makes reading fast.",
        )
    unknown = isinstance(targets, np.ndarray) and bool(np.isnan(targets[train]).any())
    if unknown and training.loss != "masked_bce":
        raise InputError(
            "some labels of the data are unknown",
            field="training.loss",
            value=training.loss,
            remedy="Use 'masked_bce', which skips them.",
        )


def _one_class(targets: Targets, clips: np.ndarray) -> bool:
    blocks = (clips[at : at + _ROWS] for at in range(0, len(clips), _ROWS))
    return all(bool((targets[block].sum(axis=1) == 1).all()) for block in blocks)
