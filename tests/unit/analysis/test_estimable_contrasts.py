"""No verdict is lost: what ordinary least squares can estimate, the fit of blocks estimates."""

from __future__ import annotations

import numpy as np
import pytest
from small_studies import cells_with, study

from passt_bench.analysis.compare import compare
from passt_bench.analysis.statistics import Floats, contrast, fit_blocks, pool_variance

NAN = float("nan")
RANDOM = np.random.default_rng


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


@pytest.mark.parametrize("arms", [2, 3, 4, 9, 10, 16])
def test_complete_studies_and_each_variant_left_out_in_turn(arms: int) -> None:
    for blocks in (2, 3, 5, 10, 21, 22, 28, 29, 40):
        y = RANDOM(100 * arms + blocks).normal(0.8, 0.02, (arms, blocks))
        estimates, errors = least_squares(y)
        found = fitted(y)
        np.testing.assert_allclose(found[0], estimates, atol=1e-12)
        np.testing.assert_allclose(found[1], errors, atol=1e-12)
        for left_out in range(arms if arms > 2 else 0):
            rest = y.copy()
            rest[left_out] = NAN
            # On a complete table least squares gives the differences of the means.
            first = 0 if left_out else 1
            estimates, errors = fitted(rest)
            expected = y.mean(axis=1) - y[first].mean()
            expected[left_out] = NAN
            np.testing.assert_allclose(estimates, expected, atol=1e-12, equal_nan=True)
            scales = np.full(arms, np.sqrt(2 / blocks))
            scales[first], scales[left_out] = 0.0, NAN
            np.testing.assert_allclose(errors, scales, atol=1e-12, equal_nan=True)


def test_studies_with_holes() -> None:
    random = RANDOM(5)
    for _ in range(60):
        arms, blocks = int(random.integers(2, 17)), int(random.integers(2, 41))
        y = random.normal(0.8, 0.02, (arms, blocks))
        y[random.random(y.shape) < 0.3] = NAN
        y[0] = 0.8  # the baseline has every block, so that all contrasts can be estimated
        np.testing.assert_allclose(fitted(y)[0], least_squares(y)[0], atol=1e-11, equal_nan=True)


def test_a_noisy_variant_costs_the_others_no_verdict() -> None:
    names, lost = ("none", "noisy", "a", "b", "c"), 0
    for seed in range(40):
        y = RANDOM(seed).normal(0, 0.01, (5, 10))
        y[1] *= 12
        y[2:] += 0.1
        of = study(names, seeds=range(10))
        found = compare(of, cells_with(of, dict(zip(names, y + 0.5, strict=True))))
        assert pool_variance(y).noisy[1]
        assert all("Holm over 4" in c.method for c in found)
        lost += sum(c.verdict != "better" for c in found[1:])
    assert lost == 0


def test_arms_that_share_no_block_are_compared_by_way_of_the_others() -> None:
    y = RANDOM(4).normal(0.8, 0.02, (5, 6))
    y[0, :3] = y[1, 3:] = NAN  # the others have all six
    pool = pool_variance(y)
    assert not pool.noisy.any()
    found = contrast(y, pool, 1, 0)
    assert found.estimate == pytest.approx(least_squares(y)[0][1])
    assert np.isnan(found.error)  # a test needs two blocks in common


def test_a_noisy_arm_connects_the_others_too() -> None:
    y = RANDOM(0).normal(0.8, 0.01, (4, 16))
    y[0, 8:] = y[1, :8] = y[3, 8:] = NAN
    y[2] += RANDOM(1).normal(0, 0.5, 16)  # the only one with all blocks
    pool = pool_variance(y)
    assert pool.noisy[2] and not pool.pooled[2]
    found = contrast(y, pool, 1, 0)
    assert found.estimate == pytest.approx(least_squares(y)[0][1])
    assert (found.n, np.isnan(found.error)) == (0, True)


def test_what_cannot_be_estimated_is_called_so_and_enters_no_correction() -> None:
    values = {
        "none": [0.5, 0.51, 0.52, NAN, NAN],
        "apart": [NAN, NAN, NAN, 0.5, 0.5],
        "far": [0.7, 0.712, 0.721, NAN, NAN],
        "near": [0.69, 0.7, 0.711, NAN, NAN],
    }
    of = study(tuple(values), seeds=range(5))
    apart, far, near = compare(of, cells_with(of, values))
    assert apart.verdict == "not estimable"
    assert apart.value == pytest.approx(0.5)
    assert np.isnan([apart.difference, apart.p]).all()
    assert apart.blocks_needed is None
    assert [far.verdict, near.verdict] == ["better", "better"]
    assert "Holm over 2" in far.method
