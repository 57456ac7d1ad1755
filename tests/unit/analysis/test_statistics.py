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
    baseline_weights,
    blocks_needed,
    contrasts,
    detectable,
    fit_blocks,
    fit_passes,
    mean_interval,
    planned_contrast,
    smallest_margin,
)

NAN = float("nan")


def table(arms: int, blocks: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(0.8, 0.02, (arms, blocks))


def against_first(y: Floats, **options: Any) -> list[Contrast]:
    return contrasts(y, baseline_weights(len(y), 0), **options)


def found(y: Floats, arm: int = 1) -> Contrast:
    return against_first(y)[arm - 1]


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
    weights = np.eye(len(y)) - np.eye(len(y))[first]
    estimates = np.array([fit.estimate(row) for row in weights])
    errors = np.sqrt([(fit.cell_weights(row) ** 2).sum() for row in weights])
    return estimates, np.where(np.isfinite(estimates), errors, NAN)


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
    result = found(y)
    assert result.estimate == pytest.approx(least_squares(y)[0][1])
    # An interval needs common blocks.
    assert (result.n, result.method, np.isnan(result.low)) == (0, "none", True)


def test_residuals_of_complete_blocks_by_hand() -> None:
    # Arms at 0, 2, 4, blocks at 1, 2, 3, and residuals that add up to 0 along both.
    residuals = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0], [-2.0, 0.0, 2.0]])
    fit = fit_blocks(np.array([[0.0], [2.0], [4.0]]) + np.array([1.0, 2.0, 3.0]) + residuals)
    assert fit.df == pytest.approx(4)
    assert fit.dfs == pytest.approx([4 / 3] * 3)  # (n - 1)(a - 1)/a
    assert fit.variances == pytest.approx([2 * 3 / 4, 6 * 3 / 4, 8 * 3 / 4])
    assert fit.variance == pytest.approx(16 / 4)
    assert fit.estimate(np.array([-1.0, 0.0, 1.0])) == pytest.approx(4.0)


def test_degrees_of_freedom_with_holes_are_cells_minus_rank() -> None:
    random = np.random.default_rng(2)
    for _ in range(30):
        y = random.normal(size=(int(random.integers(2, 7)), int(random.integers(2, 9))))
        y[random.random(y.shape) < 0.4] = NAN
        fit = fit_blocks(y)
        rows, columns = np.nonzero(np.isfinite(y))
        arms, blocks = rows[:, None] == range(len(y)), columns[:, None] == range(y.shape[1])
        rank = np.linalg.matrix_rank(np.hstack([arms, blocks]).astype(float)) if len(rows) else 0
        assert fit.df == pytest.approx(len(rows) - rank, abs=1e-9)
        assert ((fit.dfs >= 0) & (fit.dfs <= np.isfinite(y).sum(axis=1))).all()


def test_what_is_seen_less_than_three_times_has_no_interval() -> None:
    twice = table(4, 6)
    twice[1, 2:] = NAN
    for y, n in ((table(5, 1), 1), (table(5, 2), 2), (twice, 2)):
        result = found(y)
        assert result.n == n and np.isfinite(result.estimate)
        assert np.isnan([result.low, result.high, *result.single, result.error]).all()
    assert found(twice, 2).method == "own"
    for y in (np.array([[1.0, 2.0, NAN], [NAN, NAN, 3.0]]), np.full((2, 3), NAN)):
        never = found(y)
        assert (never.n, never.method) == (0, "none")
        assert np.isnan([never.estimate, never.low]).all()


def test_equal_differences_have_no_variance_in_spite_of_rounding() -> None:
    base = np.array([0.7, 0.1, 0.3, 0.2, 0.9])
    same = found(np.tile(base, (3, 1)))
    assert (same.estimate, same.error, same.low, same.high) == (0.0, 0.0, 0.0, 0.0)
    result = found(np.vstack([base, base + 0.1, base - 0.2]))
    assert result.error == 0.0
    assert result.low == result.estimate == result.high == pytest.approx(0.1)


def test_two_arms_from_five_blocks_on_are_the_paired_t_test() -> None:
    y = table(2, 6)
    expected = stats.ttest_rel(y[1], y[0]).confidence_interval(0.95)
    result = found(y)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert (result.n, result.method) == (6, "own")
    assert result.df == pytest.approx(5)


def test_an_arms_own_variance_decides_its_interval() -> None:
    y = table(6, 8)
    y[3] = 0.8 + np.random.default_rng(1).normal(0, 0.3, 8)
    fit, several = fit_blocks(y), against_first(y)
    for arm, result in enumerate(several, 1):
        parts = fit.variances[[0, arm]] / 8
        assert result.error == pytest.approx(np.sqrt(parts.sum()))
        assert result.df == pytest.approx(parts.sum() ** 2 / (parts**2 / fit.dfs[0]).sum())
        half = stats.t.isf(0.025, result.df) * result.error
        assert result.single == pytest.approx((result.estimate - half, result.estimate + half))
        assert result.high - result.estimate == pytest.approx(result.critical * result.error)
        assert result.critical * result.error > half
    assert several[2].error > 3 * several[0].error


def test_below_five_blocks_the_hull_of_pooled_and_paired() -> None:
    for y in (table(4, 3), table(4, 4, 1), table(9, 4, 2)):
        n, fit = y.shape[1], fit_blocks(y)
        for arm, result in enumerate(against_first(y), 1):
            half = stats.t.isf(0.025, fit.df) * np.sqrt(2 * fit.variance / n)
            paired = stats.ttest_rel(y[arm], y[0]).confidence_interval(0.95)
            assert result.method == "hull"
            assert result.single[0] == pytest.approx(min(result.estimate - half, paired.low))
            assert result.single[1] == pytest.approx(max(result.estimate + half, paired.high))
            assert result.low < result.single[0] and result.single[1] < result.high


@pytest.mark.parametrize("n", [3, 4])
def test_a_quiet_contrast_does_not_widen_the_others(n: int) -> None:
    y = table(4, n, 3)
    widths = [against_first(y)[1].high - against_first(y)[1].low]
    for noise in (0.1, 0.001):
        y[1] = y[0] + noise * (table(4, n, 5)[1] - 0.8)
        widths.append(against_first(y)[1].high - against_first(y)[1].low)
    assert max(widths) < 1.6 * min(widths)


@pytest.mark.parametrize("looks", [1, 3])
def test_power_is_that_of_the_level(looks: int) -> None:
    level = (0.05, 0.0294, 0.0221)[looks - 1]
    planned = planned_contrast(2, 5, level=level)
    critical = stats.t.isf(level / 2, 4)
    assert planned.critical == pytest.approx(critical)
    power = stats.nct.sf(critical, 4, detectable(planned) / planned.error)
    assert power == pytest.approx(0.8, abs=1e-4)


def test_the_factor_of_pooled_variance_is_dunnetts() -> None:
    # The two arms hardly differ, so that the paired interval lies inside the pooled one.
    y = table(4, 4, 3)
    y[2:] += 5 * (y[2:] - 0.8)
    y[1] = y[0] + 0.01 * (y[1] - 0.8)
    fit, result = fit_blocks(y), found(y)
    critical = (result.high - result.low) / 2 / np.sqrt(2 * fit.variance / 4)
    assert fit.df == pytest.approx(9)
    three = stats.multivariate_t(shape=(np.eye(3) + 1) / 2, df=9, seed=0)
    covered = three.cdf([critical] * 3, lower_limit=[-critical] * 3)
    assert covered == pytest.approx(0.95, abs=0.004)


def test_simultaneous_intervals_are_reproducible_and_no_wider_than_bonferroni() -> None:
    for y in (table(3, 5), table(12, 5), table(12, 20)):
        one, two = against_first(y), against_first(y)
        assert one == two
        for result in one:
            bonferroni = stats.t.isf(0.025 / len(one), result.df)
            assert stats.t.isf(0.025, result.df) < result.critical < 1.03 * bonferroni


def test_a_smaller_level_has_wider_intervals() -> None:
    y = table(4, 6)
    wide, narrow = against_first(y, level=0.01)[0], against_first(y)[0]
    assert wide.low < narrow.low and narrow.high < wide.high


def test_weighted_contrasts_and_wrong_ones() -> None:
    y = table(6, 8)
    w = np.array([0, 1, -0.5, -0.5, 0, 0])
    (result,) = contrasts(y, w)
    fit = fit_blocks(y)
    assert result.estimate == pytest.approx(w @ y.mean(axis=1))
    assert result.error == pytest.approx(np.sqrt((w**2 * fit.variances).sum() / 8))
    for wrong in ([1, -1], [0, 0, 0], [1, 0, 0], [[1, -1, 0], [0, 0, 0]]):
        with pytest.raises(ValueError, match="needed"):
            contrasts(table(3, 4), wrong)


def test_with_folds_the_larger_of_two_variances_counts() -> None:
    folds = [table(3, 6, seed) for seed in range(4)]
    # All folds of a seed of the first arm are off by the same: only the passes show that.
    for fold in folds:
        fold[0] += np.array([0.2, -0.2, 0.1, -0.1, 0.3, -0.3])
    y = np.mean(folds, axis=0)
    plain, fit = fit_blocks(y), fit_passes(y, folds)
    within = np.mean([fit_blocks(fold).variances for fold in folds], axis=0) / 4
    assert fit.variances == pytest.approx(np.maximum(plain.variances, within))
    opposed = [y + 0.05 * sign * table(3, 6, 9) for sign in (1, -1)]  # cancels in each pass
    fit = fit_passes(y, opposed)
    assert (fit.variances > 0).all() and fit.means == pytest.approx(plain.means)
    larger = fit.variances > plain.variances
    assert fit.dfs == pytest.approx(np.where(larger, 2, 1) * plain.dfs)


def test_the_interval_of_a_mean_is_plain_t() -> None:
    y = table(1, 4)[0]
    assert mean_interval(y) == pytest.approx(stats.t.interval(0.95, 3, y.mean(), stats.sem(y)))
    assert mean_interval(np.array([NAN, *y])) == mean_interval(y)
    assert np.isnan([*mean_interval(y[:1]), *mean_interval(y[:0])]).all()


def test_the_recipe_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[3]
    text = (root / "docs/statistics.md").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(root)
    made: dict[str, Any] = {}
    exec(recipe, made)
    y, weights, result = made["y"], np.array(made["weights"]), made["contrast"]
    assert result.estimate == pytest.approx(weights @ y.mean(axis=1))
    assert result.low < result.estimate < result.high


@pytest.mark.parametrize(("arms", "blocks"), [(2, 3), (2, 5), (5, 4), (5, 5), (12, 10)])
def test_what_a_design_can_show_has_the_power_it_names(arms: int, blocks: int) -> None:
    planned = planned_contrast(arms, blocks, 0.01)
    critical = planned.critical
    assert planned.error == pytest.approx(0.01 * np.sqrt(2 / blocks))
    found = stats.nct.sf(critical, planned.df, detectable(planned) / planned.error)
    assert found == pytest.approx(0.8, abs=1e-4)
    rng = np.random.default_rng(0)
    errors = planned.error * np.sqrt(rng.chisquare(planned.df, 20_000) / planned.df)
    estimates = planned.error * rng.standard_normal(20_000)
    inside = np.abs(estimates) + critical * errors < smallest_margin(planned)
    assert 0.79 < inside.mean() < 0.9


def test_a_planned_study_is_tested_as_it_will_be() -> None:
    random = np.random.default_rng(0)
    for arms, blocks in ((2, 6), (5, 5), (12, 8)):
        planned = planned_contrast(arms, blocks)
        # Of very many equal tables the middle one is what was planned.
        real = [against_first(random.normal(size=(arms, blocks)), draws=400)[0] for _ in range(300)]
        assert np.median([c.df for c in real]) == pytest.approx(planned.df, rel=0.25)
        assert np.median([c.critical for c in real]) == pytest.approx(planned.critical, rel=0.15)
        assert np.sqrt(np.mean([c.error**2 for c in real])) == pytest.approx(planned.error, rel=0.1)


def test_power_at_its_limits() -> None:
    normal = stats.norm.isf(0.025) + stats.norm.ppf(0.8)  # with known variance
    assert detectable(planned_contrast(2, 100_000)) == pytest.approx(
        normal * np.sqrt(2 / 100_000), 1e-3
    )
    none = planned_contrast(3, 2)
    assert np.isnan([detectable(none), smallest_margin(none)]).all()
    assert blocks_needed(none, 0.02, 3, 2) is None
    still = Contrast(3, 0.1, 0.1, 0.1, (0.1, 0.1), 0.0, 4.0, 2.8, "hull")
    assert blocks_needed(still, 0.02, 3, 2) == (5, 5)


def test_blocks_needed_are_the_first_with_the_power_for_little_and_much_noise() -> None:
    c = Contrast(6, 0.03, -0.01, 0.07, (-0.01, 0.07), 0.012, 5.0, 2.6, "own")
    needed = blocks_needed(c, 0.001, 2, 1)
    assert needed is not None and needed[1] is not None
    for n, share in zip(needed, (0.9, 0.1), strict=True):
        noise = 0.012 * np.sqrt(6 * 5 / stats.chi2.ppf(share, 5))
        power = [
            stats.nct.sf(stats.t.isf(0.025, m - 1), m - 1, 0.03 / (noise / np.sqrt(m)))
            for m in (n - 1, n)
        ]
        assert power[1] >= 0.8 and (power[0] < 0.8 or n == 7)
    more = blocks_needed(c, 0.001, 10, 9)
    assert more is not None and more[0] >= needed[0]
    # A vanishing difference needs a margin; without one there is no end.
    flat = Contrast(6, 0.0, -0.01, 0.01, (-0.01, 0.01), 0.005, 5.0, 2.6, "own")
    assert blocks_needed(flat, 1e-6, 2, 1) is None
    assert blocks_needed(flat, 0.02, 2, 1) is not None
