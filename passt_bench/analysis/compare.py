"""Compares the variants of a study with its baseline, and measures the noise floor."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from passt_bench.analysis.statistics import (
    LEVEL,
    NAN,
    Contrast,
    Pool,
    blocks_needed_for_verdict,
    contrast,
    detectable,
    fit_blocks,
    holm,
    mean_interval,
    pool_variance,
    smallest_margin,
)
from passt_bench.errors import InputError, check_known
from passt_bench.records.run import StudyRecord
from passt_bench.registry import METRICS, Better

DEFAULT_MARGIN = 0.02

Verdict = Literal["better", "worse", "same", "undecided", "not estimable", "failed"]


@dataclass(frozen=True)
class VariantMean:
    """A variant's own mean of a metric over its blocks.

    ``low`` and ``high`` are the 95 % interval of the mean over further seeds (NaN below two
    blocks).
    """

    variant: str
    metric: str
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline in one metric.

    Attributes:
        n: blocks that both have.
        value: mean of the variant over its blocks; NaN if no run succeeded.
        difference: variant minus baseline, adjusted for blocks where cells are missing.
        low: lower end of the 95 % interval of the difference, not corrected for multiplicity.
        high: upper end of this interval.
        p: two-sided p value, Holm-corrected over the variants of the study.
        verdict: ``better`` or ``worse`` (p below .05), ``same`` (equivalent within the margin),
            ``undecided``, ``not estimable`` (the runs that succeeded do not determine the
            difference), or ``failed`` (no run of the variant succeeded).
        detectable: the true difference that these blocks detect with probability 0.8.
        blocks_needed: if undecided, the blocks that would decide it with probability 0.8 if the
            true difference is the observed one; None if decided, or beyond 1000.
        method: description of the test.
    """

    variant: str
    baseline: str
    metric: str
    n: int
    value: float
    difference: float
    low: float
    high: float
    p: float
    verdict: Verdict
    margin: float
    detectable: float
    blocks_needed: int | None
    method: str


def compare(study: StudyRecord, cells: pd.DataFrame, metric: str | None = None) -> list[Comparison]:
    """Compares every variant of a study with its baseline, see `means_and_comparisons`."""
    return means_and_comparisons(study, cells, metric)[1]


def means_and_comparisons(
    study: StudyRecord, cells: pd.DataFrame, metric: str | None = None
) -> tuple[list[VariantMean], list[Comparison]]:
    """Variants' means over their blocks, and comparisons with the baseline, in the study's order.

    Takes the cells of `frame.cells_frame`; ``metric`` may be another column than the primary one.

    Raises:
        InputError: there is no such numeric column, or its direction is unknown.
    """
    metric = metric or study.metric
    table = block_table(study, cells, metric)
    better = metric_direction(study, metric)
    y = table.to_numpy(dtype=np.float64)
    pool = pool_variance(y)
    base = list(table.index).index(study.baseline)
    arms = [arm for arm in range(len(y)) if arm != base]
    contrasts = [contrast(y, pool, arm, base) for arm in arms]
    corrected = holm(np.array([item.p() for item in contrasts]))
    tested = int(np.isfinite(corrected).sum())
    means = _means(table, pool, metric)
    return means, [
        _comparison(study, means[arm], item, float(p), tested, better)
        for arm, item, p in zip(arms, contrasts, corrected, strict=True)
    ]


def metric_direction(study: StudyRecord, column: str | None = None) -> Better:
    """Whether a higher or lower value is better, by the study's record or the registered metric.

    An occlusion test has the direction of the metric that it computes.

    Raises:
        InputError: the direction is unknown.
    """
    column = column or study.metric
    parts = column.split("/")
    name = parts[2] if parts[0] == "probe" and len(parts) > 2 else parts[0]
    if name == study.metric and study.better is not None:
        return study.better
    known: dict[str, Better] = {item.name: item.build.better for item in METRICS.all()}
    if name not in known:
        raise InputError(
            "it is unknown whether higher or lower is better, so there is no verdict",
            source=study.name,
            field="metric",
            value=column,
            remedy=f"Compare by a registered metric: {', '.join(known)}.",
        )
    return known[name]


def _means(table: pd.DataFrame, pool: Pool, metric: str) -> list[VariantMean]:
    y = table.to_numpy(dtype=np.float64)
    means = []
    for arm, name in enumerate(table.index):
        own = y[arm][np.isfinite(y[arm])]
        value = float(own.mean()) if len(own) else NAN
        ends = mean_interval(y, pool, arm)
        means.append(VariantMean(str(name), metric, len(own), value, *ends))
    return means


def block_table(study: StudyRecord, cells: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One observation per variant (rows, in the study's order) and seed (columns).

    With folds, an observation is the mean over the folds in use, NaN if one is missing. In use is
    the set of folds that keeps the most cells, the same for all variants: a study that was run on
    two folds of five is compared on those two.

    Raises:
        InputError: no such column in ``cells``.
    """
    known = cells.select_dtypes("number").columns
    problem = "no such metric in the results of the study"
    check_known(metric, known, problem, field="metric", source=study.name)
    names = [variant.name for variant in study.variants]
    seeds = sorted(set(cells["seed"]))
    used = cells[cells["fold"].isna() | cells["fold"].isin(_folds_in_use(cells))]
    means = used.groupby(["variant", "seed"])[metric].agg(lambda x: x.mean(skipna=False))
    return means.unstack("seed").reindex(index=names, columns=seeds).astype(float)


def _folds_in_use(cells: pd.DataFrame) -> list[int]:
    run = cells[(cells["status"] != "missing") & cells["fold"].notna()]
    fold_sets = [frozenset(group) for _, group in run.groupby(["variant", "seed"])["fold"]]
    covered = {f: sum(f <= other for other in fold_sets) * len(f) for f in fold_sets}
    best = max(covered, key=lambda folds: (covered[folds], len(folds), sorted(folds)), default=())
    return sorted(int(fold) for fold in best)


def _comparison(
    study: StudyRecord, mean: VariantMean, c: Contrast, p: float, tested: int, better: Better
) -> Comparison:
    margin = DEFAULT_MARGIN if study.margin is None else study.margin
    verdict = _verdict(mean, c, p, margin, better)
    comparisons = max(tested, 1)
    needed = None
    if verdict == "undecided":
        needed = 2 if c.n < 2 else blocks_needed_for_verdict(
            c.estimate, c.unit, c.df_per_block, margin, comparisons=comparisons, more_than=c.n
        )  # fmt: skip
    low, high = c.interval()
    return Comparison(
        variant=mean.variant,
        baseline=study.baseline,
        metric=mean.metric,
        n=c.n,
        value=mean.value,
        difference=c.estimate,
        low=low,
        high=high,
        p=p,
        verdict=verdict,
        margin=margin,
        detectable=detectable(c.error, c.df, comparisons),
        blocks_needed=needed,
        method=_method(c, tested),
    )


def _verdict(mean: VariantMean, c: Contrast, p: float, margin: float, better: Better) -> Verdict:
    if mean.n == 0:
        return "failed"
    if not math.isfinite(c.estimate):
        return "not estimable"
    if p < LEVEL:
        return "better" if (c.estimate > 0) == (better == "greater") else "worse"
    return "same" if c.p_equivalence(margin) < LEVEL else "undecided"


def _method(c: Contrast, tested: int) -> str:
    if not math.isfinite(c.estimate):
        return "not estimable: the runs that succeeded do not determine the difference"
    if c.n < 2:
        return f"not tested: {c.n} common blocks, but a test needs two"
    how = f"randomized blocks, variance pooled, t with {c.df} degrees of freedom"
    if not c.pooled:
        how = (
            f"paired t with {c.df} degrees of freedom, because its variance or the baseline's "
            "is more than four times that of the others"
        )
    constant = "; the differences do not vary at all" if c.error == 0.0 else ""
    return f"{how}; Holm over {tested}{constant}"


@dataclass(frozen=True)
class NoiseFloor:
    """The noise of a comparison, from arms that differ only in their salt."""

    metric: str
    arms: int  # with at least one block
    n: int  # blocks with at least two arms
    df: int  # residual degrees of freedom, over which the noise is pooled
    deviation: float  # standard deviation of one difference of two arms in one block
    largest: float  # absolute difference of an arm's mean to the baseline's
    false_positives: tuple[str, ...]  # arms with the verdict better or worse: wrong here

    def margin(self, blocks: int, variants: int) -> float:
        """The smallest margin that an equivalence test can confirm with probability 0.8.

        For a planned study with that many seeds, and variants including the baseline.
        """
        return smallest_margin(self._error(blocks), (variants - 1) * (blocks - 1))

    def detectable(self, blocks: int, variants: int) -> float:
        """The smallest difference detected with probability 0.8; arguments as in `margin`."""
        df = (variants - 1) * (blocks - 1)
        return detectable(self._error(blocks), df, comparisons=max(variants - 1, 1))

    def _error(self, blocks: int) -> float:
        return self.deviation / float(np.sqrt(blocks)) if blocks > 0 else NAN


def noise_floor(study: StudyRecord, cells: pd.DataFrame, metric: str | None = None) -> NoiseFloor:
    """Measures the noise floor from an A/A study, whose differences are all due to chance.

    Raises:
        InputError: two variants differ in more than their salt, or there is no such column.
    """
    first = replace(study.variants[0].recipe, salt=0)
    for variant in study.variants:
        if replace(variant.recipe, salt=0) != first:
            raise InputError(
                "not an A/A study: a variant differs from the first in more than its salt",
                source=study.name,
                field=variant.name,
                remedy="Measure the noise floor on a study such as noise_floor.",
            )
    metric = metric or study.metric
    y = block_table(study, cells, metric).to_numpy(dtype=np.float64)
    fit = fit_blocks(y)
    comparisons = compare(study, cells, metric)
    present = np.isfinite(y)
    differences = [abs(c.difference) for c in comparisons if np.isfinite(c.difference)]
    return NoiseFloor(
        metric=metric,
        arms=int(present.any(axis=1).sum()),
        n=int((present.sum(axis=0) > 1).sum()),
        df=fit.df,
        deviation=float(np.sqrt(2 * fit.variance)),
        largest=max(differences, default=NAN),
        false_positives=tuple(c.variant for c in comparisons if c.verdict in ("better", "worse")),
    )
