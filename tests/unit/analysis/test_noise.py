from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_studies import cells_with, run, study

from passt_bench.analysis.noise import design_sentence, known_floor, noise_floor
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import Store
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
    assert floor.df == 7 * 39
    # For many blocks the normal formulas, with Dunnett's 2.64 for seven comparisons.
    error = floor.deviation / np.sqrt(40)
    assert floor.margin(40, 8) == pytest.approx((2.64 + 1.2816) * error, rel=0.02)
    assert floor.detectable(40, 8) == pytest.approx((2.64 + 0.8416) * error, rel=0.02)
    assert floor.margin(3, 8) > floor.margin(5, 8) > floor.margin(6, 8)
    assert floor.margin(5, 8) < floor.margin(5, 20)


def test_two_arms_and_two_blocks_by_hand() -> None:
    of = salted(2, 2)
    floor = noise_floor(of, cells_with(of, {"salt 0": [0.5, 0.5], "salt 1": [0.51, 0.53]}))
    # Differences .01 and .03.
    assert floor.deviation == pytest.approx(np.std([0.01, 0.03], ddof=1))
    # A planned study of one block shows nothing, and neither does one that was not run.
    assert np.isnan([floor.margin(1, 5), floor.margin(0, 5), floor.detectable(1, 5)]).all()
    empty = noise_floor(of, cells_with(of, {}))
    assert np.isnan([empty.deviation, empty.margin(3, 3)]).all()
    of = study()  # of real differences
    with pytest.raises(InputError) as refused:
        noise_floor(of, cells_with(of, {}))
    assert refused.value.field == "time"


def test_a_plan_says_what_it_can_show(tmp_path: Path) -> None:
    store, of = Store(tmp_path), salted(6, 5)
    assert known_floor(of, [store]) is None
    rng = np.random.default_rng(1)
    store.write_study(replace(of, name="noise_floor"))
    assert known_floor(of, [store]) is None  # nothing was run
    for variant in of.variants:
        for seed in range(5):
            store.write(run(of, variant.name, seed, 0.9 + rng.normal(0, 0.01)))
    floor = known_floor(of, [Store(tmp_path / "none"), store])
    assert floor is not None and floor.deviation == pytest.approx(0.014, rel=0.4)
    assert known_floor(replace(of, metric="accuracy"), [store]) is None
    planned = replace(of, margin=0.02)
    least, same = floor.detectable(5, 6), floor.margin(5, 6)
    text = design_sentence(planned, floor)
    assert text.startswith(
        f"5 seeds will probably (0.8) show a difference of {least:.2g} or more in mAP; the "
        f"smallest margin for “not worse” is then {least:.2g}, for “same” {same:.2g}. The margin of"
        " 0.02 takes "
    )
    for word, least_of in (("not worse", floor.detectable), ("same", floor.margin)):
        seeds = int(text.partition(f" seeds for “{word}”")[0].rpartition(" ")[2])
        assert least_of(seeds, 6) <= 0.02 < least_of(seeds - 1, 6)
    assert "takes 3 seeds for “not worse”, 3 seeds for “same”." in design_sentence(
        replace(of, margin=1.0), floor
    )
    assert "over 40 seeds for “same”" in design_sentence(replace(of, margin=1e-4), floor)
    # The table of docs/statistics.md, in standard deviations.
    unknown = design_sentence(salted(5, 10), None)
    assert "of 1.6 standard deviations of a run or more" in unknown and "“same” 1.9." in unknown
    assert design_sentence(salted(6, 2), floor) == "A verdict needs 3 seeds: --seeds 3."
