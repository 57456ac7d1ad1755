"""Intervals of metrics over other clips, for one model: a bootstrap of the evaluation clips.

Each resample draws as many clips as there are, with replacement, the same for all classes and
metrics; clips are sorted once a class (`RankSums`) and a resample is a weight.

The interval is the percentiles of the resamples' deviations from their own mean, around the value
itself. The mean of resamples is not used: average precision of resamples is biased upwards, for a
clip that is drawn twice is a second positive at the same rank, and percentiles as they are would
be above the value. `docs/statistics.md` has what that covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from passt_bench.registry import METRICS

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
FEW_CLIPS, FEW_POSITIVES = 200, 10
_TOGETHER = 64  # resamples at a time: so many columns of weights stay in the processor's cache

Progress = Callable[[float], None]


class RankSums:
    """The clips of one class in order, and their weights added up rank by rank.

    Only the scores of positives matter as thresholds, K of them: a clip is a positive at one, a
    negative tied with one, or a negative between two. Clips with an unknown label are left out.

    Args:
        targets: (N,), 0 or 1, NaN where unknown.
        scores: (N,), finite.

    Raises:
        ValueError: no positive.
    """

    def __init__(self, targets: np.ndarray, scores: np.ndarray) -> None:
        positive = np.flatnonzero(targets > 0.5)
        negative = np.flatnonzero(targets <= 0.5)  # NaN is neither
        if not len(positive):
            raise ValueError("a class without positives has no ranks")
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

    def statistics(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and AUC of each weighting.

        Args:
            weights: (N, B), whole numbers as float32.

        Returns:
            Both (B,); NaN where no positive has weight, of AUC also where no negative has.
        """
        k = self._k
        sums = (self._sum @ weights).astype(np.float64)
        positives, tied = sums[:k], sums[k : 2 * k]
        above = np.cumsum(tied + sums[2 * k : 3 * k], axis=0)  # negatives not below a threshold
        found = np.cumsum(positives, axis=0)
        everything = found + above
        precision = np.divide(found, everything, out=np.zeros_like(found), where=everything > 0)
        negatives = above[-1] + sums[3 * k]
        ordered = (positives * (negatives - above + tied / 2)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            average = (positives * precision).sum(axis=0) / found[-1]
            area = ordered / (found[-1] * negatives)
        return average, area


class RankMeans(NamedTuple):
    """Means over the classes of some resamples, each (B,); NaN where no class has one."""

    precision: np.ndarray  # of the classes with a positive
    official: np.ndarray  # of all classes, 0 for one without positives
    area: np.ndarray  # of the classes with a positive and a negative


class ScoredClips:
    """Targets and scores of clips, and what several metrics need of the same resamples.

    Args:
        targets: (N, C), 0, 1, or NaN where unknown.
        scores: (N, C), finite.
    """

    def __init__(self, targets: np.ndarray, scores: np.ndarray) -> None:
        self.targets, self.scores = targets, scores
        self._last: tuple[np.ndarray, RankMeans] | None = None

    @cached_property
    def _ranks(self) -> list[RankSums]:
        classes = range(self.targets.shape[1])
        present = [c for c in classes if (self.targets[:, c] > 0.5).any()]
        return [RankSums(self.targets[:, c], self.scores[:, c]) for c in present]

    def rank_means(self, weights: np.ndarray) -> RankMeans:
        """Mean average precision and area under the curve of resamples; the last are kept.

        Args:
            weights: (N, B), how often each resample has each clip, as float32.
        """
        if self._last is None or self._last[0] is not weights:
            sums = np.zeros((4, weights.shape[1]))
            for ranks in self._ranks:  # class by class: none of their statistics is kept
                precision, area = ranks.statistics(weights)
                for row, statistic in ((0, precision), (2, area)):
                    known = ~np.isnan(statistic)
                    sums[row] += np.where(known, statistic, 0)
                    sums[row + 1] += known
            with np.errstate(invalid="ignore"):
                mean, area = sums[0] / sums[1], sums[2] / sums[3]
            self._last = weights, RankMeans(mean, sums[0] / self.targets.shape[1], area)
        return self._last[1]


def clip_intervals(
    values: dict[str, float],
    targets: np.ndarray,
    scores: np.ndarray,
    resamples: int = RESAMPLES,
    progress: Progress = lambda share: None,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of metrics over the drawing of clips.

    Args:
        values: of registered metrics, on all clips.
        targets: (N, C), 0, 1, or NaN where unknown.
        scores: (N, C), finite.
        resamples: how many.
        progress: receives the share done.

    Returns:
        Metric → (low, high).
    """
    clips, metrics = ScoredClips(targets, scores), {n: METRICS.get(n).build for n in values}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in values}
    for done, weights in enumerate(_weights(len(targets), resamples), start=1):
        for name, metric in metrics.items():
            parts[name].append(metric.resample(clips, weights))
        progress(min(1.0, done * _TOGETHER / resamples))
    tail, intervals = (1 - LEVEL) / 2, {}
    for name, metric in metrics.items():
        found = np.concatenate(parts[name])
        found = found[~np.isnan(found)]  # a resample of few clips may have lost every positive
        low, high = values[name] + np.quantile(found - found.mean(), [tail, 1 - tail])
        least, greatest = metric.bounds
        intervals[name] = float(max(least, low)), float(min(greatest, high))
    return intervals


def _weights(clips: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each resample drew each clip, (N, B) float32, some resamples at a time."""
    random = np.random.Generator(np.random.PCG64(SEED))
    for start in range(0, resamples, _TOGETHER):
        count = min(_TOGETHER, resamples - start)
        columns = [
            np.bincount(random.integers(0, clips, clips), minlength=clips) for _ in range(count)
        ]
        yield np.stack(columns, axis=1).astype(np.float32)


def few_clips_note(targets: np.ndarray) -> str | None:
    """Why an interval of these clips is not to be trusted far; None where they are many."""
    if len(targets) < FEW_CLIPS:
        return (
            f"{len(targets)} clips: the interval over clips is too narrow with so few, and says "
            "nothing about clips unlike these"
        )
    positives = (targets > 0.5).sum(axis=0)
    few = int(((positives > 0) & (positives < FEW_POSITIVES)).sum())
    if few:
        return (
            f"{few} classes have fewer than {FEW_POSITIVES} positive clips; of these the interval "
            "over clips knows little"
        )
    return None
