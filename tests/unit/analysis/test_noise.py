from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_studies import cells_with, study

from passt_bench.analysis.noise import noise_floor
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord
from passt_bench.spec import Recipe


def salted(arms: int, seeds: int) -> StudyRecord:
    names = [f"salt {i}" for i in range(arms)]
    recipes = [replace(Recipe(), salt=i) for i in range(arms)]
    return study(names, seeds=range(seeds), recipes=recipes)


def test_the_floor_of_known_noise() -> None:
    of = salted(8, 40)
    rng = np.random.default_rng(0)
    values = {v.name: (0.9 + rng.normal(0, 0.01, 40)).tolist() for v in of.variants}
    floor = noise_floor(of, cells_with(of, values))
    assert floor.deviation == pytest.approx(0.01 * np.sqrt(2), rel=0.1)
    assert (floor.arms, floor.n, floor.df) == (8, 40, 7 * 39)
    assert floor.false_positives == ()
    assert floor.largest < 0.01
    # For many blocks the normal formulas: (1.645 + 1.282) and (2.69 + 0.84) standard errors.
    error = floor.deviation / np.sqrt(40)
    assert floor.margin(40, 8) == pytest.approx((1.645 + 1.2816) * error, rel=0.02)
    assert floor.detectable(40, 8) == pytest.approx((2.69 + 0.8416) * error, rel=0.02)
    assert floor.margin(3, 8) > floor.margin(5, 8) > floor.margin(5, 20)


def test_two_arms_and_two_blocks_by_hand() -> None:
    of = salted(2, 2)
    floor = noise_floor(of, cells_with(of, {"salt 0": [0.5, 0.5], "salt 1": [0.51, 0.53]}))
    # Differences .01 and .03.
    assert floor.deviation == pytest.approx(np.std([0.01, 0.03], ddof=1))
    assert floor.largest == pytest.approx(0.02)


def test_one_block_measures_no_noise() -> None:
    of = salted(3, 1)
    floor = noise_floor(of, cells_with(of, {v.name: [0.5] for v in of.variants}))
    assert floor.df == 0
    assert np.isnan([floor.deviation, floor.margin(3, 3), floor.detectable(3, 3)]).all()


def test_a_planned_study_of_one_block_shows_nothing() -> None:
    of = salted(2, 2)
    floor = noise_floor(of, cells_with(of, {"salt 0": [0.5, 0.5], "salt 1": [0.51, 0.53]}))
    assert np.isnan([floor.margin(1, 5), floor.margin(0, 5), floor.detectable(1, 5)]).all()


def test_nothing_run_is_no_floor() -> None:
    of = salted(2, 2)
    floor = noise_floor(of, cells_with(of, {}))
    assert (floor.arms, floor.n) == (0, 0)
    assert np.isnan([floor.deviation, floor.largest]).all()


def test_a_study_of_real_differences_is_refused() -> None:
    of = study()
    with pytest.raises(InputError, match="time: not an A/A study"):
        noise_floor(of, cells_with(of, {}))
