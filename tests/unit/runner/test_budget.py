"""Budgets: what the variants of a study share, in whole steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_studies import session, study

from passt_bench.errors import InputError
from passt_bench.records.store import Store
from passt_bench.runner.budget import (
    check_budgets,
    known_ratios,
    spent,
    step_ratios,
    too_short,
    with_budget,
)
from passt_bench.runner.estimates import summarize_model
from passt_bench.spec import ModelSpec, Patchout, Recipe, Study, Variant, override
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.key import digest
from passt_bench.training.batches import total_steps

CLIPS, CLASSES = 1000, 10  # 31 steps of 32 clips an epoch
BASE = override(Recipe(ModelSpec("passt_micro"), frontend=frontend_of("passt_micro")),
                {"training.epochs": 20})  # fmt: skip
HALF = {"patchout": Patchout("unstructured", rate=0.5)}


def made(shared: Any, **budgets: float) -> Study:
    variants = (Variant("none"), Variant("half", HALF, budget=budgets.pop("half", 1.0)))
    more = tuple(Variant(name, budget=budget) for name, budget in budgets.items())
    return Study("s", "q", BASE, (*variants, *more), "none", shared=shared)


def steps(study: Study, variant: str, ratios: dict[str, float] | None = None) -> int:
    recipe = with_budget(study, study.variant(variant), CLIPS, CLASSES, ratios)
    return total_steps(recipe.training, CLIPS)


def test_what_is_shared_is_equal_to_within_a_hundredth() -> None:
    none, half = (summarize_model(override(BASE, c), CLASSES) for c in ({}, HALF))
    assert half.tokens < none.tokens
    assert steps(made("epochs"), "half") == steps(made("steps"), "half") == 620
    for shared, ratio in (
        ("tokens", none.tokens / half.tokens),
        ("flops", none.flops / half.flops),
        ("seconds", none.flops / half.flops),  # not measured yet
    ):
        assert steps(made(shared), "half") == round(620 * ratio)
        assert steps(made(shared, half=2), "half") == round(2 * 620 * ratio)
        # The baseline is the unit, so it stays as it is, and shares its runs with other studies.
        study = made(shared)
        assert with_budget(study, study.variant("none"), CLIPS, CLASSES) == study.base
    assert steps(made("seconds"), "half", {"none": 1.0, "half": 0.6}) == round(620 / 0.6)
    assert steps(made("epochs", more=1.5), "more") == 930
    assert steps(made("flops", more=4), "more") == 4 * 620


def test_the_batch_counts() -> None:
    study = made("flops")
    study = replace(study, variants=(*study.variants, Variant("big", {"training.batch_size": 64})))
    assert steps(study, "big") == 310
    assert steps(replace(study, shared="steps"), "big") == 620


def test_variants_too_short_are_refused_together_with_the_least_epochs_that_are_enough() -> None:
    study = made("flops", quarter=0.25, third=1 / 3)
    study = replace(study, base=override(BASE, {"training.epochs": 8}))  # 248 steps
    with pytest.raises(InputError) as caught:
        check_budgets(study, study.variants, CLIPS, CLASSES)
    assert "'quarter' has 62 of 100, 'third' has 83 of 100" in caught.value.problem
    assert (caught.value.field, caught.value.value) == ("training.epochs", 8)
    assert caught.value.remedy == "Give training.epochs=13."
    for epochs, short in ((12, {"quarter": (93, 100)}), (13, {})):
        longer = replace(study, base=override(BASE, {"training.epochs": epochs}))
        assert too_short(longer, longer.variants, CLIPS, CLASSES) == short
    check_budgets(study, study.variants[:2], CLIPS, CLASSES)  # only those that are selected


def test_what_was_spent() -> None:
    study = made("flops")
    for name in ("none", "half"):
        recipe = with_budget(study, study.variant(name), CLIPS, CLASSES)
        found = spent(recipe, CLIPS, CLASSES)
        assert found["flops"] == pytest.approx(
            20 * 31 * 32 * summarize_model(BASE, CLASSES).flops, rel=0.01
        )
        assert found["epochs"] == pytest.approx(found["steps"] / 31)
    assert found["steps"] > 620


def test_tokens_need_a_model_that_has_some() -> None:
    cnn = Variant("CNN", {"model": ModelSpec("panns_micro")})
    study = made("tokens")
    study = replace(study, variants=(*study.variants, cnn))
    with pytest.raises(InputError) as caught:
        with_budget(study, cnn, CLIPS, CLASSES)
    assert (caught.value.field, caught.value.value) == ("shared", "tokens")


def test_ratios_come_from_the_oldest_sessions_and_need_all_variants() -> None:
    of = study(("none", "time"))
    first = session("a", "2026-11-01", {"none": 0.2, "time": 0.1})
    later = session("b", "2026-11-02", {"none": 0.2, "time": 0.15})
    assert step_ratios(of, [later, first]) == {"none": 1.0, "time": 0.5}
    assert step_ratios(study(("none", "time", "more")), [first]) is None
    failed = session("a", "2026-11-01", {"none": 0.2, "time": 0.1}, failed=["time"])
    assert step_ratios(of, [failed]) is None
    assert step_ratios(of, []) is None


def test_ratios_on_record_hold_where_all_variants_cost_the_same(tmp_path: Path) -> None:
    store, of = Store(tmp_path), study(("none", "time"))
    assert known_ratios(of, store) is None
    store.write_study(replace(of, step_ratios={"none": 1.0, "time": 0.5}))
    assert known_ratios(replace(of, name="renamed"), store) == {"none": 1.0, "time": 0.5}
    other = tuple(replace(v, arm=digest("another model")) for v in of.variants)
    assert known_ratios(replace(of, variants=other), store) is None
    assert known_ratios(study(("none", "time", "more")), store) is None


@pytest.mark.parametrize("budget", [0.0, -1.0, float("inf")])
def test_bad_budgets_are_refused(budget: float) -> None:
    with pytest.raises(InputError) as caught:
        made("flops", half=budget)
    assert caught.value.field == "variants.half.budget"


def test_an_unknown_cost_and_another_budget_of_the_baseline_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        made("minutes")
    assert caught.value.field == "shared"
    with pytest.raises(InputError) as caught:
        Study("s", "q", BASE, (Variant("none", budget=2), Variant("half", HALF)), "none")
    assert caught.value.field == "variants.none.budget"


def test_a_baseline_too_short_to_be_divided_is_refused_with_the_least_epochs() -> None:
    short = replace(made("flops", half=2.0), base=override(BASE, {"training.epochs": 3}))
    assert steps(short, "half") > 2 * 100 and steps(short, "none") == 93
    with pytest.raises(InputError) as caught:
        check_budgets(short, short.variants, CLIPS, CLASSES)
    assert "each needs 100 at least, and an epoch; 'none' has 93 of 100" in caught.value.problem
    assert (caught.value.field, caught.value.value) == ("training.epochs", 3)
    assert caught.value.remedy == "Give training.epochs=4."
    one = replace(
        short, shared="epochs", variants=(short.variants[0], Variant("b", shares="steps"))
    )
    assert too_short(one, one.variants, CLIPS, CLASSES) == {"none": (93, 100), "b": (93, 100)}
    # At equal epochs nothing is divided.
    whole = replace(short, shared="epochs", variants=(short.variants[0], Variant("half", HALF)))
    assert too_short(whole, whole.variants, CLIPS, CLASSES) == {}
