"""Reads models that were trained with several budgets at equal time, and at equal quality."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, isfinite, log
from statistics import median

import numpy as np
import pandas as pd

from passt_bench.intervals import interval_ranks
from passt_bench.records.run import StudyRecord, VariantRecord
from passt_bench.records.session import ArmRecord
from passt_bench.registry import Better
from passt_bench.spec.recipe import Recipe

_STEP = "train_step"
AT_EQUAL_TIME = ", at equal training time"  # ends the names of families that are not declared
_NEAR = 1.01  # steps are whole, so that equal costs differ by as much
Costs = Mapping[str, float]  # variant → cost of a training, divided by the baseline's


@dataclass(frozen=True)
class Line:
    """Variants of one model and patchout, in order of what their training costs."""

    name: str
    variants: tuple[str, ...]
    costs: tuple[float, ...]


@dataclass(frozen=True)
class Reached:
    """What a model costs until it is as good as the baseline's model with one of its budgets.

    The target is the value of ``variant`` in the same seed; between the ends of two trainings the
    value is interpolated over the logarithm of the cost.

    Attributes:
        variant: of the baseline's line.
        line: the other model and patchout.
        share: median over seeds of its cost divided by the variant's, with a distribution-free
            95 % interval; infinite where the target is not reached. A model that is beyond the
            target with its smallest budget counts with that budget.
        least: the share of that budget: one as small means at most.
        reached: seeds in which it reaches the target, of ``n``.
    """

    variant: str
    line: str
    share: tuple[float, float, float]  # median, low, high
    least: float
    reached: int
    n: int


def series_names(study: StudyRecord) -> dict[Recipe, str]:
    """Model and patchout in words; where two share these, the shortest name of its variants.

    By the recipe without the length of the training.
    """
    groups = _groups(study.variants)
    found = {recipe: _model_and_patchout(members[0]) for recipe, members in groups.items()}
    counts = Counter(found.values())
    return {
        recipe: name if counts[name] == 1 else min((v.name for v in groups[recipe]), key=len)
        for recipe, name in found.items()
    }


def group_of(variant: VariantRecord) -> Recipe:
    """The recipe without the length of the training, which variants of one line share."""
    training = replace(variant.recipe.training, epochs=1, steps=None)
    return replace(variant.recipe, training=training)


def _groups(variants: Iterable[VariantRecord]) -> dict[Recipe, list[VariantRecord]]:
    groups: dict[Recipe, list[VariantRecord]] = {}
    for variant in variants:
        groups.setdefault(group_of(variant), []).append(variant)
    return groups


def _model_and_patchout(variant: VariantRecord) -> str:
    """Model and patchout in words: ``unstructured, 50 % dropped``."""
    model, patchout = variant.recipe.model.name, variant.recipe.patchout
    if variant.grid is None:
        return model
    dropped = (variant.tokens_full - variant.tokens) / (variant.grid[0] * variant.grid[1])
    kind = f"{patchout.kind}, {100 * dropped:.0f} % dropped"
    return kind if dropped else f"{model}, no patchout"


def relative_flops(study: StudyRecord) -> Costs:
    """The FLOPs of each variant's training, divided by the baseline's."""
    spent = {v.name: v.spent.get("flops", 0.0) for v in study.variants}
    base = spent[study.baseline]
    return {name: flops / base for name, flops in spent.items()} if base else {}


def clip_seconds(study: StudyRecord, arms: Mapping[str, ArmRecord]) -> Costs:
    """Seconds of a clip in a training step, divided by the baseline's, as measured.

    Without variants whose step was not measured together with the baseline's.
    """
    timed = {name: arm for name, arm in arms.items() if _STEP in arm.ratios}
    if study.baseline not in timed:
        return {}
    batch = timed[study.baseline].batch_size
    return {name: x.ratios[_STEP].median * batch / x.batch_size for name, x in timed.items()}


def relative_seconds(study: StudyRecord, arms: Mapping[str, ArmRecord]) -> Costs:
    """The seconds of each variant's training steps, divided by the baseline's; see `clip_seconds`.

    Empty if nothing is trained.
    """
    spent = (
        (v.name, v.spent.get("steps", 0) * v.recipe.training.batch_size) for v in study.variants
    )
    clips, each = {name: n for name, n in spent if n}, clip_seconds(study, arms)
    base = clips.get(study.baseline)
    return {name: each[name] * n / base for name, n in clips.items() if name in each and base}


def lines(study: StudyRecord, costs: Costs) -> list[Line]:
    """The models that were trained with several budgets, the baseline's first.

    None if the baseline's model was trained with one only.
    """
    found, names_of = list[Line](), series_names(study)
    for group, members in _groups(v for v in study.variants if v.name in costs).items():
        ordered = sorted(members, key=lambda v: costs[v.name])
        names, own = tuple(v.name for v in ordered), tuple(costs[v.name] for v in ordered)
        if own[0] < own[-1]:
            found.append(Line(names_of[group], names, own))
    found.sort(key=lambda line: study.baseline not in line.variants)
    return found if found and study.baseline in found[0].variants else []


def at_equal_time(study: StudyRecord, seconds: Costs) -> dict[str, dict[str, dict[str, float]]]:
    """Contrasts of the other lines with the baseline's at the cost of each of its budgets.

    Returns:
        Family → contrast → variant → weight. Where a line has no training of that cost, its two
        nearest are weighted by the logarithm of their costs; beyond its ends there is no contrast.
    """
    families: dict[str, dict[str, dict[str, float]]] = {}
    first, *others = lines(study, seconds) or [Line("", (), ())]
    for line in others:
        found: dict[str, dict[str, float]] = {}
        for name, cost in zip(first.variants, first.costs, strict=True):
            points = pairwise(zip(line.variants, line.costs, strict=True))
            for (left, a), (right, b) in points:
                if a / _NEAR <= cost <= b * _NEAR and a < b and f"against {name}" not in found:
                    share = min(1.0, max(0.0, log(cost / a) / log(b / a)))
                    found[f"against {name}"] = {left: 1 - share, right: share, name: -1.0}
        if found:
            families[line.name + AT_EQUAL_TIME] = found
    return families


def reach(study: StudyRecord, table: pd.DataFrame, better: Better, costs: Costs) -> list[Reached]:
    """What the other lines cost until they are as good as the baseline's with each budget.

    Args:
        study: the study.
        table: the study's metric, a row per variant and a column per seed.
        better: the direction of the metric.
        costs: of the trainings.
    """
    found, sign = [], 1 if better == "greater" else -1
    first, *others = lines(study, costs) or [Line("", (), ())]
    for variant, cost in zip(first.variants, first.costs, strict=True):
        for line in others:
            rows = sign * table.loc[[variant, *line.variants]].to_numpy(dtype=np.float64)
            seeds = [column for column in rows.T.tolist() if isfinite(column[0])]
            needed = [_crossing(line.costs, values, target) / cost for target, *values in seeds]
            if needed:
                reached = sum(map(isfinite, needed))
                share, least = _median(needed), line.costs[0] / cost
                found.append(Reached(variant, line.name, share, least, reached, len(needed)))
    return found


def _crossing(costs: Sequence[float], values: Sequence[float], target: float) -> float:
    """The cost at which a line first reaches a target; infinity if it does not.

    A failed training is left out.
    """
    points = [(cost, v) for cost, v in zip(costs, values, strict=True) if isfinite(v)]
    if points and points[0][1] >= target:
        return points[0][0]
    for (a, low), (b, high) in pairwise(points):
        if high >= target:
            return a * (b / a) ** ((target - low) / (high - low))
    return inf


def _median(values: Iterable[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    low, high = interval_ranks(len(ordered))
    return median(ordered), ordered[low], ordered[high]
