"""Contrasts, intervals and power against textbook formulas, SciPy and plain least squares."""

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
    blocks_needed_for_verdict,
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
NOISY = 0.8 + np.array([0.3, -0.3, 0.2, -0.25, 0.1])


def table(arms: int, blocks: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0.8, 0.02, (arms, blocks))


def found(y: Floats, arm: int = 1, baseline: int = 0) -> Contrast:
    return contrast(y, pool_variance(y), arm, baseline)


def least_squares(y: Floats) -> tuple[Floats, Floats]:
    """Differences to the first arm with cells, and their error for residuals of deviation 1.

    By way of a design of full rank (that arm and the first block stand for the constant), which is
    another way than the fit's. Connected tables only; both NaN for an arm without cells.
    """
    arms, blocks = np.flatnonzero(np.isfinite(y).any(axis=1)), range(1, y.shape[1])
    rows, columns = np.nonzero(np.isfinite(y))
    design = np.column_stack(
        [np.ones(len(rows)), *(rows == arm for arm in arms[1:]), *(columns == b for b in blocks)]
    ).astype(float)
    solution, _, rank, _ = np.linalg.lstsq(design, y[rows, columns])
    assert rank == design.shape[1]
    scatter = np.linalg.inv(design.T @ design)
    estimates, errors = np.full(len(y), NAN), np.full(len(y), NAN)
    estimates[arms] = [0.0, *solution[1 : len(arms)]]
    errors[arms] = [0.0, *np.sqrt(np.diag(scatter)[1 : len(arms)])]
    return estimates, errors


def fitted(y: Floats) -> tuple[Floats, Floats]:
    """The same by `fit_blocks`."""
    fit, first = fit_blocks(y), int(np.flatnonzero(np.isfinite(y).any(axis=1))[0])
    pairs = [fit.contrast(np.eye(len(y))[arm] - np.eye(len(y))[first]) for arm in range(len(y))]
    estimates, errors = zip(*pairs, strict=True)
    return np.array(estimates), np.array(errors)


@pytest.mark.parametrize("arms", [2, 3, 16])
def test_complete_studies_and_each_variant_left_out_in_turn(arms: int) -> None:
    for blocks in (2, 3, 10, 40):
        y = table(arms, blocks, 100 * arms + blocks)
        for left_out in range(-1, arms if arms > 2 else 0):
            rest = y.copy()
            rest[left_out : left_out + 1] = NAN  # nothing for -1
            # On a complete table least squares gives the differences of the means.
            first = 1 if left_out == 0 else 0
            means = rest.mean(axis=1)
            scales = np.where(np.isnan(means), NAN, np.sqrt(2 / blocks))
            scales[first] = 0.0
            expected = (means - means[first], scales)
            np.testing.assert_allclose(fitted(rest), expected, atol=1e-12, equal_nan=True)


def test_studies_with_holes_are_least_squares() -> None:
    random = np.random.default_rng(5)
    for _ in range(60):
        arms, blocks = int(random.integers(2, 17)), int(random.integers(2, 41))
        y = random.normal(0.8, 0.02, (arms, blocks))
        y[random.random(y.shape) < 0.3] = NAN
        y[0] = 0.8  # the baseline has every block, so that all contrasts can be estimated
        for own, known in zip(fitted(y), least_squares(y), strict=True):
            np.testing.assert_allclose(own, known, atol=1e-11, equal_nan=True)


def test_arms_that_share_no_block_are_compared_by_way_of_the_others() -> None:
    y = table(5, 6, 4)
    y[0, :3] = y[1, 3:] = NAN  # the others have all six
    noisy = table(4, 16)
    noisy[0, 8:] = noisy[1, :8] = noisy[3, 8:] = NAN
    noisy[2] += np.random.default_rng(1).normal(0, 0.5, 16)  # the only one with all blocks
    assert not pool_variance(y).noisy.any() and not pool_variance(noisy).pooled[2]
    for holes in (y, noisy):
        result = found(holes)
        assert result.estimate == pytest.approx(least_squares(holes)[0][1])
        assert (result.n, np.isnan(result.error)) == (0, True)  # a test needs two common blocks


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


def test_what_is_seen_once_or_never_has_no_test() -> None:
    once = table(4, 3)
    once[1, 1:] = NAN
    for y in (table(5, 1), once):
        result = found(y)
        assert result.n == 1 and np.isfinite(result.estimate)
        assert np.isnan([*result.interval(), result.p(), result.p_equivalence(1.0)]).all()
    assert np.isfinite(found(once, 2).p())
    assert np.isnan(mean_interval(table(5, 1), pool_variance(table(5, 1)), 0)).all()
    for y in (np.array([[1.0, 2.0, NAN], [NAN, NAN, 3.0]]), np.full((2, 3), NAN)):
        never = found(y)
        assert never.n == 0
        assert np.isnan([never.estimate, *never.interval(), never.p()]).all()


def test_equal_differences_have_no_variance_in_spite_of_rounding() -> None:
    base = np.array([0.7, 0.1, 0.3])
    same = found(np.tile(base, (3, 1)))
    assert (same.estimate, same.error, same.p(), same.interval()) == (0.0, 0.0, 1.0, (0.0, 0.0))
    assert (same.p_equivalence(0.02), same.p_equivalence(0.0)) == (0.0, 1.0)
    result = found(np.vstack([base, base + 0.1, base - 0.2]))
    assert (result.error, result.p(), result.p_equivalence(0.05)) == (0.0, 0.0, 1.0)
    assert result.estimate == pytest.approx(0.1)
    y = np.array([[0.5, 0.5, 0.5], [0.6, 0.6, 0.6], [0.4, 0.7, 0.1]])
    assert pool_variance(y).noisy.tolist() == [False, False, True]
    assert found(y, 1).error == 0.0 < found(y, 2).error


def test_a_noisy_arm_is_tested_by_its_own_differences() -> None:
    y = table(6, 5)
    y[3] = NOISY
    pool = pool_variance(y)
    assert pool.noisy.tolist() == [False, False, False, True, False, False]
    assert (pool.pooled == ~pool.noisy).all()
    assert found(y, 3).p() == pytest.approx(stats.ttest_rel(y[3], y[0]).pvalue)
    assert found(y, 3).df == 4
    # The others do not notice it.
    assert found(y, 1).interval() == pytest.approx(found(np.delete(y, 3, 0), 1).interval())
    y = table(6, 5)
    y[0] = NOISY  # the baseline: every test is a paired one
    for arm in range(1, 6):
        assert found(y, arm).p() == pytest.approx(stats.ttest_rel(y[arm], y[0]).pvalue)


def test_the_noise_test_is_the_f_test_of_one_arm_against_the_rest() -> None:
    y = table(4, 5, seed=3)
    rest = y[:3]
    apart = y[3] - rest.mean(0)
    ratio = apart.var(ddof=1) / (fit_blocks(rest).variance * (1 + 1 / 3))
    for wanted in (4.2, 3.8):  # the last arm's noise, stretched until its ratio passes four
        stretched = (apart - apart.mean()) * np.sqrt(wanted / ratio)
        y[3] = rest.mean(0) + apart.mean() + stretched
        assert pool_variance(y).noisy[3] == (wanted > 4)


def test_holm_by_hand() -> None:
    # Sorted .01, .02, .03, .04 times 4, 3, 2, 1 with the running maximum.
    assert holm(np.array([0.04, 0.01, 0.03, 0.02])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9, 0.001])) == pytest.approx([1.0, 1.0, 0.003])
    assert holm(np.array([])).tolist() == []
    corrected = holm(np.array([NAN, 0.02, NAN, 0.02]))  # what was not tested does not count
    np.testing.assert_allclose(corrected, [NAN, 0.04, NAN, 0.04])


def test_two_arms_are_the_paired_t_test_and_two_one_sided_tests() -> None:
    y = table(2, 6)
    expected = stats.ttest_rel(y[1], y[0])
    interval = expected.confidence_interval(0.95)
    result = found(y)
    assert result.p() == pytest.approx(expected.pvalue)
    assert result.interval() == pytest.approx((interval.low, interval.high))
    assert (result.n, result.df) == (6, 5)
    d = y[1] - y[0]
    lower = stats.ttest_1samp(d, -0.05, alternative="greater").pvalue
    upper = stats.ttest_1samp(d, 0.05, alternative="less").pvalue
    assert result.p_equivalence(0.05) == pytest.approx(max(lower, upper))
    # Passing at .05 is the 90 % interval inside the margin.
    edge = max(map(abs, result.interval(0.9)))
    assert result.p_equivalence(edge) == pytest.approx(0.05)


def test_the_interval_of_a_mean_is_between_plain_t_and_pooled() -> None:
    # Shared noise alone: arms tell the same, so ten of them know no more than one.
    shared = np.array([0.1, 0.5, 0.9])
    y = np.tile(shared, (10, 1)) + table(10, 3) * 1e-6
    plain = stats.t.interval(0.95, 2, shared.mean(), stats.sem(shared))
    low, high = mean_interval(y, pool_variance(y), 4)
    assert high - low == pytest.approx(plain[1] - plain[0], rel=1e-3)
    y = table(1, 4)
    plain = stats.t.interval(0.95, 3, y[0].mean(), stats.sem(y[0]))
    assert mean_interval(y, pool_variance(y), 0) == pytest.approx(plain)
    y = table(10, 3)  # independent arms: about 20 degrees of freedom instead of two
    low, high = mean_interval(y, pool_variance(y), 4)
    assert (low + high) / 2 == pytest.approx(y[4].mean())
    pooled = np.sqrt(y.var(axis=1, ddof=1).mean() / 3)
    assert 2.0 < (high - low) / 2 / pooled < 2.6  # not 4.3


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
    assert result.estimate == pytest.approx(weights @ y.mean(axis=1))
    assert result.unit == pytest.approx(np.sqrt(pool.fit.variance * weights @ weights))
    assert result.error == pytest.approx(result.unit / np.sqrt(y.shape[1]))
    assert result.df == (y.shape[0] - 1) * (y.shape[1] - 1)


def test_weighted_contrasts_of_a_noisy_arm_and_wrong_ones() -> None:
    y = table(6, 8)
    y[1] += np.random.default_rng(1).normal(0, 0.5, 8)
    result = weighted_contrast(y, pool_variance(y), [0, 1, -0.5, -0.5, 0, 0])
    expected = stats.ttest_1samp(y[1] - (y[2] + y[3]) / 2, 0)
    assert result.p() == pytest.approx(expected.pvalue) and not result.pooled
    for wrong in ([1, -1], [0, 0, 0], [1, 0, 0], [[1, -1, 0]]):
        with pytest.raises(ValueError, match="add up to zero"):
            weighted_contrast(table(3, 4), pool_variance(table(3, 4)), wrong)


@pytest.mark.parametrize(("df", "comparisons"), [(2, 1), (2, 9), (18, 9), (1000, 1)])
def test_detectable_has_the_power_it_names(df: int, comparisons: int) -> None:
    difference = detectable(0.01, df, comparisons)
    critical = stats.t.isf(0.025 / comparisons, df)
    assert stats.nct.sf(critical, df, difference / 0.01) == pytest.approx(0.8, abs=1e-4)


def test_power_at_its_limits() -> None:
    normal = stats.norm.isf(0.025) + stats.norm.ppf(0.8)  # with known variance
    assert detectable(1.0, 1e7) == pytest.approx(normal, 1e-4)
    assert np.isnan([detectable(NAN, 0), detectable(0.1, 0), smallest_margin(0.1, 0)]).all()
    assert detectable(0.0, 4) == 0.0
    assert blocks_needed_for_verdict(1e-5, 1.0, 1, margin=1e-5) is None
    assert blocks_needed_for_verdict(0.1, NAN, 1, margin=0.02) is None
    assert blocks_needed_for_verdict(NAN, 0.1, 1, margin=0.02) is None
    assert blocks_needed_for_verdict(0.1, 0.0, 1, margin=0.02, more_than=1) == 2  # without noise


def test_smallest_margin_shows_equality_at_least_as_often() -> None:
    rng = np.random.default_rng(0)
    df, rounds = 8, 20_000
    margin = smallest_margin(1.0, df)
    errors = np.sqrt(rng.chisquare(df, rounds) / df)
    inside = (margin - np.abs(rng.standard_normal(rounds))) / errors > stats.t.isf(0.05, df)
    assert 0.795 < inside.mean() < 0.82


def test_blocks_needed_for_verdict_is_the_first_with_the_power() -> None:
    needed = blocks_needed_for_verdict(0.03, 0.02, 1, margin=0.001)
    assert needed is not None
    power = [
        stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, 0.03 / (0.02 / np.sqrt(n)))
        for n in (needed - 1, needed)
    ]
    assert power[0] < 0.8 <= power[1]
    same = blocks_needed_for_verdict(0.0, 0.02, 9, margin=0.02)  # a vanishing difference
    assert same is not None
    margins = [smallest_margin(0.02 / np.sqrt(n), 9 * (n - 1)) for n in (same - 1, same)]
    assert margins[1] <= 0.02 < margins[0]
    one, nine = (
        blocks_needed_for_verdict(0.02, 0.02, 9, margin=0.02, comparisons=number)
        for number in (1, 9)
    )
    assert one is not None and nine is not None and one < nine
    assert blocks_needed_for_verdict(0.02, 0.02, 9, margin=0.02, comparisons=9, more_than=50) == 51
