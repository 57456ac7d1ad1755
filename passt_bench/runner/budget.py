"""Gives the variants of a study equal budgets, and tries values for each with the same effort."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from statistics import fmean

from passt_bench.analysis.budgets import clip_seconds
from passt_bench.analysis.frame import measured_arms
from passt_bench.errors import located
from passt_bench.records.run import CellRecord, StudyRecord, TriedRecord, count_of
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.registry import METRICS
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.estimates import summarize_model
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import TUNING_SEED, Study, Variant, override
from passt_bench.training.batches import epoch_steps, total_steps
from passt_bench.training.loop import LEAST_STEPS


def with_budget(
    study: Study,
    variant: Variant,
    clips: int,
    classes: int,
    ratios: Mapping[str, float] | None = None,
) -> Recipe:
    """The recipe of a variant with as many steps as its budget pays for.

    A budget of 1 is what the baseline costs. The number of steps is rounded, by 0.5 %
    at most, because a training has a hundred steps at least.

    Args:
        study: says what its variants share.
        variant: one of them.
        clips: number of training clips of a run.
        classes: number of the models' outputs.
        ratios: variant → seconds of a clip in training, divided by the baseline's, for a budget of
            seconds; where it or the baseline is missing, FLOPs stand for them.

    Raises:
        InputError: the study shares tokens, and a model has none.
    """
    shared = variant.shares or study.shared

    def price(of: Variant, recipe: Recipe) -> float:
        """What a step costs, in the unit that is shared."""
        if shared == "steps":
            return 1.0
        summary, batch = summarize_model(recipe, classes), recipe.training.batch_size
        if shared == "tokens":
            if not summary.tokens:
                remedy = "Share 'flops' or 'seconds'."
                raise study.error("a model without tokens shares none", "shared", "tokens", remedy)
            return batch * summary.tokens
        return batch * (ratios[of.name] if shared == "seconds" and ratios else summary.flops)

    recipe = study.recipe(variant)
    if ratios and not {study.baseline, variant.name} <= {*ratios}:
        ratios = None  # both in the same unit
    own = total_steps(recipe.training, clips)
    if shared == "epochs":
        steps = round(variant.budget * own)
    else:
        first = study.variant(study.baseline)
        base = study.recipe(first)
        unit = variant.budget * total_steps(base.training, clips) * price(first, base)
        steps = round(unit / price(variant, recipe))
    if steps == own:
        return recipe
    with located(study.place(variant.name)):
        return override(recipe, {"training.steps": steps})


def too_short(
    study: Study,
    variants: Iterable[Variant],
    clips: int,
    classes: int,
    ratios: Mapping[str, float] | None = None,
) -> dict[str, tuple[int, int]]:
    """Variant → the steps its budget pays for, and the more it takes, see `check_settings`."""
    found, costs = {}, {variant.shares or study.shared for variant in study.variants}
    for variant in variants:
        training = with_budget(study, variant, clips, classes, ratios).training
        least = max(LEAST_STEPS, epoch_steps(training, clips))
        shared = variant.shares or study.shared
        # Equal budgets need a baseline that is long enough to be divided, too.
        equal = shared != "epochs" or (variant.name == study.baseline and costs != {"epochs"})
        if (equal or training.steps) and (steps := total_steps(training, clips)) < least:
            found[variant.name] = steps, least
    return found


def check_budgets(
    study: Study,
    variants: Sequence[Variant],
    clips: int,
    classes: int,
    ratios: Mapping[str, float] | None = None,
) -> None:
    """Refuses all variants at once whose budgets are too short, with the least that is enough.

    The arguments are those of `with_budget` (raises `InputError`).
    """
    short = too_short(study, variants, clips, classes, ratios)
    if not short:
        return
    field = "training.steps" if study.base.training.steps else "training.epochs"
    given = study.base.training.steps or study.base.training.epochs
    low = min(given * (least - 1) // (steps + 1) for steps, least in short.values())
    high = max(ceil(given * least / (steps - 0.5)) for steps, least in short.values())
    enough = (
        n for n in range(max(given, low) + 1, high + 2)
        if not too_short(replace(study, base=override(study.base, {field: n})), variants,
                         clips, classes, ratios)
    )  # fmt: skip
    names = ", ".join(f"{name!r} has {steps} of {least}" for name, (steps, least) in short.items())
    problem = (
        "too few training steps on these clips to give every variant its fair share: each needs "
        f"{LEAST_STEPS} at least, and an epoch; {names}"
    )
    least = next(enough, None)
    remedy = f"Give {field}={least}." if least else "Give a larger budget."
    raise study.error(problem, field, given, remedy)


def spent(recipe: Recipe, clips: int, classes: int) -> dict[str, float]:
    """Epochs, steps, tokens and FLOPs of a training over so many clips."""
    summary, steps = summarize_model(recipe, classes), total_steps(recipe.training, clips)
    seen = steps * recipe.training.batch_size
    return {
        "epochs": steps / epoch_steps(recipe.training, clips),
        "steps": steps,
        "tokens": seen * summary.tokens,
        "flops": seen * summary.flops,
    }


def known_ratios(study: StudyRecord, store: Store) -> dict[str, float] | None:
    """The ratios that a study on record was planned with and that hold for these variants.

    They hold if all variants cost what they cost there; None if there is no such study.
    """
    wanted = {variant.name: variant.arm for variant in study.variants}
    for name in store.studies():
        other = store.study(name)
        arms = {variant.name: variant.arm for variant in other.variants}
        if (
            other.step_ratios
            and other.baseline == study.baseline
            and wanted.items() <= arms.items()
        ):
            return {name: other.step_ratios[name] for name in wanted}
    return None


def step_ratios(study: StudyRecord, sessions: Iterable[SessionRecord]) -> dict[str, float] | None:
    """Variant → seconds of a clip in training divided by the baseline's; None if one is unknown.

    From the oldest sessions that measured them, so that later ones change nothing.
    """
    measured = measured_arms(study, sessions, oldest=True)
    found = dict(clip_seconds(study, {name: arm for name, (_, arm) in measured.items()}))
    return found if {variant.name for variant in study.variants} <= {*found} else None


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
            ends = [store.run(cell.key) for cell in runs]
            values = [e.metrics[study.metric] for e in ends if e and study.metric in e.metrics]
            value = fmean(values) if len(values) == len(runs) else None
            tried.append(TriedRecord(names, changes, keys, value))
    ended = all(store.has(cell.key) for cell in cells)
    return (_choose(study, tried) if ended else tried), cells


def on_validation(recipe: Recipe, clips: int) -> Recipe:
    """The recipe with a validation split, and as many steps as on all of so many clips."""
    steps, training = total_steps(recipe.training, clips), recipe.training
    by_epoch = training.schedule == "ramp" or training.swa_start is not None
    same = {"training.steps": steps} if steps >= LEAST_STEPS and not by_epoch else {}
    return override(recipe, {"training.checkpoint_selection": "validation", **same})


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


def describe_tuning(study: Study, todo: Sequence[PlannedCell]) -> str:
    """A sentence about what is tried before a study; empty if nothing is missing."""
    if not todo or study.tune is None:
        return ""
    levels = study.tune.levels.items()
    values = "; ".join(f"{name} = {', '.join(map(str, given))}" for name, given in levels)
    return f"First {count_of(len(todo), 'run')} on a validation split choose: {values}."
