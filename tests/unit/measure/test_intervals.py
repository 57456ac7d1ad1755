from math import exp, inf, log, sqrt

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binom

from passt_bench.intervals import (
    interval_ranks,
    median_interval,
    noise_half_width,
    phase_intervals,
    ratio_intervals,
    read_verdict,
)


# Published tables of the sign-test interval (Conover, Practical Nonparametric Statistics, A3).
@pytest.mark.parametrize(
    ("n", "low", "high"), [(6, 0, 5), (8, 0, 7), (9, 1, 7), (12, 2, 9), (15, 3, 11), (20, 5, 14)]
)
def test_ranks_agree_with_tables(n: int, low: int, high: int) -> None:
    assert interval_ranks(n) == (low, high)


@pytest.mark.parametrize("n", [*range(1, 40), 60, 101])
def test_ranks_are_the_narrowest_that_reach_the_coverage(n: int) -> None:
    low, high = interval_ranks(n)
    coverage = 1 - 2 * binom.cdf(low, n, 0.5) if n > 1 else 0
    assert low + high == n - 1
    assert coverage >= 0.95 or (n < 6 and low == 0)
    if low + 1 <= high - 1:
        assert 1 - 2 * binom.cdf(low + 1, n, 0.5) < 0.95
    interval = median_interval(range(n))
    assert (interval.low, interval.high, interval.n) == (low, high, n)


def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        median_interval([])
    with pytest.raises(ValueError, match="finite"):
        median_interval([1.0, float("nan")])


def test_ratio_cancels_what_slows_a_whole_round() -> None:
    drift = [1.0, 3.0, 0.5, 2.0, 1.5, 1.2]
    base = {"train_step": [[10 * d, 11 * d, 12 * d] for d in drift]}
    slow = {"train_step": [[5 * d, 5.5 * d, 6 * d] for d in [*drift, 9.0]], "only": [[1.0]]}
    (phase, ratio), *others = ratio_intervals(slow, base).items()
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert (phase, others, ratio.n) == ("train_step", [], 6)  # phases and rounds of both alone


def test_phase_uses_the_median_of_each_round() -> None:
    intervals = phase_intervals({"a": [[1.0, 2.0, 90.0], [3.0, 4.0, 80.0]], "empty": []})
    assert list(intervals) == ["a"]
    assert (intervals["a"].median, intervals["a"].low, intervals["a"].high) == (3.0, 2.0, 4.0)


def test_the_interval_over_restarts_by_hand() -> None:
    """Restarts of 3, 2 and 1 rounds with medians 2, 4 and 8: logarithms at equal distances."""
    values = [1.0, 2.0, 3.0, 4.0, 4.0, 8.0]
    found = median_interval(values, (3, 2, 1))
    half = stats.t.ppf(0.975, 2) * log(2) / sqrt(3)
    assert (found.median, found.n) == (3.5, 6)  # the median of all rounds
    assert (found.low, found.high) == pytest.approx((4 * exp(-half), 4 * exp(half)))
    assert phase_intervals({"a": [[x] for x in values]}, (3, 2, 1))["a"] == found
    # With processes that do not differ it is a point, and the order of the restarts is irrelevant.
    assert median_interval([2.0] * 4, (2, 2)) == median_interval([2.0] * 4)
    assert median_interval([8.0, 1.0, 2.0, 3.0, 4.0, 4.0], (1, 3, 2)) == found
    # One restart, and zero seconds, which have no logarithm: the order statistics.
    for given, restarts in ((values, ()), (values, (6,)), ([0.0, *values[1:]], (3, 3))):
        assert median_interval(given, restarts) == median_interval(given)
    # What failed before the last restart has fewer rounds.
    assert median_interval(values[:5], (3, 2, 1)) == median_interval(values[:5], (3, 2))


def test_the_median_is_inside_although_one_process_is_far_off() -> None:
    found = median_interval([1.0] * 6 + [9.0] * 4, (1,) * 10)
    assert found.low == found.median == 1.0 < found.high


def test_a_ratio_over_restarts_is_that_of_the_reversed_pair() -> None:
    one = {"train_step": [[1.0], [1.2], [0.9], [1.3]]}
    two = {"train_step": [[2.0], [1.8], [2.4], [2.2]]}
    there, back = (ratio_intervals(a, b, (3, 1))["train_step"] for a, b in ((one, two), (two, one)))
    assert (back.low, back.high) == pytest.approx((1 / there.high, 1 / there.low))


@pytest.mark.parametrize("process", [0.0, 0.02, 0.05])
def test_intervals_cover_although_processes_differ(process: float) -> None:
    """Five restarts of three rounds, noise of 1 % in a turn: 95 % of the intervals cover."""
    random, sessions, restarts = np.random.default_rng(round(100 * process)), 2000, (3,) * 5
    effects = np.repeat(process * random.standard_normal((sessions, 2, 5)), 3, axis=2)
    logs = effects + 0.01 * random.standard_normal((sessions, 2, 15))
    ratios = np.exp(logs[:, 0] - logs[:, 1]).tolist()
    covered = {
        given: np.mean([(x := median_interval(r, given)).low <= 1 <= x.high for r in ratios])
        for given in (restarts, ())
    }
    assert 0.93 < covered[restarts] < 0.97
    assert (covered[()] < 0.9) == (process > 0)  # without the outer level


def test_the_half_width_that_noise_alone_gives() -> None:
    assert noise_half_width([2.0], [1], 5) == noise_half_width([1.0, 2.0], [1, 1], 2) == inf
    assert noise_half_width([2.0] * 3, [3], 5) == 0
    assert noise_half_width([2.0, 2.0, 4.0, 4.0], [2, 2], 5) == 0  # processes may differ
    # What the interval over restarts has on average; with few rounds medians vary a little less.
    random, halves, expected = np.random.default_rng(0), [], []
    for logs in 0.01 * random.standard_normal((2000, 45)):
        ratios = np.exp(logs).tolist()
        found = median_interval(ratios, (9,) * 5)
        halves.append((found.high - found.low) / 2)
        expected.append(noise_half_width(ratios, (9,) * 5, 5))
    assert np.mean(expected) == pytest.approx(1.12 * np.mean(halves), rel=0.03)
    # With one restart the interval of order statistics.
    one = [noise_half_width(np.exp(x).tolist(), [60], 1) for x in random.normal(0, 0.01, (500, 60))]
    assert np.mean(one) == pytest.approx(1.96 * 1.2533 * 0.01 / sqrt(60), rel=0.05)
    first = noise_half_width([1.0, 1.1, 1.0], [3], 4)
    assert noise_half_width([1.0, 1.1, 1.0] * 4, [3] * 4, 4) == pytest.approx(first)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.0, 0.0, "same"),
        (-0.019, 0.019, "same"),
        (0.001, 0.019, "same"),  # although it excludes zero
        (0.001, 0.02, "better"),
        (-0.02, -0.001, "worse"),
        (-0.019, 0.02, "not worse"),
        (-0.02, 0.019, "undecided"),
        (-0.5, 0.5, "undecided"),
    ],
)
def test_verdicts_of_intervals_in_both_directions(low: float, high: float, verdict: str) -> None:
    assert read_verdict(low, high, 0.02, "greater") == verdict
    assert read_verdict(-high, -low, 0.02, "less") == verdict
