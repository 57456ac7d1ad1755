"""Tries values for the variants of a study before it, each with the same effort, and chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from passt_bench.errors import located
from passt_bench.records.run import CellRecord, TriedRecord, count_of
from passt_bench.records.store import Store
from passt_bench.registry import METRICS
from passt_bench.runner.budget import with_budget
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import TUNING_SEED, Study, Variant, override
from passt_bench.training.batches import total_steps
from passt_bench.training.loop import LEAST_STEPS


def plan_tuning(
    study: Study,
    variants: Iterable[Variant],
    datasets: Datasets,
    fold: int | None,
    clips: int,
    classes: int,
    ratios: Mapping[str, float] | None = None,
) -> tuple[list[TriedRecord], list[PlannedCell]]:
    """What a study tries for some of its variants, with the values on record, and the cells.

    Variants of the same recipe, whose budgets may differ, are tuned together. The arguments are
    those of `with_budget`; the clips are those of a run of the study in this fold.
    """
    tune = study.tune
    if tune is None:
        return [], []
    groups: dict[Recipe, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(study.recipe(variant), []).append(variant)
    store, tried, cells = Store(datasets.paths.runs), list[TriedRecord](), list[PlannedCell]()
    for members in groups.values():
        for changes in tune.combinations():
            own = {**members[0].changes, **changes}
            first = replace(members[0], changes=own, budget=tune.budget, shares=None)
            with located(study.place(first.name)):
                recipe = on_validation(with_budget(study, first, clips, classes, ratios), clips)
                seeds = range(TUNING_SEED, TUNING_SEED + tune.seeds)
                runs = [plan_cell(first.name, recipe, seed, fold, datasets) for seed in seeds]
            cells += runs
            names = tuple(variant.name for variant in members)
            keys = tuple(CellRecord(cell.key, cell.seed, cell.fold) for cell in runs)
            tried.append(TriedRecord(names, changes, keys, _value(study.metric, keys, store)))
    ended = all(store.has(cell.key) for cell in cells)
    return (_choose(study, tried) if ended else tried), cells


def on_validation(recipe: Recipe, clips: int) -> Recipe:
    """The recipe with a validation split, and as many steps as on all of so many clips."""
    steps, training = total_steps(recipe.training, clips), recipe.training
    by_epoch = training.schedule == "ramp" or training.swa_start is not None
    same = {"training.steps": steps} if steps >= LEAST_STEPS and not by_epoch else {}
    return override(recipe, {"training.checkpoint_selection": "validation", **same})


def _value(metric: str, cells: Iterable[CellRecord], store: Store) -> float | None:
    """The mean over the runs of a combination; None if one is missing or failed."""
    runs = [store.run(cell.key) for cell in cells]
    values = [run.metrics.get(metric) for run in runs if run is not None and run.status == "ok"]
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(runs) else None


def _choose(study: Study, tried: Sequence[TriedRecord]) -> list[TriedRecord]:
    """Marks the best combination for each group of variants, the first of equal ones.

    Raises:
        InputError: nothing that was tried for some variants has a value.
    """
    sign = 1 if METRICS.get(study.metric).build.better == "greater" else -1
    valued = [item for item in tried if item.value is not None]
    best: dict[tuple[str, ...], TriedRecord] = {}
    for item in sorted(valued, key=lambda item: -sign * (item.value or 0.0)):
        best.setdefault(item.variants, item)
    for item in tried:
        if item.variants not in best:
            problem = "all values that were tried for these variants failed"
            remedy = "See why with `passt-bench status`, or give other levels; --retry tries again."
            raise study.error(problem, "tune.levels", list(item.variants), remedy)
    return [replace(item, chosen=item is best[item.variants]) for item in tried]


def with_choices(study: Study, tried: Iterable[TriedRecord]) -> Study:
    """The study with the values that were chosen for its variants."""
    chosen = {name: item.changes for item in tried if item.chosen for name in item.variants}
    variants = (
        replace(variant, changes={**variant.changes, **chosen.get(variant.name, {})})
        for variant in study.variants
    )
    return replace(study, variants=tuple(variants))


def describe_tuning(study: Study, tried: Sequence[TriedRecord], todo: Sequence[PlannedCell]) -> str:
    """A sentence about what is tried before a study; empty if nothing is missing."""
    if not todo or study.tune is None:
        return ""
    levels = study.tune.levels.items()
    values = "; ".join(f"{name} = {', '.join(map(str, given))}" for name, given in levels)
    tuned = count_of(len({item.variants for item in tried}), "group")
    return (
        f"First {count_of(len(todo), 'run')} on a validation split choose for {tuned} of variants: "
        f"{values}."
    )
