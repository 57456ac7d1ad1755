"""Counts what a recipe needs before it runs: tokens, parameters, FLOPs and memory.

For plans, never for conclusions. Models are built on the meta device, so nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from passt_bench.errors import InputError, failure_status
from passt_bench.measure.step_work import StepWork, WorkCounter, count_work, mean_work
from passt_bench.models import AudioModel, from_recipe, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.runner.studies import place_of
from passt_bench.spec.recipe import DataSpec, Pair, Patchout, Recipe, TrainingSpec
from passt_bench.training.batches import total_steps
from passt_bench.training.engine import ModelStep, check_chunks, loss_of
from passt_bench.training.loop import stages

PROCESS_BYTES = 400 * 1024**2  # an idle process with torch
CUDA_BYTES = 600 * 1024**2  # context and libraries of a process on the GPU


@dataclass(frozen=True)
class ModelSummary:
    """Sizes of a model on its real input.

    ``flops`` is a training step (forward and backward) per clip with patchout, and
    ``flops_inference`` a forward pass per clip without it. With a schedule ``tokens`` and ``flops``
    are means over its stages, which are of equal length; ``patchout`` has the full amount, and
    under ``stages`` the patches kept in each stage.
    """

    grid: Pair | None
    tokens: int
    tokens_full: int
    patchout: dict[str, Any]
    parameters: int
    flops: float
    flops_inference: float
    model_shape: tuple[Pair, Pair] | None  # patch and stride, (frequency, time) each


def on_meta(recipe: Recipe, classes: int, clips: int = 1) -> tuple[AudioModel, Tensor, Tensor]:
    """A recipe's model, log-mels (B, 1, F, T) and targets (B, C), which have no values."""
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    with torch.device("meta"):
        x = torch.empty(clips, 1, recipe.frontend.mels, frames)
        return from_recipe(recipe, classes, frames), x, torch.empty(clips, classes)


def summarize_model(recipe: Recipe, classes: int) -> ModelSummary:
    """Counts parameters, tokens and FLOPs of a recipe's model.

    Raises:
        InputError: the model fails, its fields or its patchout do not fit the input, or it cannot
            be trained in chunks.
    """
    with _named(recipe):
        if recipe.engine.accumulate > 1:
            check_chunks(recipe.engine, batch_size(recipe), on_meta(recipe, classes)[0])
        loss = TrainingSpec(loss=recipe.training.loss)
        return _summarize(_counted(recipe, training=loss), classes)


def _counted(recipe: Recipe, **more: Any) -> Recipe:
    """Model and input of a recipe, so that nothing is counted twice for what else studies vary."""
    data = DataSpec(seconds=recipe.data.seconds)
    return Recipe(recipe.model, recipe.patchout, recipe.frontend, data, **more)


@contextmanager
def _named(recipe: Recipe) -> Iterator[None]:
    """Turns any error of a model, which may be a user's own, into an input error."""
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or failure_status(error) == "oom":
            raise
        problem = f"the model failed on a batch: {type(error).__name__}: {error}"
        remedy = f"Fix {place_of(error) or 'it'}; ModelContract tests the rest (docs/adding.md)."
        raise InputError(problem, field="model", value=recipe.model.name, remedy=remedy) from error


@lru_cache(maxsize=512)
def _summarize(recipe: Recipe, classes: int) -> ModelSummary:
    net, x, target = on_meta(recipe, classes)
    frames = x.shape[-1]
    grid = net.grid(frames)
    tokens = tokens_full = 0
    patchout: dict[str, Any] = {}
    settings = stages(recipe.patchout, grid) if grid else (recipe.patchout,)
    if grid is not None:
        patchout = resolve(recipe.patchout, grid).summary()
        kept = [resolve(setting, grid).kept for setting in settings]
        if len(kept) > 1:
            patchout["stages"] = kept
        tokens = round(mean(kept)) + net.special_tokens
        tokens_full = grid[0] * grid[1] + net.special_tokens

    def flops_of(setting: Patchout) -> int:
        drawn = net.step_inputs(setting, frames, 0, 0, 1)
        with WorkCounter() as counter:
            loss_of(recipe.training.loss, net(x, **drawn), target).backward()  # type: ignore[no-untyped-call]
        return counter.flops

    flops = mean(flops_of(setting) for setting in settings)
    return ModelSummary(
        grid=grid,
        tokens=tokens,
        tokens_full=tokens_full,
        patchout=patchout,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        flops=flops,
        flops_inference=_inference_flops(
            Recipe(model=recipe.model, frontend=recipe.frontend, data=recipe.data), classes
        ),
        model_shape=(net.patch, net.stride) if grid is not None else None,
    )


@lru_cache(maxsize=512)
def _inference_flops(recipe: Recipe, classes: int) -> float:
    """FLOPs of a forward pass per clip; the same for all recipes that share model and input."""
    net, x, _ = on_meta(recipe, classes)
    net.eval()
    with WorkCounter() as counter:
        net(x)
    return counter.flops


def run_flops(recipe: Recipe, summary: ModelSummary, train: int, test: int) -> float:
    """FLOPs of a run; those of evaluation three times, for they take longer than in training."""
    training = recipe.training
    clips = total_steps(training, train) * training.batch_size
    return clips * summary.flops + 3 * test * summary.flops_inference


def batch_size(recipe: Recipe) -> int:
    """Number of clips in a measured step."""
    return recipe.measurement.batch_size or recipe.training.batch_size


def estimate_bytes(recipe: Recipe, classes: int) -> int:
    """Memory that an arm needs; a high estimate, in case the C library's heap is fragmented."""
    work = step_work(recipe, classes, batch_size(recipe))
    process = CUDA_BYTES if recipe.engine.device == "cuda" else PROCESS_BYTES
    return process + work.state + work.rise + work.heap


def step_work(recipe: Recipe, classes: int, batch: int) -> StepWork:
    """The work of a training step of ``batch`` clips, eager and without the optimizer.

    On every device it is counted with the operators of a CPU.

    Raises:
        InputError: the model, its fields or its patchout do not fit the input.
    """
    engine = replace(recipe.engine, device="cpu", compile="off", graph=False)
    return _step_work(_counted(recipe, training=recipe.training, engine=engine), classes, batch)


@lru_cache(maxsize=512)
def _step_work(recipe: Recipe, classes: int, batch: int) -> StepWork:
    chunks = recipe.engine.accumulate
    net, x, targets = on_meta(recipe, classes, batch // chunks)
    frames = x.shape[-1]
    step = ModelStep(net, recipe)
    grid = net.grid(frames)
    works = []
    for setting in stages(recipe.patchout, grid) if grid else (recipe.patchout,):
        drawn = net.step_inputs(setting, frames, 0, 0, len(x))
        works.append(count_work(net, {"x": x, "targets": targets, **drawn}, step.forward))
    return mean_work(works, chunks)
