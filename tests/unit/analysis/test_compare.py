from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_studies import cells_with, run, study

from passt_bench.analysis.compare import (
    Comparison,
    block_table,
    block_tables,
    judge,
)
from passt_bench.analysis.frame import cells_of
from passt_bench.errors import InputError
from passt_bench.records.run import EarlierLook, Status, StudyRecord
from passt_bench.registry import METRICS
from passt_bench.spec.study import DEFAULT_MARGIN
from passt_bench.training.metrics import Metric

NAN = float("nan")
BASE = (0.90, 0.92, 0.91, 0.93, 0.89)
WIGGLE = np.array([0.001, -0.001, 0.0, 0.0015, -0.0015])


def shifted(by: float, turn: int = 0, scale: float = 1.0) -> list[float]:
    return [float(v) for v in np.array(BASE) + by + scale * np.roll(WIGGLE, turn)]


def compare(of: StudyRecord, cells: pd.DataFrame) -> list[Comparison]:
    return judge(of, cells).comparisons


def one(values: dict[str, Sequence[float]], margin: float | None = None) -> Comparison:
    of = study(tuple(values), seeds=range(5), margin=margin)
    return compare(of, cells_with(of, values))[0]


def test_verdicts() -> None:
    values = {
        "none": BASE,
        "up": shifted(0.03, 1),
        "down": shifted(-0.03, 2),
        "equal": shifted(0.0005, 3),
        "slight": shifted(0.004, 4),
        "broken": [NAN] * 5,
    }
    of = study(tuple(values), seeds=range(5), margin=0.01)
    cells = cells_with(of, values)
    comparisons = compare(of, cells)
    assert compare(of, cells.sample(frac=1, random_state=0))[:-1] == comparisons[:-1]  # no NaN
    found = {c.variant: c for c in comparisons}
    assert {name: c.verdict for name, c in found.items()} == {
        "up": "better", "down": "worse", "equal": "same", "slight": "same", "broken": "failed",
    }  # fmt: skip
    assert found["slight"].real and not found["equal"].real
    assert np.isnan([found["broken"].difference, found["broken"].low]).all()
    assert all(c.blocks_needed is None for c in comparisons)
    up = found["up"]
    assert up.difference == pytest.approx(0.03)
    assert (up.baseline, up.n) == ("none", 5)
    assert up.low < 0.03 < up.high
    assert "simultaneous over 4" in up.method


def test_failures_cost_their_blocks_only() -> None:
    some = [NAN, *shifted(0.03, 1)[1:3], NAN, shifted(0.03, 1)[4]]
    found = one({"none": BASE, "some": some, "all": shifted(0.0, 2)}, margin=0.001)
    assert (found.n, found.verdict) == (3, "better")
    assert found.difference == pytest.approx(0.03, abs=0.002)
    # Without a baseline all stays open, and enters no correction.
    found = one({"none": [NAN] * 5, "time": BASE})
    assert (found.verdict, found.n, found.blocks_needed) == ("not estimable", 0, None)
    assert np.isnan([found.difference, found.low]).all()
    for of in (study(), study(folds=(1, 2))):
        nothing = cells_of(of, {})
        assert [c.verdict for c in compare(of, nothing)] == ["failed", "failed"]
        assert block_table(of, nothing, "mAP").isna().all().all()


def test_undecided_says_what_it_takes_and_two_seeds_decide_nothing() -> None:
    maybe = one({"none": BASE, "maybe": shifted(0.012, 1, scale=12)}, margin=0.001)
    assert maybe.verdict == "undecided"
    assert maybe.detectable > abs(maybe.difference)
    fewest, most = maybe.blocks_needed or (0, 0)
    assert fewest > 5 and (most is None or most > fewest)
    for seeds in ((7,), (7, 8)):
        of, n = study(seeds=seeds), len(seeds)
        found = compare(
            of, cells_with(of, {"none": [0.9] * n, "time": [0.1] * n, "frequency": [0.9] * n})
        )
        assert [c.verdict for c in found] == ["no verdict", "no verdict"]
        assert found[0].blocks_needed is None
        assert found[0].difference == pytest.approx(-0.8)
        assert np.isnan([found[0].low, found[0].high, found[0].detectable]).all()


def test_intervals_end_where_the_metric_does_and_two_seeds_have_none() -> None:
    values = {"none": [0.99, 0.2, 0.9], "time": [0.1, 0.95, 0.02]}
    of = study(tuple(values), seeds=range(3))
    found = judge(of, cells_with(of, values))
    assert [(mean.low, mean.high) for mean in found.means] == [(0.0, 1.0), (0.0, 1.0)]
    assert (found.comparisons[0].low, found.comparisons[0].high) == (-1.0, 1.0)
    two = study(tuple(values), seeds=range(2))
    means = judge(two, cells_with(two, {name: row[:2] for name, row in values.items()})).means
    assert np.isnan([(mean.low, mean.high) for mean in means]).all()


def test_there_is_no_verdict_before_the_planned_seeds_have_ended() -> None:
    values = {"none": BASE, "up": shifted(0.03, 1), "down": shifted(-0.03, 2)}
    of = study(tuple(values), seeds=range(5))
    found = compare(replace(of, looks=(6,)), cells_with(of, values))
    assert [c.verdict for c in found] == ["no verdict", "no verdict"]
    assert found[0].low < 0.03 < found[0].high


def test_later_seeds_are_not_judged_and_several_looks_are_stricter() -> None:
    values = {"none": [*BASE, 0.9], "up": [*shifted(0.03, 1), 0.1]}
    of = study(tuple(values), seeds=range(6))
    cells = cells_with(of, values)
    planned = compare(replace(of, looks=(5,)), cells)[0]
    assert (planned.n, planned.verdict) == (5, "better")
    assert compare(of, cells)[0].n == 6
    several = replace(of, looks=(3, 5, 9))
    strict = compare(several, cells)[0]
    assert strict.n == 5 and strict.high - strict.low > planned.high - planned.low
    first = compare(replace(several, looks=(3, 7, 9)), cells)
    assert first[0].n == 3


def test_runs_that_another_study_judged_with_other_seeds_have_no_verdict() -> None:
    values = {"none": BASE, "up": shifted(0.03, 1), "down": shifted(-0.03, 2)}
    contrasts = {"pairs": {"up − down": {"up": 1.0, "down": -1.0}}}
    of = replace(study(tuple(values), seeds=range(5)), contrasts=contrasts)
    cells = cells_with(of, values)

    def verdicts(*variants: str, seeds: int = 3, looks: tuple[int, ...] = (3,)) -> list[str]:
        before = EarlierLook("first", 7, variants, tuple(range(seeds)), looks)
        judged = judge(replace(of, earlier=(before,)), cells)
        return [c.verdict for c in (*judged.comparisons, *judged.declared()["pairs"])]

    assert verdicts("none", "up") == ["no verdict", "worse", "better"]
    assert verdicts("up", "down") == ["better", "worse", "no verdict"]
    assert verdicts("none", "up", seeds=10, looks=(10,))[0] == "no verdict"
    assert verdicts("none", "up", seeds=5, looks=(3, 5))[0] == "no verdict"
    # The same seeds at the same look, in another family, are said and judged.
    same = EarlierLook("first", 7, ("none", "up"), of.seeds, (5,))
    again = replace(of, earlier=(same,))
    assert judge(again, cells).comparisons == compare(of, cells)
    assert again.further_look == (
        "“none”, “up”: “first” judged these runs before, planned with 5 seeds and 7 variants. "
        "Where verdicts differ, those there hold."
    )
    # A wider margin after the verdicts would turn them into "same".
    assert judge(replace(of, earlier=(replace(same, margin=0.02),)), cells).comparisons[0].real
    wider = replace(of, margin=0.05, earlier=(replace(same, margin=0.02),))
    assert judge(replace(wider, earlier=()), cells).comparisons[0].verdict == "same"
    assert judge(wider, cells).comparisons[0].verdict == "no verdict"
    assert "7 variants, with a margin of ±0.02, here ±0.05. There is no ver" in wider.further_look
    other = replace(of, earlier=(replace(same, seeds=(0, 1, 2), looks=(3,)),))
    assert other.further_look.endswith(". There is no verdict here: those there hold.")


def test_a_difference_has_one_interval_which_is_its_own_for_a_primary_question() -> None:
    rows = {f"v{n}": shifted(0.001 * n, n, 3.0 + n) for n in range(1, 7)}
    values = {"none": BASE} | rows
    pair = {"v4": 1.0, "none": -1.0}
    contrasts = {
        "some": {"one": pair | {"v5": 0.0}, "turned": {"none": 1.0, "v4": -1.0},
                 "other": {"v4": 1.0, "v5": -1.0}},
        "primary": {"one": pair},
    }  # fmt: skip
    of = replace(study(tuple(values), seeds=range(5), margin=0.02), contrasts=contrasts)
    cells = cells_with(of, values)
    others = compare(of, cells)
    main = next(c for c in others if c.variant == "v4")
    found = judge(of, cells).declared()
    same, turned, other = found["some"]
    assert replace(same, variant="v4", baseline="none") == main
    assert (turned.difference, turned.low, turned.high) == (-main.difference, -main.high, -main.low)
    assert "over 3" in other.method
    (primary,) = found["primary"]
    assert replace(primary, variant="v4", baseline="none") == main
    together = compare(replace(of, contrasts={}), cells)
    for own, wide in zip(others, together, strict=True):  # the others cover together as before
        narrower = own.low > wide.low and own.high < wide.high
        assert narrower == (own.variant == "v4") and (narrower or own == wide)
    # Of several such families none is primary, nor one that was declared afterwards.
    second = {"second": {"v1": {"v1": 1.0, "none": -1.0}}}
    assert compare(replace(of, contrasts=contrasts | second), cells) == together
    assert compare(replace(of, contrasts_changed="2026-01-01"), cells) == together
    # What is not declared is not primary, and what is declared as well is judged once.
    third = {"three": {"v3": 1.0, "none": -1.0, "v5": 0.0}}
    derived = judge(of, cells).declared({"at equal time": third | {"one": pair}})
    (three,) = derived["at equal time"]
    assert (three.low, three.high) == next((c.low, c.high) for c in others if c.variant == "v3")
    # The declared order only decides what comes first.
    order = (("primary", "one"), ("some", "turned"), ("some", "other"), ("some", "one"))
    ordered = judge(replace(of, contrast_order=order), cells).declared({"at equal time": third})
    assert list(ordered) == ["primary", "some", "at equal time"]
    assert ordered["some"] == [turned, other, same] and ordered["primary"] == [primary]
    # Where only one of a family has begun, it is still not primary.
    part = replace(of, variants=tuple(v for v in of.variants if v.name != "v5"))
    (turned,) = judge(part, cells).declared()["some"]
    assert turned.high == -next(c for c in compare(part, cells) if c.variant == "v4").low


def test_identical_results_are_the_same_and_constant_ones_differ() -> None:
    same = one({"none": BASE, "copy": BASE})
    assert (same.verdict, same.margin) == ("same", DEFAULT_MARGIN)
    assert one({"none": BASE, "copy": BASE}, margin=0.001).margin == 0.001
    constant = one({"none": BASE, "plus": [v + 0.03 for v in BASE]})
    assert constant.verdict == "better"
    assert "do not vary" in constant.method


def test_means_include_the_baseline_and_the_failed() -> None:
    of = study(seeds=range(5))
    means = judge(of, cells_with(of, {"none": BASE, "time": shifted(0.01, 1)})).means
    assert [m.n for m in means] == [5, 5, 0]
    assert means[0].value == pytest.approx(0.91)
    assert means[0].low < 0.91 < means[0].high
    assert np.isnan([means[2].value, means[2].low]).all()


WHOLE, TWO = (0.1, 0.2, 0.6), (0.1, 0.3)


@pytest.mark.parametrize(
    ("none", "time", "expected"),
    [
        # A pass over all folds is one observation; a fold that failed costs its seed.
        ([WHOLE, (0.2, 0.3, 0.4)], [(0.3, 0.4, 0.8), (0.3, 0.4, NAN)], [[0.3, 0.3], [0.5, NAN]]),
        # Folds that were run for everybody serve, and a further one of one variant alone does not.
        ([(*TWO, 0.9), TWO], [TWO, TWO], [[0.2, 0.2], [0.2, 0.2]]),
        # A seed that has just begun takes no folds from the others.
        ([WHOLE, WHOLE, (0.1,)], [WHOLE, WHOLE], [[0.3, 0.3, NAN], [0.3, 0.3, NAN]]),
    ],
)
def test_folds_of_a_seed_are_one_observation(
    none: list[tuple[float, ...]], time: list[tuple[float, ...]], expected: list[list[float]]
) -> None:
    of = study(("none", "time"), seeds=range(len(none)), folds=(1, 2, 3))
    records = {}
    for name, by_seed in (("none", none), ("time", time)):
        for seed, folds in enumerate(by_seed):
            for fold, value in enumerate(folds, 1):
                status: Status = "ok" if np.isfinite(value) else "error"
                record = run(of, name, seed, value, fold=fold, status=status)
                records[record.key] = record
    table, *folds = block_tables(of, cells_of(of, records), "mAP")
    np.testing.assert_allclose(table.loc[["none", "time"]], expected)
    np.testing.assert_allclose(np.mean([fold.loc[["none", "time"]] for fold in folds], 0), expected)


def test_less_of_a_loss_is_better_unless_the_record_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Loss(Metric):
        better = "less"

        def compute(self, targets, scores):
            raise NotImplementedError

    monkeypatch.setattr(METRICS, "_table", {item.name: item for item in METRICS.all()})
    METRICS.register("loss", version=1, summary="as a plug-in would register it")(Loss())
    values = {"none": BASE, "up": shifted(0.03, 1), "down": shifted(-0.03, 2)}
    of = study(tuple(values), seeds=range(5))
    cells = cells_with(of, values)  # loss is 1 - mAP
    assert [c.verdict for c in compare(of, cells)] == ["better", "worse"]
    of = replace(of, metric="loss")
    assert of.better is None
    up, down = compare(of, cells)
    assert [up.verdict, down.verdict] == ["better", "worse"]
    assert up.difference == pytest.approx(-0.03)
    of = replace(of, better="greater")
    assert [c.verdict for c in compare(of, cells)] == ["worse", "better"]


@pytest.mark.parametrize(
    "column",
    ["message", "nonsense", "tokens"],  # no numbers, no column, no direction
)
def test_what_is_no_metric_is_refused(column: str) -> None:
    values = {"none": BASE, "up": shifted(0.03, 1)}
    of = study(tuple(values), seeds=range(5))
    with pytest.raises(InputError) as caught:
        compare(replace(of, metric=column), cells_with(of, values))
    assert (caught.value.field, caught.value.value) == ("metric", column)


def test_variants_with_the_same_runs_are_one_arm_and_one_contrast() -> None:
    values = {"none": BASE, "rate": shifted(0.01, 1, 5.0), "time": shifted(-0.01, 2, 9.0)}
    of = study(tuple(values), seeds=range(5))
    _, rate, *_, copy = study((*values, "count"), seeds=range(5)).variants
    counts = replace(rate.recipe.patchout, rate=None, patches=32)
    recipe = replace(rate.recipe, patchout=counts)
    copy = replace(copy, recipe=recipe, patchout=rate.patchout)
    pair = {"count": 1.0, "rate": -1.0}
    contrasts = {
        "pairs": {"one": {"rate": 1.0, "time": -1.0}, "again": {"count": 1.0, "time": -1.0}}
    }
    twice = replace(of, variants=(*of.variants, copy), contrasts=contrasts)
    cells = cells_with(twice, values | {"count": values["rate"]})
    judged = judge(twice, cells)
    assert judged.same == {"count": "rate"}
    *first, again = judged.comparisons
    assert first == compare(of, cells_with(of, values))  # as if it were not there
    assert replace(again, variant="rate") == first[0] and "over 2" in again.method
    one, other = judged.declared()["pairs"]
    assert replace(other, variant="one") == one and "over 1" in one.method
    (nothing,) = judged.declared({"same": {"none": pair}})["same"]
    assert (nothing.difference, nothing.low, nothing.high, nothing.verdict) == (0, 0, 0, "same")
    # Equal settings with other results, or equal results of other settings, are two variants.
    assert not judge(twice, cells_with(twice, values | {"count": shifted(0.01, 2)})).same
    other = replace(copy, recipe=replace(copy.recipe, patchout=replace(counts, scope="sample")))
    apart = replace(twice, variants=(*of.variants, other))
    assert not judge(apart, cells).same
