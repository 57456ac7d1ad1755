"""How long measuring costs will take, from FLOPs: for plans, never for conclusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from passt_bench.measure.flops import stated_peak
from passt_bench.measure.session import LEAST_ROUNDS
from passt_bench.measure.target import (
    GPU_SECONDS,
    GPU_STEPS,
    GPU_WARM_STEPS,
    PEAK_STEPS,
    PublishedProtocol,
)
from passt_bench.runner.benchmark_target import batch_size
from passt_bench.runner.model_summary import summarise_model
from passt_bench.spec.recipe import EngineSpec, MeasurementSpec, Recipe

CORE_RATE = 60e9  # FLOP/s of models on one CPU core, about
GPU_SHARE = 0.3  # of its vendor's stated peak
UNKNOWN_GPU_RATE = 10e12  # FLOP/s where no peak is known
CALL_SECONDS = 0.005  # a step or a forward pass beyond its FLOPs
SESSION_SECONDS = 3.0  # the first process, looks at the machine
ARM_SECONDS = 1.5  # a process, the matmul peak, memory
WEIGHT_RATE = 15e6  # weights that are drawn in a second
COMPILE_SECONDS = 60.0
PROFILE_SECONDS = 3.0  # profiled steps and writing them
_WARM_BLOCKS = 3  # two to four


@dataclass(frozen=True)
class Foreseen:
    """What measuring will take, in seconds, about.

    Attributes:
        apart: everything but the rounds, all sessions together: building, warm-up, memory, and
            what follows the rounds.
        rounds: of each session, one of its rounds.
    """

    apart: float = 0.0
    rounds: tuple[float, ...] = ()

    @property
    def least(self) -> float:
        """With the fewest rounds that give an interval."""
        return self.apart + LEAST_ROUNDS * sum(self.rounds)

    def limited(self, spec: MeasurementSpec) -> float:
        """With rounds up to the limits of ``spec``: what it takes if ratios stay uncertain."""
        return self.apart + sum(
            min(spec.most_rounds * one, max(LEAST_ROUNDS * one, spec.seconds))
            for one in self.rounds
        )


def rate(engine: EngineSpec, gpu: str | None) -> float:
    """FLOP/s to expect.

    Args:
        engine: device, threads and precision.
        gpu: the driver's name of the GPU; None where there is none.
    """
    if engine.device != "cuda":
        return CORE_RATE * engine.threads
    stated = stated_peak(gpu, engine.precision) if gpu else None
    return GPU_SHARE * stated[0] if stated else UNKNOWN_GPU_RATE


def foresee(
    sessions: Sequence[Sequence[Recipe]],
    classes: int,
    spec: MeasurementSpec,
    *,
    gpu: str | None = None,
    published: PublishedProtocol | None = None,
    profile: bool = False,
) -> Foreseen:
    """Adds up what the arms of sessions take.

    Args:
        sessions: the recipes of each.
        classes: outputs of the models.
        spec: steps of a round and of the warm-up.
        gpu: see `rate`.
        published: sizes of the published speed test, where it follows.
        profile: whether every arm is profiled.

    Raises:
        InputError: a recipe that cannot be built.
    """
    apart, rounds = 0.0, []
    for recipes in sessions:
        arms = [_arm(recipe, classes, spec, gpu, published, profile) for recipe in recipes]
        apart += SESSION_SECONDS + sum(outside for outside, _ in arms)
        rounds.append(sum(turn for _, turn in arms))
    return Foreseen(apart, tuple(rounds))


def _steps_of_turn(spec: MeasurementSpec, recipe: Recipe, step: float) -> int:
    if recipe.engine.device == "cpu":
        return spec.steps
    return GPU_WARM_STEPS + max(3, min(GPU_STEPS, round(GPU_SECONDS / step)))


def _arm(
    recipe: Recipe,
    classes: int,
    spec: MeasurementSpec,
    gpu: str | None,
    published: PublishedProtocol | None,
    profile: bool,
) -> tuple[float, float]:
    """Seconds of one arm outside the rounds, and of its turn in a round."""
    facts, clips = summarise_model(recipe, classes), batch_size(recipe)
    speed = rate(recipe.engine, gpu)
    cycle = max(1, len(facts.patchout.get("stages", ())))
    step = clips * facts.flops / speed + CALL_SECONDS
    infer = (clips + 1) * facts.flops_inference / speed + 2 * CALL_SECONDS  # a batch and one clip
    # Each turn runs inference twice, once untimed.
    turn = _steps_of_turn(spec, recipe, cycle * step) * cycle * step + 2 * infer
    warm = _WARM_BLOCKS * ((spec.warmup_steps + 1) // 2)
    apart = ARM_SECONDS + facts.parameters / WEIGHT_RATE
    apart += (warm + PEAK_STEPS + 1) * cycle * step + (_WARM_BLOCKS + 1) * infer
    if recipe.engine.compile:
        apart += COMPILE_SECONDS
    if published is not None:
        steps = published.warmup + published.steps
        apart += steps * (published.batch * facts.flops / speed + CALL_SECONDS)
    if profile:
        apart += PROFILE_SECONDS + 3 * cycle * step
    return apart, turn
