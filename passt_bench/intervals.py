"""Intervals of medians, summaries of raw timing samples, verdicts of intervals.

Imports no torch, so that a report can recompute every statistic from the raw samples.
Samples of one variant are nested lists ``[round][step]`` in seconds. The steps inside a round
follow each other and are not independent, so the smallest unit is the round: its median.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from math import ceil, exp, inf, isfinite, log, pi, sqrt
from statistics import fmean, median, stdev
from typing import TypeVar

from scipy.special import bdtrik, stdtrit

from passt_bench.records.evaluation import ReadVerdict
from passt_bench.records.session import Interval
from passt_bench.registry import Better

T = TypeVar("T")
Rounds = Sequence[Sequence[float]]
_QUARTILE = 0.6745  # median of the absolute value of a standard normal variable


def interval_ranks(n: int) -> tuple[int, int]:
    """Zero-based positions in n sorted values of the ends of a 95 % interval of the median.

    The interval from the k-th smallest to the k-th largest of n independent values of one
    continuous distribution contains its median with probability 1 - 2 P(Binomial(n, 1/2) < k),
    whatever the distribution (David and Nagaraja, Order Statistics, 2003, section 7.1); k is the
    largest for which that is at least 0.95. There is none below n = 6: the ends are then the
    extremes, which cover less (0, 0.5, 0.75, 0.875, 0.9375).

    Raises:
        ValueError: no values.
    """
    if n < 1:
        raise ValueError("an interval needs at least one value")
    k = max(1, ceil(bdtrik(0.025, n, 0.5)))
    return k - 1, n - k


def by_restart(values: Sequence[T], restarts: Sequence[int]) -> list[Sequence[T]]:
    """One value per round, divided into those of each restart.

    ``restarts`` has the rounds of each; with one or none, as in older records, all rounds are of
    the same processes. A restart without values is left out.
    """
    ends = accumulate(restarts)
    parts = [values[end - n : end] for n, end in zip(restarts, ends, strict=True)]
    return [part for part in parts if part] if len(restarts) > 1 else [values]


def median_interval(values: Iterable[float], restarts: Sequence[int] = ()) -> Interval:
    """The median of one value per round, with a 95 % interval.

    A process has an effect of its own on its speed, which all of its rounds share. So with several
    restarts (see `by_restart`) the interval is the t interval of the mean over restarts of the
    logarithms of their medians, extended to the median of all rounds if it lies outside. With one
    it is distribution-free (see `interval_ranks`) and lacks the differences between processes; with
    fewer than six values it is then their range, which covers less than 95 %.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    given = [float(value) for value in values]
    ordered = sorted(given)
    low, high = interval_ranks(len(ordered))
    if not all(map(isfinite, ordered)):
        raise ValueError("values must be finite")
    middle, parts = median(ordered), by_restart(given, restarts)
    if len(parts) < 2 or ordered[0] <= 0:
        return Interval(middle, ordered[low], ordered[high], len(ordered))
    logs = [log(median(part)) for part in parts]
    center, half = fmean(logs), quantile(len(logs)) * stdev(logs) / sqrt(len(logs))
    ends = exp(center - half), middle, exp(center + half)
    return Interval(middle, min(ends), max(ends), len(ordered))


def quantile(restarts: int) -> float:
    """Half width of a 95 % interval over restarts in standard errors; normal with one restart."""
    return float(stdtrit(restarts - 1, 0.975)) if restarts > 1 else 1.96


def round_medians(rounds: Rounds) -> list[float]:
    """The median of each round."""
    return [median(steps) for steps in rounds]


def phase_intervals(
    samples: Mapping[str, Rounds], restarts: Sequence[int] = ()
) -> dict[str, Interval]:
    """Phase → median of the rounds' medians with its interval; a phase never timed is absent."""
    return {name: median_interval(round_medians(x), restarts) for name, x in samples.items() if x}


def round_ratios(rounds: Rounds, baseline: Rounds) -> list[float]:
    """Ratio of the medians in each round that both have; what slows a whole round cancels."""
    pairs = zip(round_medians(rounds), round_medians(baseline), strict=False)
    return [mine / other for mine, other in pairs if other > 0]


def ratio_intervals(
    samples: Mapping[str, Rounds], baseline: Mapping[str, Rounds], restarts: Sequence[int] = ()
) -> dict[str, Interval]:
    """Phase → ratio to the baseline, taken round by round; without phases that only one has."""
    ratios = {name: round_ratios(x, baseline.get(name, ())) for name, x in samples.items()}
    return {name: median_interval(x, restarts) for name, x in ratios.items() if x}


def noise_half_width(ratios: Sequence[float], done: Sequence[int], restarts: int) -> float:
    """Half width of a ratio's interval, relative, if processes did not differ.

    The noise of a round follows from the differences of successive rounds of one process. It does
    not depend on how restarts differ, so a session that ends by it keeps the interval's coverage.

    Args:
        ratios: of each round so far.
        done: rounds of each restart so far; all restarts are taken to have as many as the last.
        restarts: number of restarts in the end.
    """
    parts = by_restart(ratios, done)
    steps = [abs(log(b / a)) for part in parts for a, b in pairwise(part)]
    if not steps:
        return inf
    # Of independent normal values, and the standard error of their median.
    deviation = median(steps) / (_QUARTILE * sqrt(2))
    return quantile(restarts) * deviation * sqrt(pi / 2 / (restarts * done[-1]))


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
