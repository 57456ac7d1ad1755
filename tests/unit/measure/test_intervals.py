import pytest
from scipy.stats import binom

from passt_bench.intervals import (
    interval_ranks,
    median_interval,
    phase_intervals,
    ratio_intervals,
    read_verdict,
)


# Published tables of the sign-test interval (Conover, Practical Nonparametric Statistics, A3).
@pytest.mark.parametrize(
    ("n", "low", "high"), [(6, 0, 5), (8, 0, 7), (9, 1, 7), (12, 2, 9), (15, 3, 11), (20, 5, 14)]
)
def test_ranks_agree_with_tables(n: int, low: int, high: int) -> None:
    assert interval_ranks(n)[:2] == (low, high)


@pytest.mark.parametrize("n", [*range(1, 40), 60, 101])
def test_ranks_are_the_narrowest_that_reach_the_coverage(n: int) -> None:
    """Few values give their range and its true coverage."""
    low, high, coverage = interval_ranks(n)
    assert low + high == n - 1
    assert coverage == pytest.approx(1 - 2 * binom.cdf(low, n, 0.5) if n > 1 else 0, abs=1e-12)
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
    with pytest.raises(ValueError, match="confidence"):
        interval_ranks(9, 1.0)


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
