from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from passt_bench.analysis.statistics import (
    Contrast,
    Floats,
    blocks_to_settle,
    contrast,
    detectable,
    fit_blocks,
    holm,
    mean_interval,
    pool_variance,
    smallest_margin,
    weighted_contrast,
)

NAN = float("nan")


def table(arms: int, blocks: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0.8, 0.02, (arms, blocks))


def found(y: Floats, arm: int = 1, baseline: int = 0) -> Contrast:
    return contrast(y, pool_variance(y), arm, baseline)


def test_two_arms_are_the_paired_t_test() -> None:
    y = table(2, 5)
    expected = stats.ttest_rel(y[1], y[0])
    interval = expected.confidence_interval(0.95)
    result = found(y)
    assert result.p() == pytest.approx(expected.pvalue)
    assert result.interval() == pytest.approx((interval.low, interval.high))
    assert (result.n, result.df) == (5, 4)


def test_complete_blocks_by_hand() -> None:
    # Arms at 0, 2, 4, blocks at 1, 2, 3, and residuals that add up to 0 along both.
    residuals = np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0], [-1.0, 0.0, 1.0]])
    y = np.array([[0.0], [2.0], [4.0]]) + np.array([1.0, 2.0, 3.0]) + residuals
    fit, result = fit_blocks(y), found(y, 2, 0)
    assert (fit.sse, fit.df) == (pytest.approx(6.0), 4)
    assert result.estimate == pytest.approx(4.0)
    assert result.error == pytest.approx(np.sqrt(6 / 4 * 2 / 3))
    assert result.unit == pytest.approx(np.sqrt(6 / 4 * 2))
    assert (result.df, result.df_per_block, result.pooled) == (4, 2, True)


def test_a_constant_added_to_a_block_changes_nothing() -> None:
    y = table(5, 4)
    y[2, 1] = NAN
    moved = y + np.array([0.0, 5.0, -3.0, 100.0])
    for arm in range(1, 5):
        a, b = found(y, arm), found(moved, arm)
        assert a.estimate == pytest.approx(b.estimate)
        assert a.interval() == pytest.approx(b.interval())
        assert a.p() == pytest.approx(b.p())


def test_an_incomplete_arm_uses_the_blocks_it_has() -> None:
    # Additive with tiny noise: blocks are worth 0, 10, 20, so a plain difference of means fails.
    noise = np.random.default_rng(3).normal(0, 1e-3, (4, 3))
    y = np.array([[0.0], [1.0], [2.0], [3.0]]) + np.array([0.0, 10.0, 20.0]) + noise
    y[1, 2] = NAN
    result = found(y, 1)
    assert result.n == 2
    assert result.estimate == pytest.approx(1.0, abs=0.01)
    assert result.df == 11 - (4 + 3 - 1)
    assert result.error > found(y, 2).error


@pytest.mark.parametrize("shape", [(2, 1), (5, 1)])
def test_one_block_gives_a_difference_and_nothing_more(shape: tuple[int, int]) -> None:
    y = table(*shape)
    result = found(y)
    assert result.estimate == pytest.approx(y[1, 0] - y[0, 0])
    assert np.isnan([*result.interval(), result.p(), result.p_equivalence(1.0)]).all()
    assert np.isnan(mean_interval(y, pool_variance(y), 0)).all()


def test_an_arm_seen_once_is_not_judged_by_the_noise_of_others() -> None:
    y = table(4, 3)
    y[1, 1:] = NAN
    result = found(y, 1)
    assert result.n == 1
    assert np.isfinite(result.estimate)
    assert np.isnan(result.p())
    assert np.isfinite(found(y, 2).p())


def test_nothing_in_common_is_no_difference() -> None:
    y = np.array([[1.0, 2.0, NAN], [NAN, NAN, 3.0]])
    result = found(y)
    assert result.n == 0
    assert np.isnan([result.estimate, *result.interval(), result.p()]).all()


def test_an_empty_arm_leaves_the_others_alone() -> None:
    y = table(4, 3)
    with_empty = np.vstack([y, np.full(3, NAN)])
    assert found(with_empty, 2).interval() == pytest.approx(found(y, 2).interval())
    assert found(with_empty, 4).n == 0
    assert np.isnan(found(np.full((2, 3), NAN)).p())


def test_identical_arms_are_equal_beyond_doubt() -> None:
    y = np.tile([0.7, 0.1, 0.3], (3, 1))
    result = found(y)
    assert (result.estimate, result.error, result.p()) == (0.0, 0.0, 1.0)
    assert result.interval() == (0.0, 0.0)
    assert result.p_equivalence(0.02) == 0.0
    assert result.p_equivalence(0.0) == 1.0


def test_equal_differences_have_no_variance_in_spite_of_rounding() -> None:
    base = np.array([0.7, 0.1, 0.3])
    result = found(np.vstack([base, base + 0.1, base - 0.2]))
    assert result.error == 0.0
    assert result.p() == 0.0
    assert result.estimate == pytest.approx(0.1)
    assert result.p_equivalence(0.05) == 1.0


def test_a_noisy_arm_is_tested_by_its_own_differences() -> None:
    y = table(6, 5)
    y[3] = 0.8 + np.array([0.3, -0.3, 0.2, -0.25, 0.1])
    pool = pool_variance(y)
    assert pool.noisy.tolist() == [False, False, False, True, False, False]
    assert pool.pooled.tolist() == [True, True, True, False, True, True]
    expected = stats.ttest_rel(y[3], y[0])
    assert found(y, 3).p() == pytest.approx(expected.pvalue)
    assert found(y, 3).df == 4
    # The others do not notice it.
    assert found(y, 1).interval() == pytest.approx(found(np.delete(y, 3, 0), 1).interval())


def test_a_noisy_baseline_makes_every_test_a_paired_one() -> None:
    y = table(6, 5)
    y[0] = 0.8 + np.array([0.3, -0.3, 0.2, -0.25, 0.1])
    for arm in range(1, 6):
        result = found(y, arm)
        assert not result.pooled
        assert result.p() == pytest.approx(stats.ttest_rel(y[arm], y[0]).pvalue)


def test_the_noise_test_is_the_f_test_of_one_arm_against_the_rest() -> None:
    y = table(4, 5, seed=3)
    rest = y[:3]
    apart = y[3] - rest.mean(0)
    ratio = apart.var(ddof=1) / (fit_blocks(rest).variance * (1 + 1 / 3))
    scaled = y.copy()  # stretch the last arm's noise until its ratio passes four
    scaled[3] = rest.mean(0) + apart.mean() + (apart - apart.mean()) * np.sqrt(4.2 / ratio)
    assert pool_variance(scaled).noisy[3]
    scaled[3] = rest.mean(0) + apart.mean() + (apart - apart.mean()) * np.sqrt(3.8 / ratio)
    assert not pool_variance(scaled).noisy[3]


def test_a_constant_rest_makes_the_varying_arm_noisy() -> None:
    y = np.array([[0.5, 0.5, 0.5], [0.6, 0.6, 0.6], [0.4, 0.7, 0.1]])
    assert pool_variance(y).noisy.tolist() == [False, False, True]
    assert found(y, 1).error == 0.0
    assert found(y, 2).error > 0


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 with the running maximum.
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9, 0.001])) == pytest.approx([1.0, 1.0, 0.003])
    assert holm(np.array([])).tolist() == []


def test_holm_ignores_what_was_not_tested_and_keeps_ties() -> None:
    corrected = holm(np.array([NAN, 0.02, NAN, 0.02]))
    assert np.isnan(corrected[[0, 2]]).all()
    assert corrected[[1, 3]] == pytest.approx([0.04, 0.04])


def test_equivalence_is_two_one_sided_tests() -> None:
    y = table(2, 6)
    d = y[1] - y[0]
    lower = stats.ttest_1samp(d, -0.05, alternative="greater").pvalue
    upper = stats.ttest_1samp(d, 0.05, alternative="less").pvalue
    assert found(y).p_equivalence(0.05) == pytest.approx(max(lower, upper))
    # Passing at .05 is the 90 % interval inside the margin.
    low, high = found(y).interval(0.9)
    edge = max(abs(low), abs(high))
    assert found(y).p_equivalence(edge) == pytest.approx(0.05)


def test_mean_interval_widens_to_plain_t_where_blocks_are_all() -> None:
    # Shared noise alone: arms tell the same, so ten of them know no more than one.
    shared = np.array([0.1, 0.5, 0.9])
    y = np.tile(shared, (10, 1)) + table(10, 3) * 1e-6
    plain = stats.t.interval(0.95, 2, shared.mean(), stats.sem(shared))
    low, high = mean_interval(y, pool_variance(y), 4)
    assert high - low == pytest.approx(plain[1] - plain[0], rel=1e-3)


def test_mean_interval_of_independent_arms_borrows_strength() -> None:
    y = table(10, 3)
    low, high = mean_interval(y, pool_variance(y), 4)
    assert (low + high) / 2 == pytest.approx(y[4].mean())
    # About 20 degrees of freedom: far below the factor 4.3 of two.
    pooled = np.sqrt(y.var(axis=1, ddof=1).mean() / 3)
    assert 2.0 < (high - low) / 2 / pooled < 2.6


def test_small_simulation_covers_and_does_not_cry_wolf() -> None:
    rng = np.random.default_rng(5)
    rounds, covered, alarms = 150, 0, 0
    for _ in range(rounds):
        y = rng.standard_normal((4, 3)) + 2 * rng.standard_normal(3)
        pool = pool_variance(y)
        contrasts = [contrast(y, pool, arm, 0) for arm in (1, 2, 3)]
        low, high = contrasts[0].interval()
        covered += low < 0 < high
        alarms += holm(np.array([c.p() for c in contrasts])).min() < 0.05
    assert stats.binomtest(covered, rounds, 0.95).pvalue > 1e-3
    assert stats.binomtest(alarms, rounds, 0.05, alternative="greater").pvalue > 1e-3


def test_the_recipe_of_the_docs_runs_and_uses_the_pooled_variance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs/statistics.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(root)
    made: dict[str, Any] = {}
    exec(recipe, made)
    y, weights, result = made["y"], np.array(made["weights"]), made["contrast"]
    pool = pool_variance(y)
    assert not pool.noisy.any()  # so that the whole table is pooled, and complete
    assert np.isfinite(y).all()
    assert result.estimate == pytest.approx(weights @ y.mean(axis=1))
    assert result.error == pytest.approx(np.sqrt(pool.fit.variance * 2 / y.shape[1]))
    assert result.df == (y.shape[0] - 1) * (y.shape[1] - 1)


def test_an_interaction_by_hand() -> None:
    y = table(4, 5)
    weights = np.array([1.0, -1.0, -1.0, 1.0])
    result = weighted_contrast(y, pool_variance(y), weights)
    assert result.estimate == pytest.approx(weights @ y.mean(axis=1))
    assert result.error == pytest.approx(np.sqrt(fit_blocks(y).variance * 4 / 5))
    assert result.unit == pytest.approx(np.sqrt(fit_blocks(y).variance * 4))


def test_a_contrast_with_a_noisy_arm_is_tested_by_its_own_sums() -> None:
    y = table(6, 8)
    y[1] += np.random.default_rng(1).normal(0, 0.5, 8)
    pool = pool_variance(y)
    assert pool.noisy[1]
    result = weighted_contrast(y, pool, [0, 1, -0.5, -0.5, 0, 0])
    expected = stats.ttest_1samp(y[1] - (y[2] + y[3]) / 2, 0)
    assert result.p() == pytest.approx(expected.pvalue)
    assert not result.pooled


@pytest.mark.parametrize("weights", [[1, -1], [0, 0, 0], [1, 0, 0], [[1, -1, 0]]])
def test_weights_that_are_no_contrast_are_refused(weights: list[Any]) -> None:
    y = table(3, 4)
    with pytest.raises(ValueError, match="add up to zero"):
        weighted_contrast(y, pool_variance(y), weights)


@pytest.mark.parametrize(("df", "comparisons"), [(2, 1), (2, 9), (18, 9), (1000, 1)])
def test_detectable_has_the_power_it_names(df: int, comparisons: int) -> None:
    difference = detectable(0.01, df, comparisons)
    critical = stats.t.isf(0.025 / comparisons, df)
    assert stats.nct.sf(critical, df, difference / 0.01) == pytest.approx(0.8, abs=1e-4)


def test_detectable_of_known_variance_is_the_normal_formula() -> None:
    assert detectable(1.0, 1e7) == pytest.approx(stats.norm.isf(0.025) + stats.norm.ppf(0.8), 1e-4)


def test_smallest_margin_shows_equality_at_least_as_often() -> None:
    rng = np.random.default_rng(0)
    df, rounds = 8, 20_000
    margin = smallest_margin(1.0, df)
    errors = np.sqrt(rng.chisquare(df, rounds) / df)
    inside = (margin - np.abs(rng.standard_normal(rounds))) / errors > stats.t.isf(0.05, df)
    assert 0.795 < inside.mean() < 0.82


def test_blocks_to_settle_is_the_first_with_the_power() -> None:
    found = blocks_to_settle(0.03, 0.02, 1, margin=0.001)
    assert found is not None
    power = [
        stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, 0.03 / (0.02 / np.sqrt(n)))
        for n in (found - 1, found)
    ]
    assert power[0] < 0.8 <= power[1]


def test_a_vanishing_difference_is_settled_as_the_same() -> None:
    found = blocks_to_settle(0.0, 0.02, 9, margin=0.02)
    assert found is not None
    assert smallest_margin(0.02 / np.sqrt(found), 9 * (found - 1)) <= 0.02
    assert smallest_margin(0.02 / np.sqrt(found - 1), 9 * (found - 2)) > 0.02


def test_more_comparisons_and_a_difference_at_the_margin_cost_blocks() -> None:
    one = blocks_to_settle(0.02, 0.02, 9, margin=0.02)
    nine = blocks_to_settle(0.02, 0.02, 9, margin=0.02, comparisons=9)
    assert one is not None
    assert nine is not None
    assert one < nine
    assert blocks_to_settle(0.02, 0.02, 9, margin=0.02, comparisons=9, more_than=50) == 51


def test_what_no_sensible_number_settles_is_none() -> None:
    assert blocks_to_settle(1e-5, 1.0, 1, margin=1e-5) is None
    assert blocks_to_settle(0.1, NAN, 1, margin=0.02) is None
    assert blocks_to_settle(NAN, 0.1, 1, margin=0.02) is None
    assert blocks_to_settle(0.1, 0.0, 1, margin=0.02, more_than=1) == 2  # without noise
    assert np.isnan([detectable(NAN, 0), detectable(0.1, 0), smallest_margin(0.1, 0)]).all()
    assert detectable(0.0, 4) == 0.0
