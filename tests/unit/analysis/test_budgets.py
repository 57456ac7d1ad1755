"""Equal time and equal quality of models that were trained with several budgets: known truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf, log2

import numpy as np
import pandas as pd
import pytest
from small_studies import arm_key, cells_with, session, study

from passt_bench.analysis.budgets import (
    at_equal_time,
    lines,
    reach,
    relative_flops,
    relative_seconds,
)
from passt_bench.analysis.compare import block_table, judge
from passt_bench.records.run import StudyRecord
from passt_bench.records.session import ArmRecord
from passt_bench.spec import override

SEEDS = range(6)
NONE, HALF = ("none", "none 2", "none 4"), ("half", "half 2", "half 4")


def trained() -> StudyRecord:
    """None and half of the patches at 1, 2 and 4 times the FLOPs; half takes 0.6 of the time."""
    of = study((*NONE, *HALF), seeds=SEEDS)
    variants = []
    recipes = (of.variants[0].recipe, of.variants[3].recipe)
    for number, variant in enumerate(of.variants):
        first, budget = ("none", "half")[number // 3], 2.0 ** (number % 3)
        steps = 100 * budget * (2 if first == "half" else 1)
        spent = {"flops": 50.0 * budget, "steps": steps, "tokens": 1.0, "epochs": 1.0}
        recipe = recipes[number // 3]
        variants.append(replace(variant, arm=arm_key(first), spent=spent, recipe=recipe))
    return replace(of, variants=tuple(variants))


def arms(ratio: float) -> dict[str, ArmRecord]:
    by_key = {arm.key: arm for arm in session("a", "", {"none": 1.0, "half": ratio}).arms}
    return {v.name: by_key[v.arm] for v in trained().variants}


def values(of: Mapping[str, float]) -> dict[str, Sequence[float]]:
    """The value of each variant, a bit higher with each seed."""
    return {name: [value + 0.001 * seed for seed in SEEDS] for name, value in of.items()}


def table(of: StudyRecord, found: Mapping[str, float]) -> pd.DataFrame:
    return block_table(of, cells_with(of, values(found)), "mAP")


# The value grows by 0.1 with each doubling of the cost; half of the patches are 0.05 ahead.
NUMBERS = dict(zip((*NONE, *HALF), (0.5, 0.6, 0.7, 0.55, 0.65, 0.75), strict=True))


def test_costs_are_relative_to_the_baseline() -> None:
    of = trained()
    assert relative_flops(of) == dict(zip((*NONE, *HALF), (1, 2, 4, 1, 2, 4), strict=True))
    expected = dict(zip((*NONE, *HALF), (1, 2, 4, 1.2, 2.4, 4.8), strict=True))
    assert relative_seconds(of, arms(0.6)) == pytest.approx(expected)
    assert relative_seconds(of, {}) == {}
    assert [line.variants for line in lines(of, relative_flops(of))] == [NONE, HALF]
    # Other training settings are another line, though a step costs as much.
    other = override(of.variants[2].recipe, {"training.mixup": 0.3})
    mixed = replace(of, variants=(*of.variants[:2], replace(of.variants[2], recipe=other)))
    assert [line.variants for line in lines(mixed, relative_flops(mixed))] == [NONE[:2]]
    one = replace(of, variants=(of.variants[0], *of.variants[3:]))
    assert lines(one, relative_flops(one)) == []  # the baseline has one budget


def test_at_equal_time_neighbours_are_weighted_by_the_logarithm() -> None:
    of = trained()
    ((family, found),) = at_equal_time(of, relative_seconds(of, arms(0.6))).items()
    # At a time of 1 nothing with half of the patches is that short.
    assert family.endswith("at equal training time")
    assert list(found) == ["against none 2", "against none 4"]
    share = log2(2 / 1.2)
    weights = {"half": 1 - share, "half 2": share, "none 2": -1}
    assert found["against none 2"] == pytest.approx(weights)
    cells = cells_with(of, values(NUMBERS))
    declared = judge(of, cells).declared({family: found})[family]
    # What is linear in the logarithm of the cost is met exactly: 0.05 ahead, for 1.2 of the time.
    gain = 0.05 - 0.1 * log2(1.2)
    assert [c.difference for c in declared] == pytest.approx([gain, gain])
    assert all(c.verdict == "better" for c in declared)


def test_costs_until_a_target_is_reached() -> None:
    of = trained()
    found = reach(of, table(of, NUMBERS), "greater", relative_flops(of))
    assert [(r.variant, r.reached, r.n) for r in found] == [(name, 6, 6) for name in NONE]
    # Half a doubling less for all but the first, whose target the smallest budget passes.
    assert [r.share[0] for r in found] == pytest.approx([1.0, 2**-0.5, 2**-0.5])
    assert found[1].share == pytest.approx((2**-0.5,) * 3)
    lower = {name: -value for name, value in NUMBERS.items()}
    turned = reach(of, table(of, lower), "less", relative_flops(of))
    np.testing.assert_allclose([r.share for r in turned], [r.share for r in found])


def test_what_is_not_reached_is_censored_and_never_dropped() -> None:
    of = trained()
    numbers = values(NUMBERS | {"half": 0.3, "half 2": 0.4, "half 4": 0.5})
    numbers["half 4"] = [0.71 + 0.001 * seed if seed < 2 else 0.5 for seed in SEEDS]
    whole = block_table(of, cells_with(of, numbers), "mAP")
    last = reach(of, whole, "greater", relative_flops(of))[-1]
    assert (last.variant, last.reached, last.n) == ("none 4", 2, 6)
    assert last.share[0] == last.share[2] == inf and 0.9 < last.share[1] < 1
    whole.loc["half 4", 0] = np.nan  # a failed run is one point less: here the one that reached it
    last = reach(of, whole, "greater", relative_flops(of))[-1]
    assert (last.reached, last.n) == (1, 6)
