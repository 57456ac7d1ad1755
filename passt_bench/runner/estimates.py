"""Estimates what a recipe needs before it runs: tokens, parameters, FLOPs, memory and seconds.

For plans, never for conclusions. Models are built on the meta device, so nothing is allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import mean
from typing import Any

import torch

from passt_bench.measure.peaks import vendor_peak
from passt_bench.measure.session import MIN_ROUNDS
from passt_bench.measure.step_work import StepWork, WorkCounter, count_work, mean_work
from passt_bench.measure.target import (
    GPU_SECONDS,
    GPU_STEPS,
    GPU_WARM_STEPS,
    PEAK_STEPS,
    PublishedProtocol,
)
from passt_bench.models import from_recipe, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.spec.recipe import EngineSpec, MeasurementSpec, Pair, Patchout, Recipe
from passt_bench.training.batches import epoch_steps
from passt_bench.training.engine import ModelStep, check_chunks, loss_of
from passt_bench.training.loop import stages

PROCESS_BYTES = 400 * 1024**2  # an idle process with torch
CUDA_BYTES = 600 * 1024**2  # context and libraries of a process on the GPU
CORE_FLOPS_PER_SECOND = 60e9  # approximate, of one CPU core in a measured step on constant input
CELL_FLOPS_PER_SECOND = 32e9  # in a whole run of a small model, which also loads data
GPU_SHARE = 0.3  # fraction of the vendor's peak
UNKNOWN_GPU_FLOPS_PER_SECOND = 10e12  # where no peak is known
CALL_SECONDS = 0.005  # overhead of a step or a forward pass
SESSION_SECONDS = 3.0  # startup of the first process, machine checks
ARM_SECONDS = 1.5  # process, matmul peak, memory
WEIGHT_RATE = 15e6  # weights drawn per second
COMPILE_SECONDS = 60.0
PROFILE_SECONDS = 3.0  # profiled steps and writing them
_WARM_CHUNKS = 3  # two to four


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


@lru_cache(maxsize=512)
def summarize_model(recipe: Recipe, classes: int) -> ModelSummary:
    """Counts parameters, tokens and FLOPs of a recipe's model.

    Raises:
        InputError: the model, its fields or its patchout do not fit the input, or cannot be
            trained in chunks.
    """
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames)
        x = torch.empty(1, 1, recipe.frontend.mels, frames)
        target = torch.empty(1, classes)
    check_chunks(recipe.engine, batch_size(recipe), net)
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
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames).eval()
        x = torch.empty(1, 1, recipe.frontend.mels, frames)
    with WorkCounter() as counter:
        net(x)
    return counter.flops


def expected_seconds(recipe: Recipe, summary: ModelSummary, train: int, test: int) -> float:
    """Approximate seconds of a cell on one CPU core."""
    training = recipe.training
    steps = training.epochs * epoch_steps(training, train)
    work = steps * training.batch_size * summary.flops + test * 3 * summary.flops_inference
    return work / CELL_FLOPS_PER_SECOND + steps * CALL_SECONDS + 1.0


def batch_size(recipe: Recipe) -> int:
    """Number of clips in a measured step."""
    return recipe.measurement.batch_size or recipe.training.batch_size


def estimate_bytes(recipe: Recipe, classes: int) -> int:
    """Memory that an arm needs; a high estimate, in case the C library's heap is fragmented."""
    work = step_work(recipe, classes, batch_size(recipe))
    process = CUDA_BYTES if recipe.engine.device == "cuda" else PROCESS_BYTES
    return process + work.state + work.rise + work.heap


@dataclass(frozen=True)
class CostTime:
    """Expected seconds of measuring."""

    apart: float = 0.0  # of all sessions outside the rounds
    rounds: tuple[float, ...] = ()  # of one round of each session

    @property
    def least(self) -> float:
        """Seconds with the minimum number of rounds."""
        return self.apart + MIN_ROUNDS * sum(self.rounds)

    def limited(self, spec: MeasurementSpec) -> float:
        """Seconds with rounds up to the limits of ``spec``, if ratios stay uncertain."""
        return self.apart + sum(
            min(spec.most_rounds * one, max(MIN_ROUNDS * one, spec.seconds)) for one in self.rounds
        )


def rate(engine: EngineSpec, gpu: str | None) -> float:
    """Expected FLOP/s; ``gpu`` is the driver's name of the GPU."""
    if engine.device != "cuda":
        return CORE_FLOPS_PER_SECOND * engine.threads
    stated = vendor_peak(gpu, engine.precision) if gpu else None
    return GPU_SHARE * stated[0] if stated else UNKNOWN_GPU_FLOPS_PER_SECOND


def cost_time(
    sessions: Sequence[Sequence[Recipe]],
    classes: int,
    spec: MeasurementSpec,
    *,
    gpu: str | None = None,
    published: PublishedProtocol | None = None,
    profile: bool = False,
) -> CostTime:
    """Adds up the expected seconds of the arms of sessions, each a sequence of recipes.

    Raises:
        InputError: a model cannot be built.
    """

    def arm(recipe: Recipe) -> tuple[float, float]:
        """Seconds of one arm outside the rounds, and per round."""
        summary, clips = summarize_model(recipe, classes), batch_size(recipe)
        speed = rate(recipe.engine, gpu)
        cycle = max(1, len(summary.patchout.get("stages", ())))
        step = clips * summary.flops / speed + CALL_SECONDS
        # Inference of a batch, and of one clip.
        infer = (clips + 1) * summary.flops_inference / speed + 2 * CALL_SECONDS
        steps = spec.steps
        if recipe.engine.device != "cpu":
            steps = GPU_WARM_STEPS + max(3, min(GPU_STEPS, round(GPU_SECONDS / (cycle * step))))
        warm = _WARM_CHUNKS * ((spec.warmup_steps + 1) // 2)
        outside = ARM_SECONDS + summary.parameters / WEIGHT_RATE
        outside += (warm + PEAK_STEPS + 1) * cycle * step + (_WARM_CHUNKS + 1) * infer
        if recipe.engine.compile != "off":
            outside += COMPILE_SECONDS
        if published is not None:
            each = published.batch * summary.flops / speed + CALL_SECONDS
            outside += (published.warmup + published.steps) * each
        if profile:
            outside += PROFILE_SECONDS + 3 * cycle * step
        return outside, steps * cycle * step + 2 * infer  # inference runs twice, once untimed

    apart, rounds = 0.0, []
    for recipes in sessions:
        arms = list(map(arm, recipes))
        apart += SESSION_SECONDS + sum(outside for outside, _ in arms)
        rounds.append(sum(turn for _, turn in arms))
    return CostTime(apart, tuple(rounds))


@lru_cache(maxsize=512)
def step_work(recipe: Recipe, classes: int, batch: int) -> StepWork:
    """The work of a training step of ``batch`` clips, eager and without the optimizer.

    On every device it is counted with the operators of a CPU.

    Raises:
        InputError: the model, its fields or its patchout do not fit the input.
    """
    frames, chunks = frame_count(recipe.frontend, recipe.data.seconds), recipe.engine.accumulate
    batch //= chunks
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames)
        x, targets = (
            torch.empty(batch, 1, recipe.frontend.mels, frames),
            torch.empty(batch, classes),
        )
    spec = replace(recipe.engine, device="cpu", compile="off", graph=False)
    step = ModelStep(net, replace(recipe, engine=spec))
    grid = net.grid(frames)
    works = []
    for setting in stages(recipe.patchout, grid) if grid else (recipe.patchout,):
        drawn = net.step_inputs(setting, frames, 0, 0, batch)
        works.append(count_work(net, {"x": x, "targets": targets, **drawn}, step.forward))
    return mean_work(works, chunks)
