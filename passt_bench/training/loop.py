"""The training loop: fixed steps, AdamW, exact to resume."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.models.patchout import draw_batch
from passt_bench.spec.recipe import EngineSpec, Recipe, TrainingSpec
from passt_bench.training import checkpoint
from passt_bench.training.batches import augment, batch_indices, steps_per_epoch
from passt_bench.training.schedule import learning_rate

_CHECKPOINT_SECONDS = 20.0


class Diverged(RuntimeError):
    """The loss is no longer finite."""


@dataclass
class Task:
    """What is trained on: features (clips, mels, frames), targets, and the training clips."""

    key: str
    recipe: Recipe
    seed: int
    features: np.ndarray
    targets: np.ndarray
    train: np.ndarray
    folder: Path


@dataclass
class Progress:
    """What a training has done so far; a checkpoint holds all of it."""

    epoch: int = 0
    train_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    step_seconds: list[float] = field(default_factory=list)  # one mean an epoch


def loss_of(kind: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy over all labels, or cross-entropy with (mixed) one-hot targets."""
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, targets)
    return F.cross_entropy(logits, targets)


def set_up(engine: EngineSpec) -> None:
    """Threads and determinism of a process that trains, measured or not."""
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(engine.device == "cpu")
    # A debugging aid that comes with it, and slow.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def make_optimizer(net: nn.Module, training: TrainingSpec) -> torch.optim.Optimizer:
    """AdamW over all parameters, as one fused operation."""
    return torch.optim.AdamW(
        net.parameters(),
        lr=training.learning_rate,
        weight_decay=training.weight_decay,
        fused=True,
    )


def train(
    net: nn.Module, task: Task, on_epoch: Callable[[Progress], None] = lambda progress: None
) -> Progress:
    """Trains a model, from its last checkpoint where there is one.

    Args:
        net: on the recipe's device, with initial weights.
        task: data and recipe.
        on_epoch: called after each epoch.

    Raises:
        Diverged: a loss was NaN or infinite; the message names epoch and value.
    """
    training = task.recipe.training
    optimizer = make_optimizer(net, training)
    progress = _resume(net, optimizer, task)
    saved = time.monotonic()
    while progress.epoch < training.epochs:
        _epoch(net, optimizer, task, progress)
        on_epoch(progress)
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            _save(net, optimizer, task, progress)
            saved = time.monotonic()
    return progress


def _epoch(
    net: nn.Module, optimizer: torch.optim.Optimizer, task: Task, progress: Progress
) -> None:
    training = task.recipe.training
    steps = steps_per_epoch(len(task.train), training.batch_size)
    wall, cpu = time.perf_counter(), time.process_time()
    net.train()
    losses = []
    for step in range(progress.epoch * steps, (progress.epoch + 1) * steps):
        rate = learning_rate(step, training.epochs * steps, training.learning_rate, training.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses.append(_step(net, optimizer, task, step))
    mean = float(torch.stack(losses).mean())
    progress.epoch += 1
    if not np.isfinite(mean):
        raise Diverged(f"the loss is {mean} in epoch {progress.epoch} of {training.epochs}")
    elapsed = time.perf_counter() - wall
    progress.train_loss.append(mean)
    progress.learning_rate.append(rate)
    progress.seconds += elapsed
    progress.cpu_seconds += time.process_time() - cpu
    progress.step_seconds.append(elapsed / steps)


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, task: Task, step: int) -> torch.Tensor:
    """One step; returns the loss without waiting for the device."""
    recipe, device = task.recipe, task.recipe.engine.device
    clips = batch_indices(task.train, recipe.training.batch_size, step, task.seed, recipe.salt)
    x, targets = augment(
        task.features[clips], task.targets[clips], recipe.training, step, task.seed, recipe.salt
    )
    grid = net.grid(x.shape[3])  # type: ignore[operator]
    kept = draw_batch(recipe.patchout, grid, task.seed, step, len(x)) if grid else None
    with torch.autocast(
        device, dtype=torch.bfloat16, enabled=recipe.engine.precision == "bfloat16"
    ):
        logits = net(x.to(device), kept)
    loss = loss_of(recipe.training.loss, logits.float(), targets.to(device))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def _save(net: nn.Module, optimizer: torch.optim.Optimizer, task: Task, progress: Progress) -> None:
    state = {
        "key": task.key,
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
    }
    checkpoint.save(task.folder, state)


def _resume(net: nn.Module, optimizer: torch.optim.Optimizer, task: Task) -> Progress:
    state: dict[str, Any] | None = checkpoint.load(task.folder, task.key)
    if state is None:
        return Progress()
    net.load_state_dict(state["net"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])
