from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from passt_bench.analysis.power import blocks_to_settle, detectable, smallest_margin

NAN = float("nan")


@pytest.mark.parametrize(("df", "comparisons"), [(2, 1), (2, 9), (18, 9), (1000, 1)])
def test_detectable_has_the_power_it_names(df: int, comparisons: int) -> None:
    difference = detectable(0.01, df, comparisons)
    critical = stats.t.isf(0.025 / comparisons, df)
    assert stats.nct.sf(critical, df, difference / 0.01) == pytest.approx(0.8, abs=1e-4)


def test_detectable_of_known_variance_is_the_normal_formula() -> None:
    assert detectable(1.0, 1e7) == pytest.approx(stats.norm.isf(0.025) + stats.norm.ppf(0.8), 1e-4)


def test_no_degrees_of_freedom_show_nothing() -> None:
    assert np.isnan(detectable(NAN, 0))
    assert np.isnan(detectable(0.1, 0))
    assert np.isnan(smallest_margin(0.1, 0))
    assert detectable(0.0, 4) == 0.0


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


def test_without_noise_the_next_block_settles() -> None:
    assert blocks_to_settle(0.1, 0.0, 1, margin=0.02, more_than=1) == 2
