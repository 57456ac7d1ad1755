"""What a search chooses from: kinds and rates of patchout, and the cells that a choice comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

from passt_bench.errors import InputError
from passt_bench.models.patchout import resolve
from passt_bench.records.run import VariantRecord
from passt_bench.registry import PATCHOUTS
from passt_bench.runner.plan import Datasets, PlannedCell, StudyPlan, plan_cell
from passt_bench.spec.override import override
from passt_bench.spec.recipe import Pair, Patchout, Recipe

KINDS = ("unstructured", "time", "frequency", "structured")
STEP = 1 / 8
RATES = tuple(STEP * i for i in range(8))  # at 0 every kind is the same: nothing is dropped


@dataclass(frozen=True)
class Space:
    """A search space over the recipe of a study's baseline.

    Attributes:
        recipe: of the baseline, set to report on the inner split.
        grid: of its patches, (frequency, time).
        rates: those that leave some patches with every kind.
        fold: whose training clips are used; None for a data set with one split.
        seeds: of every trial; none of them is a seed of the study.
    """

    recipe: Recipe
    grid: Pair
    rates: tuple[float, ...]
    fold: int | None
    seeds: tuple[int, ...]

    def patchout(self, kind: str, rate: float) -> Patchout:
        """The setting in exact counts, so that what comes to the same on the grid is the same."""
        return counted(kind, rate, self.grid, self.recipe.patchout)

    def cells(self, kind: str, rate: float, datasets: Datasets) -> tuple[PlannedCell, ...]:
        """The cells of a setting, one a seed."""
        recipe = override(self.recipe, {"patchout": self.patchout(kind, rate)})
        return tuple(
            plan_cell(setting_name(kind, rate), recipe, seed, self.fold, datasets)
            for seed in self.seeds
        )


def setting_name(kind: str, rate: float) -> str:
    """How a setting is called: ``time 0.375``."""
    return f"{kind} {rate:g}" if rate else "none"


def counted(kind: str, rate: float, grid: Pair, like: Patchout | None = None) -> Patchout:
    """A kind and rate as the counts that they come to on a grid, in the scope of another setting.

    Raises:
        InputError: an unknown kind, or a rate that leaves no patches.
    """
    if rate == 0:
        return Patchout()
    resolved = resolve(Patchout(kind, rate=rate), grid)
    dropped = {
        "patches": grid[0] * grid[1] - resolved.kept,
        "frequency": grid[0] - resolved.frequency,
        "time": grid[1] - resolved.time,
    }
    fields = PATCHOUTS.get(kind).build.fields
    counts = {name: count for name, count in dropped.items() if name in fields}
    return replace(
        like or Patchout(),
        kind=kind,
        rate=None,
        patches=counts.get("patches"),
        frequency=counts.get("frequency"),
        time=counts.get("time"),
    )


def space_of(plan: StudyPlan, seeds: int) -> Space:
    """The space of a study.

    Args:
        plan: of the study.
        seeds: how many a trial.

    Raises:
        InputError: the baseline's model has no patches, or too few to drop any.
    """
    baseline = baseline_of(plan)
    if baseline.grid is None:
        raise InputError(
            "the baseline's model has no patches to drop",
            source=plan.study.name,
            field="model.name",
            value=baseline.recipe.model.name,
            remedy="Search over a study whose baseline is a PaSST.",
        )
    grid = baseline.grid
    rates = tuple(takewhile(lambda rate: _leaves_patches(rate, grid), RATES))
    if len(rates) < 2:
        raise InputError(
            f"a grid of {grid[0]} x {grid[1]} patches is too small to drop any with every kind",
            source=plan.study.name,
            field="model",
        )
    first = max(plan.study.seeds) + 1
    return Space(
        recipe=override(baseline.recipe, {"training.select": "inner"}),
        grid=grid,
        rates=rates,
        fold=plan.record.folds[0] if plan.record.folds else None,
        seeds=tuple(range(first, first + seeds)),
    )


def baseline_of(plan: StudyPlan) -> VariantRecord:
    """The baseline, as it was expanded."""
    return next(v for v in plan.record.variants if v.name == plan.record.baseline)


def _leaves_patches(rate: float, grid: Pair) -> bool:
    try:
        for kind in KINDS:
            counted(kind, rate, grid)
    except InputError:
        return False
    return True
