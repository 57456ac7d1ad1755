"""The training loop: fixed steps, AdamW, exact to resume."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.models.frontend import mask_fill
from passt_bench.registry import METRICS
from passt_bench.spec.recipe import EngineSpec, Pair, TrainingSpec
from passt_bench.training.batches import augment, batch_indices, steps_per_epoch
from passt_bench.training.diverged import Diverged
from passt_bench.training.draws import draw_step, seed_torch
from passt_bench.training.engine import autocast, callable_of, make_scaler
from passt_bench.training.evaluate import predict
from passt_bench.training.features import training_features
from passt_bench.training.schedule import at_stage, learning_rate
from passt_bench.training.state import Progress, Task, Training


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
    """Trains a model, from its last checkpoint where there is one, and leaves one behind.

    Args:
        net: on the recipe's device, with initial weights.
        task: data and recipe.
        on_epoch: called after each epoch.

    Raises:
        Diverged: a loss was NaN or infinite; the message names epoch and value.
    """
    training = task.recipe.training
    optimizer = make_optimizer(net, training)
    scaler = make_scaler(task.recipe.engine)
    parts = {"optimizer": optimizer} | ({"scaler": scaler} if scaler.is_enabled() else {})
    state = Training(net, parts, task)
    step = Step(net, optimizer, scaler, task)
    while state.progress.epoch < training.epochs:
        _epoch(state, step)
        on_epoch(state.progress)
    state.save()
    if task.inner is not None:
        state.use_best()
    return state.progress


def _epoch(state: Training, take: Step) -> None:
    """The rest of an epoch, from wherever its last checkpoint was written."""
    task, progress, training = state.task, state.progress, state.task.recipe.training
    steps = steps_per_epoch(len(task.train), training.batch_size)
    state.net.train()
    state.start()
    for step in range(progress.epoch * steps + progress.step, (progress.epoch + 1) * steps):
        rate = learning_rate(step, training.epochs * steps, training.learning_rate, training.warmup)
        for group in take.optimizer.param_groups:
            group["lr"] = rate
        state.stepped(take(step))
    mean = float(torch.stack(state.losses).mean())
    if not np.isfinite(mean):
        raise Diverged(f"the loss is {mean} in epoch {progress.epoch + 1} of {training.epochs}")
    state.stop()
    state.losses = []
    progress.epoch, progress.step = progress.epoch + 1, 0
    progress.train_loss.append(mean)
    progress.learning_rate.append(take.optimizer.param_groups[0]["lr"])
    progress.step_seconds.append(progress.epoch_seconds / steps)
    progress.epoch_seconds = 0.0
    if task.inner is not None:
        _look_inside(state, task.inner)


def _look_inside(state: Training, inner: np.ndarray) -> None:
    """Evaluates on the inner split and keeps the weights if no epoch before was as good."""
    task, progress, since = state.task, state.progress, time.perf_counter()
    recipe = task.recipe
    scores = predict(state.net, task.features, inner, device=recipe.engine.device)
    value, _ = METRICS.get(recipe.metrics[0]).build(task.targets[inner], scores)
    if value > max(progress.inner, default=-np.inf):
        progress.best_epoch = progress.epoch
        state.save_best()
    progress.inner.append(value)
    elapsed = time.perf_counter() - since
    task.clocks["select"] = task.clocks.get("select", 0.0) + elapsed


def total_steps(task: Task) -> int:
    """Steps of the whole training."""
    training = task.recipe.training
    return training.epochs * steps_per_epoch(len(task.train), training.batch_size)


class Step:
    """A training step: batch, augmentation, patchout, forward, backward, optimizer.

    Args:
        net: the model.
        optimizer: of its parameters.
        scaler: of the loss, see `engine.make_scaler`.
        task: data and recipe.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        task: Task,
    ) -> None:
        self.net, self.optimizer, self.scaler, self.task = net, optimizer, scaler, task
        self._call = callable_of(net, task.recipe.engine)

    def __call__(self, step: int) -> torch.Tensor:
        """Takes one step; returns the loss without waiting for the device."""
        task, recipe = self.task, self.task.recipe
        x, targets = self._batch(step)
        grid: Pair | None = self.net.grid(x.shape[3])  # type: ignore[operator]
        setting = recipe.patchout
        if grid:
            setting = at_stage(setting, grid, step, total_steps(task))
        drawn = draw_step(self.net, setting, x.shape[3], task.seed, step, len(x))
        seed_torch(recipe.engine.device, task.seed, step)
        with autocast(recipe.engine):
            logits = self._call(x.to(recipe.engine.device), **drawn)
        targets = targets.to(recipe.engine.device)
        loss = loss_of(recipe.training.loss, logits.float(), targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented log-mels and targets of a step."""
        task, recipe = self.task, self.task.recipe
        clips = batch_indices(task.train, recipe.training.batch_size, step, task.seed, recipe.salt)
        return augment(
            training_features(task.features, clips, task.seed, recipe.salt, step),
            task.targets[clips],
            recipe.training,
            step,
            task.seed,
            recipe.salt,
            mask_fill(recipe.frontend),
        )
