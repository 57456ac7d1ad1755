"""Distribution-free intervals of medians, summaries of raw timing samples, verdicts of intervals.

Imports no torch, so that a report can recompute every statistic from the raw samples.
Samples of one variant are nested lists ``[round][step]`` in seconds. The steps inside a round
follow each other and are not independent, so the unit is always the round: its median.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import comb, isfinite
from statistics import median

from passt_bench.records.evaluation import ReadVerdict
from passt_bench.records.session import Interval
from passt_bench.registry import Better

Rounds = Sequence[Sequence[float]]


def interval_ranks(n: int, confidence: float = 0.95) -> tuple[int, int, float]:
    """Which order statistics bound the median.

    The interval from the k-th smallest to the k-th largest of n independent values of one
    continuous distribution contains its median with probability 1 - 2 P(Binomial(n, 1/2) < k),
    whatever the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1).

    Args:
        n: number of values, at least 1.
        confidence: wanted coverage.

    Returns:
        Zero-based positions of both ends in the sorted values for the largest k whose coverage
        reaches ``confidence``, and that coverage. No k reaches 0.95 below n = 6: the ends are then
        the extremes, and the coverage says what they are worth (0, 0.5, 0.75, 0.875, 0.9375).

    Raises:
        ValueError: no values, or a confidence outside (0, 1).
    """
    if n < 1:
        raise ValueError("an interval needs at least one value")
    if not 0 < confidence < 1:
        raise ValueError(f"0 < confidence < 1 must hold, but got confidence={confidence}")
    outside = [1]  # of the 2 ** n ways to fall on either side of the median, those with < k below
    while len(outside) < (n + 1) // 2:
        wider = outside[-1] + comb(n, len(outside))
        if 1 - 2 * wider / 2**n < confidence:
            break
        outside.append(wider)
    k = len(outside)
    return k - 1, n - k, 1 - 2 * outside[-1] / 2**n


def median_interval(values: Iterable[float], confidence: float = 0.95) -> Interval:
    """The median and its distribution-free interval, see `interval_ranks`.

    With fewer than six values the interval is their range, which covers less than 95 %.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    ordered = [float(value) for value in values]
    low, high, _ = interval_ranks(len(ordered), confidence)
    if not all(map(isfinite, ordered)):
        raise ValueError("values must be finite")
    ordered.sort()
    return Interval(median(ordered), ordered[low], ordered[high], len(ordered))


def round_medians(rounds: Rounds) -> list[float]:
    """The median of each round."""
    return [median(steps) for steps in rounds]


def phase_intervals(samples: Mapping[str, Rounds]) -> dict[str, Interval]:
    """Phase → median of the rounds' medians with its interval; a phase never timed is absent."""
    return {name: median_interval(round_medians(x)) for name, x in samples.items() if x}


def ratio_intervals(
    samples: Mapping[str, Rounds], baseline: Mapping[str, Rounds]
) -> dict[str, Interval]:
    """Phase → ratio to the baseline, taken round by round.

    Each round gives one ratio of medians; what slows a whole round cancels in it. Rounds that only
    one of the two has are left out, as are phases without a common round.
    """
    ratios = {}
    for name, rounds in samples.items():
        pairs = zip(round_medians(rounds), round_medians(baseline.get(name, ())), strict=False)
        values = [mine / other for mine, other in pairs if other > 0]
        if values:
            ratios[name] = median_interval(values)
    return ratios


def read_verdict(low: float, high: float, margin: float, better: Better) -> ReadVerdict:
    """The verdict of the interval of a difference: the first whose condition holds.

    ``same``: it is inside ± margin. ``better`` or ``worse``: it excludes zero. ``not worse``: its
    end on the worse side is inside the margin. ``undecided``: otherwise.
    """
    if better == "less":
        low, high = -high, -low
    if -margin < low and high < margin:
        return "same"
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "not worse" if low > -margin else "undecided"
