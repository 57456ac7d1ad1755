"""What a study does before its runs: it tries values for its variants, and measures seconds."""

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from planned_study import finished, planned
from rich.console import Console

from passt_bench.errors import InputError
from passt_bench.records.session import Interval
from passt_bench.records.store import Store
from passt_bench.runner.maintenance import find_removable
from passt_bench.runner.plan import StudyPlan, plan_request
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.run_status import Status
from passt_bench.runner.studies import load_study
from passt_bench.spec import Study, Tune, Variant, override
from passt_bench.spec.study import TUNING_SEED
from passt_bench.study_run import run_study

RATE = "training.learning_rate"
WIDE = {"model.width": 32}
VARIANTS = (Variant("none"), Variant("longer", budget=60), Variant("wide", WIDE, budget=60))


def tuned(file: Path, runs: Path, levels: Sequence[float] = (1e-3, 3e-3), **more: Any) -> StudyPlan:
    tune = Tune({RATE: tuple(levels)}, budget=60, **more)
    return planned(file, runs, variants=VARIANTS, seeds=(0,), tune=tune)


def write(plan: StudyPlan, runs: Path, values: Sequence[float | None]) -> None:
    for cell, value in zip(plan.tuning, values, strict=True):
        record = finished(cell, value or 0.0)
        status: Status = "ok" if value is not None else "diverged"
        Store(runs).write(replace(record, status=status, metrics=record.metrics if value else {}))


def test_every_group_gets_the_same_tries(study_file: Path, tmp_path: Path) -> None:
    plan = tuned(study_file, tmp_path, seeds=2)
    groups = [item.variants for item in plan.record.tried]
    assert groups == 2 * [("none", "longer")] + 2 * [("wide",)]
    assert [cell.seed for cell in plan.tuning] == 4 * [TUNING_SEED, TUNING_SEED + 1]
    chosen = {c.recipe.training.checkpoint_selection for c in plan.tuning}
    assert chosen == {"validation"}  # no test clip decides
    assert {c.recipe.training.steps for c in plan.tuning} == {60 * 4}  # of all clips
    assert [c.recipe.training.learning_rate for c in plan.tuning] == 2 * [1e-3, 1e-3, 3e-3, 3e-3]
    assert [c.key for c in plan.cells] == [c.key for c in planned_without(study_file, tmp_path)]


def planned_without(file: Path, runs: Path) -> Sequence[Any]:
    return planned(file, runs, variants=VARIANTS, seeds=(0,)).cells


def test_the_best_is_used_by_all_that_differ_in_their_budget(
    study_file: Path, tmp_path: Path
) -> None:
    write(tuned(study_file, tmp_path), tmp_path, [0.2, 0.4, 0.6, 0.5])
    plan = tuned(study_file, tmp_path)
    assert [(item.value, item.chosen) for item in plan.record.tried] == [
        (0.2, False), (0.4, True), (0.6, True), (0.5, False)
    ]  # fmt: skip
    rates = {c.variant: c.recipe.training.learning_rate for c in plan.cells}
    assert rates == {"none": 3e-3, "longer": 3e-3, "wide": 1e-3}
    assert {v.name: v.recipe.training.learning_rate for v in plan.record.variants} == rates
    # What was tried belongs to the study, so that clean-up keeps it.
    Store(tmp_path).write_study(plan.record)
    kept = {cell.key for cell in plan.tuning}
    removed = {path.name for item in find_removable(tmp_path) for path in item.paths}
    assert not kept & removed


def test_failures_are_not_chosen(study_file: Path, tmp_path: Path) -> None:
    write(tuned(study_file, tmp_path), tmp_path, [0.2, None, 0.4, 0.4])
    tried = tuned(study_file, tmp_path).record.tried
    assert [item.chosen for item in tried] == [True, False, True, False]  # the first of equal ones
    write(tuned(study_file, tmp_path), tmp_path, [None, None, 0.4, 0.4])
    with pytest.raises(InputError, match="tried for these variants failed"):
        tuned(study_file, tmp_path)


@pytest.mark.parametrize(
    ("levels", "problem"),
    [
        ({}, "at least two values"),
        ({RATE: (1e-3,)}, "at least two values"),
        ({"training.epochs": (1, 2)}, "the study itself decides"),
    ],
)
def test_wrong_levels(study_file: Path, levels: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        replace(load_study(str(study_file)).study, tune=Tune(levels))


def test_seeds_are_apart(study_file: Path) -> None:
    study: Study = load_study(str(study_file)).study
    with pytest.raises(InputError, match="uses the seeds from 1000 on"):
        replace(study, tune=Tune({RATE: (1e-3, 3e-3)}), seeds=(0, TUNING_SEED))


def test_a_study_is_tuned_trained_and_shown(study_file: Path, tmp_path: Path) -> None:
    file = load_study(str(study_file))
    # 1e30 diverges, so the other is chosen.
    variants, levels = (Variant("none"), Variant("wide", WIDE)), (1e30, 1e-3)
    study = replace(file.study, variants=variants, seeds=(0, 1), tune=Tune({RATE: levels}))
    told = Console(file=StringIO(), width=200)
    config = RunConfig(cost=False, track=False)
    request, paths = StudyRequest(str(study_file)), Paths(tmp_path)
    assert run_study(replace(file, study=study), request, config, paths, told)
    text = told.file.getvalue()  # type: ignore[attr-defined]
    assert "First 4 runs on a validation split choose: " in text
    record = Store(tmp_path).study(study.name)
    assert [item.chosen for item in record.tried] == [False, True, False, True]
    page = (paths.reports / study.name / "index.html").read_text()
    assert "learning_rate 1e+30 failed, " in page and "(chosen), 1 run each" in page
    records = {path.name for path in (paths.reports / study.name / "records").iterdir()}
    assert records == {*record.keys}
    told.file = StringIO()
    assert run_study(replace(file, study=study), request, config, paths, told)
    assert "First" not in told.file.getvalue() and "Nothing to train" in told.file.getvalue()


def test_equal_seconds_are_measured_once_and_before(study_file: Path, tmp_path: Path) -> None:
    file = load_study(str(study_file))
    variants = (Variant("none"), Variant("longer", budget=2), Variant("wide", WIDE, budget=4))
    base = override(file.study.base, {"training.epochs": 50})
    study = replace(file.study, base=base, variants=variants, seeds=(0,), shared="seconds")
    file, told = replace(file, study=study), Console(file=StringIO(), width=200)
    request, paths = StudyRequest(str(study_file)), Paths(tmp_path)
    stand_in = plan_request(file, request, paths)
    assert any("FLOPs are shared instead" in note for note in stand_in.notes)
    with pytest.raises(InputError, match="the steps were not measured"):
        run_study(file, request, RunConfig(cost=False, track=False), paths, told)
    assert run_study(file, request, RunConfig(track=False), paths, told)
    record = Store(tmp_path).study(study.name)
    ratios, spent = record.step_ratios, {v.name: v.spent["steps"] for v in record.variants}
    (session,) = Store(tmp_path).sessions()
    measured = {arm.key: arm.ratios["train_step"].median for arm in session.arms}
    assert ratios == {v.name: pytest.approx(measured[v.arm]) for v in record.variants}
    assert spent["longer"] == 2 * spent["none"]  # the same model, another budget
    assert spent["wide"] == pytest.approx(4 * spent["none"] / ratios["wide"], rel=0.01)
    # A later session, in which everything takes as long, changes nothing.
    arms = tuple(replace(arm, ratios={"train_step": Interval(1, 1, 1, 9)}) for arm in session.arms)
    later = replace(session, key="f" * 16, arms=arms, finished="2099-01-01T00:00:00+00:00")
    Store(tmp_path).write(later)
    told.file = StringIO()
    assert run_study(file, request, RunConfig(track=False), paths, told)
    assert "Nothing to train" in told.file.getvalue()
    again = Store(tmp_path).study(study.name)
    assert (again.step_ratios, again.variants) == (ratios, record.variants)
