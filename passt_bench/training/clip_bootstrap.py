"""Intervals of a model's metrics, and of the differences of two, from resampling clips.

Each resample draws N of the N clips with replacement, the same for all classes and metrics. The
interval is the percentiles of the resamples' deviations from their own mean, around the value
itself: average precision of resamples is biased upwards, because a clip that is drawn twice is a
second positive at the same rank. `docs/statistics.md` reports the coverage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from passt_bench.intervals import read_verdict
from passt_bench.records.evaluation import Difference
from passt_bench.registry import METRICS

RESAMPLES = 2000
LEVEL, SEED = 0.95, 0
FEW_CLIPS, FEW_POSITIVES = 200, 10
_TOGETHER = 64  # resamples at a time: their draw counts fit into the processor's cache


class RankSums:
    """The clips of one class sorted by score, and sums of their draw counts per rank.

    The K distinct scores of positives are the thresholds. A clip is a positive at a threshold, a
    negative tied with one, or a negative between two. Clips with an unknown label are skipped.

    Args:
        targets: (N,), 0 or 1, NaN where unknown; at least one is positive.
        scores: (N,), finite.
    """

    def __init__(self, targets: np.ndarray, scores: np.ndarray) -> None:
        positive = np.flatnonzero(targets > 0.5)
        negative = np.flatnonzero(targets <= 0.5)  # NaN is neither
        thresholds, group = np.unique(scores[positive], return_inverse=True)
        k = self._k = len(thresholds)
        left = np.searchsorted(thresholds, scores[negative], side="left")
        above = np.searchsorted(thresholds, scores[negative], side="right")
        # Rows: positives of each threshold from the highest on; negatives tied with each; negatives
        # right above each; and those below all.
        rows = np.concatenate([k - 1 - group, np.where(left < above, 2 * k - above, 3 * k - above)])
        order = np.argsort(rows, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=3 * k + 1))])
        clips = np.concatenate([positive, negative])[order]
        ones = np.ones(len(clips), dtype=np.float32)
        self._sum = csr_matrix((ones, clips, ends), shape=(3 * k + 1, len(targets)))

    def statistics(self, draw_counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and AUC of each resample, (B,), of its draw counts, (N, B) float32.

        Both are NaN if no positive was drawn, AUC also if no negative was.
        """
        k = self._k
        sums = (self._sum @ draw_counts).astype(np.float64)
        positives, tied = sums[:k], sums[k : 2 * k]
        above = np.cumsum(tied + sums[2 * k : 3 * k], axis=0)  # negatives not below a threshold
        true = np.cumsum(positives, axis=0)  # positives not below a threshold
        total = true + above
        precision = np.divide(true, total, out=np.zeros_like(true), where=total > 0)
        negatives = above[-1] + sums[3 * k]
        ordered = (positives * (negatives - above + tied / 2)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            average = (positives * precision).sum(axis=0) / true[-1]
            area = ordered / (true[-1] * negatives)
        return average, area


class RankMeans(NamedTuple):
    """Means over the classes for B resamples, each (B,); NaN if no class can be scored."""

    precision: np.ndarray  # over classes with a positive and a negative
    official: np.ndarray  # over all classes, 0 for one without positives, 1 without negatives
    area: np.ndarray  # over classes with a positive and a negative


class ScoredClips:
    """Targets and scores (N, C) of clips, and rank means that several metrics share."""

    def __init__(self, targets: np.ndarray, scores: np.ndarray) -> None:
        self.targets, self.scores = targets, scores
        self._last: tuple[np.ndarray, RankMeans] | None = None

    @cached_property
    def _ranks(self) -> list[RankSums]:
        classes = range(self.targets.shape[1])
        present = [c for c in classes if (self.targets[:, c] > 0.5).any()]
        return [RankSums(self.targets[:, c], self.scores[:, c]) for c in present]

    def rank_means(self, draw_counts: np.ndarray) -> RankMeans:
        """Means of resamples, of their draw counts, (N, B) float32; the last call is cached."""
        if self._last is None or self._last[0] is not draw_counts:
            sums = np.zeros((4, draw_counts.shape[1]))
            for ranks in self._ranks:  # class by class: none of their statistics is kept
                precision, area = ranks.statistics(draw_counts)
                both = ~np.isnan(area)
                sums[0] += np.where(both, precision, 0)
                sums[1] += np.where(np.isnan(precision), 0, precision)
                sums[2] += np.where(both, area, 0)
                sums[3] += both
            with np.errstate(invalid="ignore"):
                mean, area = sums[0] / sums[3], sums[2] / sums[3]
            self._last = draw_counts, RankMeans(mean, sums[1] / self.targets.shape[1], area)
        return self._last[1]


def clip_intervals(
    values: Mapping[str, float],
    targets: np.ndarray,
    scores: np.ndarray,
    resamples: int = RESAMPLES,
) -> dict[str, tuple[float, float]]:
    """95 % intervals (low, high) of metrics: Wilson's for a share of right clips, else resampled.

    Args:
        values: registered metric → value on all clips.
        targets: (N, C), 0, 1, or NaN where unknown.
        scores: (N, C), finite.
        resamples: number of resamples.
    """
    from scipy.stats import binomtest  # slow

    resampled, intervals = _resample(values, targets, scores, resamples), {}
    for name, value in values.items():
        metric = METRICS.get(name).build
        correct = metric.correct(targets, scores)
        intervals[name] = _around(value, resampled[name], *metric.bounds)
        if correct is not None:
            test = binomtest(int(correct.sum()), len(correct))
            found = test.proportion_ci(LEVEL, method="wilson")
            intervals[name] = float(found.low), float(found.high)
    return intervals


def paired_differences(
    values: tuple[Mapping[str, float], Mapping[str, float]],
    targets: np.ndarray,
    scores: tuple[np.ndarray, np.ndarray],
    margin: float,
    resamples: int = RESAMPLES,
) -> dict[str, Difference]:
    """Metrics of one model minus those of another on the same clips, with intervals and verdicts.

    ``values`` and ``scores`` are those of both, as in `clip_intervals`; ``margin`` is for metrics
    that use one. Both have the same resamples, so that what makes one easy for both cancels. A
    share of right clips has the interval of `discordant_interval` instead. Where no resample
    differs although the scores do, the clips that could differ are as rare as none in so many is.
    """
    first, second = (_resample(values[0], targets, each, resamples) for each in scores)
    differences = {}
    for name, value in values[0].items():
        metric, gap = METRICS.get(name).build, value - values[1][name]
        widest = metric.bounds[1] - metric.bounds[0]
        low, high = _around(gap, first[name] - second[name], -widest, widest)
        if low == high and not np.array_equal(*scores):
            low, high = gap - (none := rarer_than_none(len(targets))), gap + none
        correct = [metric.correct(targets, each) for each in scores]
        test: tuple[int | None, int | None, float | None] = (None, None, None)
        if correct[0] is not None:
            test = (one, other, _) = mcnemar(*correct)
            low, high = discordant_interval(one, other, len(targets))
        verdict = read_verdict(low, high, margin if metric.uses_margin else 0.0, metric.better)
        differences[name] = Difference(gap, low, high, verdict, *test)
    return differences


def discordant_interval(first: int, second: int, clips: int) -> tuple[float, float]:
    """95 % interval of a difference of two shares of right clips, from the discordant ones.

    Those that only one model has right, of each. It is the adjusted Wald interval of Bonett and
    Price (2012); without discordant clips at least that of `rarer_than_none`. Resamples do not
    know of kinds of clips that were not drawn: with one discordant clip in 50 they cover 63 %.
    """
    one, other = (first + 1) / (clips + 2), (second + 1) / (clips + 2)
    gap = one - other
    half = 1.959964 * float(np.sqrt((one + other - gap**2) / (clips + 2)))
    if first == second == 0:
        half = max(half, rarer_than_none(clips))
    return max(-1.0, gap - half), min(1.0, gap + half)


def rarer_than_none(clips: int) -> float:
    """The exact upper 95 % bound of a share of which so many clips have none: about 3 / clips."""
    return 1 - (1 - LEVEL) ** (1 / clips)


def mcnemar(first: np.ndarray, second: np.ndarray) -> tuple[int, int, float]:
    """The clips (N,) that only one of two models has right, of each, and McNemar's exact p."""
    from scipy.stats import binomtest  # slow

    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    return one, other, float(binomtest(one, one + other).pvalue) if one + other else 1.0


def _resample(
    names: Collection[str], targets: np.ndarray, scores: np.ndarray, resamples: int
) -> dict[str, np.ndarray]:
    """Metrics of resamples, (resamples,); the resamples depend on nothing but the clips' number."""
    clips, metrics = ScoredClips(targets, scores), [METRICS.get(name).build for name in names]
    counts = _draw_counts(len(targets), resamples)
    rows = ([metric.resample(clips, drawn) for metric in metrics] for drawn in counts)
    parts = zip(*rows, strict=True)
    return {name: np.concatenate(part) for name, part in zip(names, parts, strict=True)}


def _around(
    value: float, resampled: np.ndarray, minimum: float, maximum: float
) -> tuple[float, float]:
    """The value plus percentiles of the resamples' deviations from their mean, within bounds."""
    resampled = resampled[~np.isnan(resampled)]  # with few clips, some have no positive
    tail = (1 - LEVEL) / 2
    low, high = value + np.quantile(resampled - resampled.mean(), [tail, 1 - tail])
    return float(max(minimum, low)), float(min(maximum, high))


def _draw_counts(clips: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each resample drew each clip, (N, B) float32, some resamples at a time."""
    random = np.random.Generator(np.random.PCG64(SEED))
    for start in range(0, resamples, _TOGETHER):
        count = min(_TOGETHER, resamples - start)
        columns = [
            np.bincount(random.integers(0, clips, clips), minlength=clips) for _ in range(count)
        ]
        yield np.stack(columns, axis=1).astype(np.float32)


def few_clips_note(targets: np.ndarray) -> str | None:
    """Why the interval is unreliable for these clips; None if there are enough."""
    if len(targets) < FEW_CLIPS:
        return (
            f"{len(targets)} clips: an interval from resampling is too narrow with so few, and "
            "no interval covers clips unlike these"
        )
    positives = (targets > 0.5).sum(axis=0)
    few = int(((positives > 0) & (positives < FEW_POSITIVES)).sum())
    if few:
        return (
            f"{few} {'class has' if few == 1 else 'classes have'} fewer than {FEW_POSITIVES} "
            "positive clips; an interval from resampling is unreliable there"
        )
    return None
