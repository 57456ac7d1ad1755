"""The training loop (fixed steps, AdamW, exact resume), its schedules, and its checks of a recipe.

Schedules are pure functions of the step, so that a resumed run continues exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import fields, replace

import numpy as np
import torch

from passt_bench.data.targets import Targets
from passt_bench.models.base import AudioModel
from passt_bench.models.patchout import random_stream, scaled
from passt_bench.registry import METRICS, MODELS
from passt_bench.spec.recipe import EngineSpec, Pair, Patchout, Recipe, TrainingSpec
from passt_bench.training import batches
from passt_bench.training.engine import (
    Engine,
    ModelStep,
    StepGraph,
    check_chunks,
    check_engine,
    loss_of,
)
from passt_bench.training.evaluate import predict
from passt_bench.training.features import keep_on_device
from passt_bench.training.metrics import score
from passt_bench.training.state import Progress, Task, Training, snapshot_epochs

LEAST_STEPS = 100  # of a training whose number of steps is given
_ROWS = 1 << 16  # clips whose labels are checked at a time
_TORCH = 0x70C4  # keeps this random stream apart from others with the same seed


def set_up(engine: EngineSpec) -> None:
    """Sets thread count and determinism, for training and cost sessions."""
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(engine.device == "cpu")
    # Deterministic mode also fills uninitialized memory: slow, and only for debugging.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def learning_rate_at(training: TrainingSpec, step: int, steps: int, per_epoch: int) -> float:
    """The learning rate of a training step, counted from 0, of so many.

    Either `ramp`, or a linear warm-up in a share of the steps and then a cosine to zero.
    """
    peak = training.learning_rate
    if training.schedule == "ramp":
        return peak * ramp(training, step // per_epoch)
    rising = round(training.warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def ramp(training: TrainingSpec, epoch: int) -> float:
    """Factor of the peak learning rate in an epoch: exponential warm-up, then linear decay.

    ``helpers/ramp.py`` of the reference code. The warm-up is exp(-5 (1 - e / r)²) with e at least
    0.5: for r = 5 epochs .0174, .0408, .165, .449, .819, and 1 from then on.
    """
    factor = 1.0
    if epoch < training.ramp_epochs:
        factor = math.exp(-5 * (1 - max(epoch, 0.5) / training.ramp_epochs) ** 2)
    fallen = min(1.0, max(0, epoch - training.decay_start) / training.decay_epochs)
    return factor * (1 - fallen * (1 - training.min_lr_ratio))


def stages(setting: Patchout, grid: Pair) -> tuple[Patchout, ...]:
    """The constant settings of a schedule's stages, in order; one if it is constant.

    The amounts are evenly spaced from no patchout to the setting itself. The number of patches is
    constant within a stage, so each stage is compiled once.
    """
    if setting.schedule == "constant":
        return (setting,)
    full = replace(setting, schedule="constant", stages=Patchout.stages)
    last = setting.stages - 1
    between = (scaled(full, number / last, grid) for number in range(1, last))
    rising = (Patchout(), *between, full)
    return rising if setting.schedule == "rising" else rising[::-1]


def at_stage(setting: Patchout, grid: Pair, step: int, steps: int) -> Patchout:
    """The constant setting of a step of a run; stages are equal shares, to within a step."""
    settings = stages(setting, grid)
    return settings[step * len(settings) // steps]


def train(
    net: AudioModel, task: Task, on_epoch: Callable[[Progress], None] = lambda progress: None
) -> Training:
    """Trains a model, from its last checkpoint if there is one, and writes one at the end.

    The model must be on the recipe's device, with initial weights; afterwards it holds the weights
    to test.

    Raises:
        Diverged: a loss was NaN or infinite; the message names epoch and value.
    """
    recipe, step = task.recipe, ModelStep(net, task.recipe)
    engine, device = step.engine, recipe.engine.device
    features, cuda = keep_on_device(task.features, device), device == "cuda"
    stored = features if isinstance(features, torch.Tensor) else None
    # Log-mels that are not made but only augmented have the same bits on every device.
    late = recipe.engine.frontend == "device" or (cuda and isinstance(task.features, np.ndarray))
    data = features, task.targets, task.train, recipe, task.seed
    source = batches.Batches(*data, read_only=late)
    finish = batches.LogMels(recipe, device, stored)
    state = Training(net, step, task)
    progress, steps, total = state.progress, source.steps, task.total_steps
    run_step = StepGraph(step.run) if recipe.engine.graph else step.run
    remaining = range(progress.epoch * steps + progress.step, total)
    workers = recipe.engine.num_workers if stored is None else 0
    with closing(batches.load(source, remaining, workers, cuda)) as made:
        while progress.epoch < task.epochs:
            net.train()
            state.begin_epoch()
            first = progress.epoch * steps
            for number in range(first + progress.step, min(first + steps, total)):
                step.set_learning_rate(learning_rate_at(recipe.training, number, total, steps))
                batch = engine.send(next(made))
                drawn = engine.send(_draw(net, task, number, source.size))
                state.count_step(run_step({**(finish(batch) if late else batch), **drawn}))
                engine.keep_pace()
            state.end_epoch(step.learning_rate)
            if task.validation is not None:
                _validate(state, task.validation)
            on_epoch(progress)
    state.finish()
    return state


def _draw(net: AudioModel, task: Task, step: int, clips: int) -> dict[str, torch.Tensor | None]:
    """The random inputs of the model in a training step of so many clips.

    Seeds torch's generators, which dropout uses, as a function of seed and step.
    """
    setting, frames = task.recipe.patchout, task.features.shape[2]
    grid = net.grid(frames)
    if grid:
        setting = at_stage(setting, grid, step, task.total_steps)
    drawn = net.step_inputs(setting, frames, task.seed, step, clips)
    value = int(random_stream(_TORCH, task.seed, step).integers(2**63))
    torch.default_generator.manual_seed(value)
    if task.recipe.engine.device == "cuda":
        torch.cuda.manual_seed(value)
    return drawn


def _validate(state: Training, clips: np.ndarray) -> None:
    """Evaluates on the validation split; keeps the weights if the epoch is the best so far.

    Few clips give few values of a metric: of equal ones the lower loss counts, then the later one.
    """
    task, progress, since = state.task, state.progress, time.perf_counter()
    name = task.recipe.metrics[0]
    with state.with_evaluation_weights():
        scores = predict(state.net, task.features, clips, Engine(task.recipe.engine))
        targets = task.targets[clips]
        value, _ = score(name, targets, scores)
        sign = -1 if METRICS.get(name).build.better == "less" else 1
        best = max((sign * old for old in progress.validation), default=-np.inf)
        given = torch.from_numpy(scores), torch.from_numpy(targets)
        loss = float(loss_of(task.recipe.training.loss, *given))
        if task.keeps_best and (sign * value, -loss) >= (best, -progress.best_loss):
            progress.best_epoch, progress.best_loss = progress.epoch, loss
            state.save_best()
    progress.validation.append(value)
    elapsed = time.perf_counter() - since
    task.clocks["select"] = task.clocks.get("select", 0.0) + elapsed


def check_settings(recipe: Recipe, clips: int) -> None:
    """Raises InputError if the settings of a run do not fit each other or the training clips."""
    training, patchout = recipe.training, recipe.patchout
    check_engine(recipe.engine)
    options = MODELS.get(recipe.model.name).build.Options
    if training.layer_decay != 1 and "depth" not in {item.name for item in fields(options)}:
        problem = f"{recipe.model.name} has no transformer blocks"
        raise recipe.error("training.layer_decay", problem, "Leave it out.")
    if training.swa_start is not None and not snapshot_epochs(training):
        problem = f"must be at most {training.epochs - 1}, because epochs count from 0"
        remedy = "Start averaging earlier, or train for longer."
        raise recipe.error("training.swa_start", problem, remedy)
    if training.swa_start is None and training.eval_weights == "swa":
        problem = "averaged weights are to be evaluated, but training.swa_start is not set"
        remedy = "Set training.swa_start to an epoch, or training.eval_weights to 'last'."
        raise recipe.error("training.eval_weights", problem, remedy)
    wanted = training.epoch_clips
    if wanted is not None and training.sampling != "weighted":
        problem = "without weighted sampling an epoch contains every clip once"
        remedy = "Leave it out, or set training.sampling to 'weighted'."
        raise recipe.error("training.epoch_clips", problem, remedy)
    if wanted is not None and wanted > clips:
        problem = f"more clips than the {clips} to train on; none is drawn twice in an epoch"
        remedy = f"Give at most {clips}, or leave it out for all."
        raise recipe.error("training.epoch_clips", problem, remedy)
    if training.clips is not None and training.clips > clips:
        problem = f"more clips than the {clips} to train on"
        raise recipe.error("training.clips", problem, "Leave it out for all.")
    check_chunks(recipe.engine, min(training.batch_size, wanted or training.clips or clips))
    steps = batches.total_steps(training, clips)
    fewest = max(LEAST_STEPS, batches.epoch_steps(training, clips))
    if training.steps is not None and steps < fewest:
        problem = f"fewer than an epoch or {LEAST_STEPS} steps; here that is {fewest}"
        remedy = "Give a larger budget, or the baseline more epochs."
        raise recipe.error("training.steps", problem, remedy)
    by_epoch = training.schedule == "ramp" or training.swa_start is not None
    if training.steps is not None and by_epoch:
        problem = (
            "the ramp and averaged weights count epochs, which a number of steps may cut short"
        )
        remedy = "Use the cosine schedule without training.swa_start, or leave it out."
        raise recipe.error("training.steps", problem, remedy)
    if patchout.schedule != "constant" and steps < patchout.stages:
        problem = f"the training has {steps} steps, fewer than the number of stages"
        raise recipe.error("patchout.stages", problem, "Train for longer, or use fewer stages.")
    if recipe.data.crop == "random" and recipe.data.storage == "prepared":
        problem = "random crops of longer clips cannot be prepared"
        remedy = "Use 'auto' or 'streamed'; `passt-bench data prepare` makes reading fast."
        raise recipe.error("data.storage", problem, remedy)


def check_labels(recipe: Recipe, targets: Targets, train: np.ndarray) -> None:
    """Raises InputError if the labels of the clips at ``train`` do not fit the recipe."""
    training = recipe.training
    if not len(train):
        remedy = "Add the training split to the data folder; `passt-bench evaluate` needs none."
        raise recipe.error("data.name", "no clip to train on", remedy)
    if training.loss == "ce" and targets.shape[1] < 2:
        remedy = "Give data of two classes or more."
        raise recipe.error("data.name", "fewer than two classes", remedy)
    blocks = (train[at : at + _ROWS] for at in range(0, len(train), _ROWS))
    if training.loss == "ce" and any((targets[block].sum(axis=1) != 1).any() for block in blocks):
        problem = "some clips have several classes, or none"
        raise recipe.error("training.loss", problem, "Use 'bce': --set training.loss=bce")
    if training.sampling == "weighted":
        batches.clip_weights(targets, train)
    unknown = isinstance(targets, np.ndarray) and bool(np.isnan(targets[train]).any())
    if unknown and training.loss != "masked_bce":
        problem = "some labels of the data are unknown"
        raise recipe.error("training.loss", problem, "Use 'masked_bce', which skips them.")
