"""Intervals of metrics over other clips, for one model: a bootstrap of the evaluation clips.

Each resample draws as many clips as there are, with replacement, the same for all classes and
metrics; clips are sorted once a class (`metrics.RankSums`) and a resample is a weight.

The interval is the percentiles of the resamples' deviations from their own mean, around the value
itself. The mean of resamples is not used: average precision of resamples lies too high, for a clip
that is drawn twice is a second positive at the same rank, and percentiles as they are would sit
above the value. `docs/statistics.md` has what that covers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from passt_bench.training.metrics import RankSums, half_a_pair, to_d_prime

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
FEW_CLIPS, FEW_POSITIVES = 200, 10
_TOGETHER = 64  # resamples at a time: so many columns of weights stay in the processor's cache
_BOUNDED = ("mAP", "mAP_official", "mAP_masked", "AUC", "accuracy")  # between 0 and 1

Progress = Callable[[float], None]


@dataclass(frozen=True)
class _Resampled:
    """Statistics of the resamples, each (B,)."""

    precision: np.ndarray = field(default_factory=lambda: np.zeros(0))  # mean of the classes with
    official: np.ndarray = field(default_factory=lambda: np.zeros(0))  # over all classes
    area: np.ndarray = field(default_factory=lambda: np.zeros(0))
    right: np.ndarray = field(default_factory=lambda: np.zeros(0))


def clip_intervals(
    metrics: Sequence[str],
    targets: np.ndarray,
    scores: np.ndarray,
    values: dict[str, float],
    resamples: int = RESAMPLES,
    progress: Progress = lambda share: None,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of metrics over the drawing of clips.

    Args:
        metrics: names; those that are not this package's get no interval.
        targets: (N, C), 0, 1, or NaN where unknown.
        scores: (N, C), finite.
        values: of the metrics, on all clips.
        resamples: how many.
        progress: told the share done.

    Returns:
        Metric → (low, high).
    """
    wanted = [name for name in metrics if name in (*_BOUNDED, "dprime")]
    if not wanted:
        return {}
    ranked = any(name != "accuracy" for name in wanted)
    classes = [
        RankSums(targets[:, c], scores[:, c])
        for c in range(targets.shape[1] if ranked else 0)
        if (targets[:, c] > 0.5).any()
    ]
    right = (scores.argmax(axis=1) == np.nan_to_num(targets).argmax(axis=1)).astype(np.float32)
    parts = []
    for weights in _weights(len(targets), resamples):
        parts.append(_statistics(classes, targets.shape[1], right, weights))
        progress(min(1.0, len(parts) * _TOGETHER / resamples))
    drawn = _Resampled(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return {name: _interval(name, drawn, values[name], targets) for name in wanted}


def _weights(clips: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each resample drew each clip, (N, B) float32, some resamples at a time."""
    random = np.random.Generator(np.random.PCG64(SEED))
    for start in range(0, resamples, _TOGETHER):
        count = min(_TOGETHER, resamples - start)
        columns = [
            np.bincount(random.integers(0, clips, clips), minlength=clips) for _ in range(count)
        ]
        yield np.stack(columns, axis=1).astype(np.float32)


def _statistics(
    classes: Sequence[RankSums], width: int, right: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The fields of `_Resampled` for some resamples, without keeping any class's."""
    sums = np.zeros((4, weights.shape[1]))
    for ranks in classes:
        precision, area = ranks.statistics(weights)
        for row, statistic in ((0, precision), (2, area)):
            known = ~np.isnan(statistic)
            sums[row] += np.where(known, statistic, 0)
            sums[row + 1] += known
    with np.errstate(invalid="ignore"):
        mean, area = sums[0] / sums[1], sums[2] / sums[3]
    return mean, sums[0] / width, area, right @ weights / len(right)


def _interval(
    name: str, drawn: _Resampled, value: float, targets: np.ndarray
) -> tuple[float, float]:
    if name == "accuracy":
        found = drawn.right
    elif name == "mAP_official":
        found = drawn.official
    elif name in ("AUC", "dprime"):
        found = drawn.area
    else:
        found = drawn.precision
    found = found[~np.isnan(found)]  # a resample of few clips may have lost every positive
    if name == "dprime":
        columns = [targets[:, c] for c in range(targets.shape[1])]
        least = float(np.mean([half_a_pair(t) for t in columns if _has_both(t)]))
        found = np.array([to_d_prime(area, least) for area in found])
    tail = (1 - LEVEL) / 2
    low, high = value + np.quantile(found - found.mean(), [tail, 1 - tail])
    if name in _BOUNDED:
        low, high = max(0.0, low), min(1.0, high)
    return float(low), float(high)


def _has_both(targets: np.ndarray) -> bool:
    return bool((targets > 0.5).any() and (targets <= 0.5).any())


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
