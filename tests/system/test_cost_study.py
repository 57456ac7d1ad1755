"""Studies without seeds: a cost session alone, from plan to page."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from passt_bench import study_run
from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import Store
from passt_bench.report.build import build_study
from passt_bench.report.cost_tables import costs_headline
from passt_bench.report.text import Span
from passt_bench.report.view import gains, study_view
from passt_bench.runner.plan import plan_request
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.run_status import cost_statuses, count_runs
from passt_bench.runner.studies import StudyFile
from passt_bench.runner.tracked_run import tracked_runs
from passt_bench.spec import (
    DataSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    Study,
    Variant,
    passt_frontend,
)
from passt_bench.study_run import measure, run_study

SMALL = Recipe(
    model=ModelSpec("passt_tiny", width=24, depth=1, heads=2),
    frontend=passt_frontend(jitter=False),
    data=DataSpec("audioset", seconds=1.0),
    measurement=MeasurementSpec(
        batch_size=2, warmup_steps=1, restarts=1, rounds=6, most_rounds=6, steps=1, seconds=0.1
    ),
)
STUDY = Study(
    name="costs",
    question="What does it cost?",
    base=SMALL,
    baseline="all",
    variants=(
        Variant("all", cuda={"engine.graph": True, "measurement.batch_size": 64}),
        Variant("half", {"patchout": Patchout("time", rate=0.5), "measurement.batch_size": 4}),
    ),
    seeds=(),
)
FILE = StudyFile(STUDY, "A notebook.")


def test_costs_are_planned_without_data(tmp_path: Path) -> None:
    plan = plan_request(FILE, StudyRequest("costs"), Paths(tmp_path))
    assert (plan.cells, plan.record.seeds, plan.record.folds) == ((), (), None)
    assert len(plan.record.fingerprint.classes) == 527
    assert [variant.tokens for variant in plan.record.variants] == [110, 62]
    assert count_runs(plan.record, 2, Store(tmp_path)) == "costs: 2 variants, only costs."
    assert cost_statuses(plan.record, Store(tmp_path)) == {"all": None, "half": None}


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (StudyRequest("costs", seeds=2), "--seeds"),
        (StudyRequest("costs", folds=1), "--folds"),
        (StudyRequest("costs", with_baseline=False), "--no-baseline"),
    ],
)
def test_options_about_runs_are_refused(request_: StudyRequest, field: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan_request(FILE, request_, Paths(tmp_path))
    assert caught.value.field == field


def test_without_costs_nothing_remains(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run_study(
            FILE, StudyRequest("costs"), RunConfig(cost=False), Paths(tmp_path), Console(quiet=True)
        )
    assert caught.value.field == "--no-cost"


def test_an_engine_that_cannot_work_is_refused_when_planned(tmp_path: Path) -> None:
    wrong = replace(STUDY, variants=(*STUDY.variants, Variant("graph", {"engine.graph": True})))
    with pytest.raises(InputError) as caught:
        plan_request(StudyFile(wrong, ""), StudyRequest("costs"), Paths(tmp_path))
    assert caught.value.field == "engine.graph"


def test_changes_for_a_gpu_apply_with_its_device_only() -> None:
    gpu = replace(STUDY, base=replace(SMALL, engine=replace(SMALL.engine, device="cuda")))
    here, there = (study.recipe(STUDY.variants[0]) for study in (STUDY, gpu))
    assert (here.engine.graph, here.measurement.batch_size) == (False, 2)
    assert (there.engine.graph, there.measurement.batch_size) == (True, 64)


def test_from_the_study_to_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second command begins while the first measures; it waits, and finds all on record."""
    paths, config = Paths(tmp_path), RunConfig(track=False)
    console, said, others = Console(quiet=True), io.StringIO(), list[threading.Thread]()
    store, real = Store(tmp_path), study_run.measure_cost
    plan = plan_request(FILE, StudyRequest("costs"), paths)

    def measured_twice(*words: Any) -> list[SessionRecord]:
        second = (plan, config, store, Console(file=said, width=200))
        others.append(threading.Thread(target=measure, args=second))
        others[-1].start()
        while others[-1].is_alive() and "waiting" not in said.getvalue():
            time.sleep(0.01)
        return real(*words)

    monkeypatch.setattr(study_run, "measure_cost", measured_twice)
    assert run_study(FILE, StudyRequest("costs"), config, paths, console)
    others[0].join()
    assert len(others) == 1 and said.getvalue().startswith("Another command measures costs")
    (session,) = store.sessions()
    assert [arm.batch_size for arm in session.arms] == [2, 4]
    assert run_study(FILE, StudyRequest("costs"), config, paths, console)
    assert len(store.sessions()) == 1  # nothing is measured again
    results = load_results("costs", [store])
    runs = list(tracked_runs(results, store))
    assert [(run.name, run.status) for run in runs] == [("all", "FINISHED"), ("half", "FINISHED")]
    assert cost_statuses(results.study, store) == {"all": "ok", "half": "ok"}

    page = build_study("costs", tmp_path, paths.reports)
    text = page.read_text(encoding="utf-8")
    for absent in ("verdict-", "corrected p", "Quality", "nan", "learning_curves"):
        assert absent not in text
    # Steps of other sizes are compared per clip.
    ratio = next(arm for arm in session.arms if arm.batch_size == 4).ratios["train_step"].median
    lines = (page.parent / "tables" / "speed.csv").read_text().splitlines()
    row = dict(zip(lines[0].split(","), lines[2].split(","), strict=True))
    assert float(row["clips_ratio"]) == pytest.approx(2 / ratio, rel=1e-4)
    lines = (page.parent / "figures" / "time_by_setting.csv").read_text().splitlines()
    names = ["variant", "line", "x", "value", "low", "high"]
    assert lines[0].split(",") == names  # clips per step differ
    assert [float(line.split(",")[-4]) for line in lines[1:]] == [2, 4]
    summary = json.loads((page.parent / "summary.json").read_text())
    assert summary["headline"].startswith("Against “all” (")


def test_gains_are_ratios_round_by_round_and_their_ratios(tmp_path: Path) -> None:
    """Known truth: what patchout gains in one engine, divided by its gain in the other."""
    engines = {"old": "materialised", "new": "fused"}
    study = replace(
        STUDY,
        baseline="old, all",
        variants=tuple(
            Variant(f"{name}, {share}", {"engine.attention": attention, "patchout": patchout})
            for name, attention in engines.items()
            for share, patchout in (("all", Patchout()), ("half", Patchout("time", rate=0.5)))
        ),
    )
    plan = plan_request(StudyFile(study, ""), StudyRequest("costs"), Paths(tmp_path))
    # Round by round, seconds: the saving of each engine varies, as does the speed of the machine.
    slow = [1.0, 2.0, 1.0, 4.0, 1.0, 2.0]
    steps = {
        "old, all": [4 * s for s in slow],
        "old, half": [1 * s for s in slow],
        "new, all": [3 * s for s in slow],
        "new, half": [1.5 * s for s in slow],
    }
    arms, samples = [], {}
    for variant in plan.record.variants:
        samples[variant.arm] = {"train_step": [[s] for s in steps[variant.name]]}
        saved = {"saved_for_backward": 100.0 if variant.name == "old, all" else 50.0}
        arms.append(
            ArmRecord(
                variant.arm, "ok", variant.recipe, batch_size=2,
                phases=phase_intervals(samples[variant.arm]), memory=saved,
                ratios=ratio_intervals(
                    samples[variant.arm], samples[plan.record.variants[0].arm]
                ),
            )
        )  # fmt: skip
    store = Store(tmp_path)
    store.write_study(plan.record)
    machine = {"cpu": "Imaginary 3000", "cores": 2}
    session = SessionRecord("0" * 16, plan.record.variants[0].arm, tuple(arms), machine=machine)
    store.write(session, samples=samples)
    view = study_view(load_results("costs", [store]))
    first, second = gains(view)
    assert (first.variant.name, first.speedup.value) == ("old, half", 4.0)
    assert not first.relative.known
    assert (second.other.name, second.reference.name) == ("new, all", "old, half")
    assert (second.speedup.value, second.speedup.low) == (2.0, 2.0)  # whatever the machine's speed
    assert second.relative == Span(0.5, 0.5, 0.5)
    assert (second.saved, second.relative_saved) == (1.0, 2.0)
    assert costs_headline(view) == (
        "“new, half” trains 2.00× [2.00, 2.00] as fast as “new, all”, while "
        "“old, half” trains 4.00× [4.00, 4.00] as fast as “old, all”."
    )
    page = build_study("costs", tmp_path, tmp_path / "reports").read_text()
    assert "as fast as “old, all”, on 2 cores of Imaginary 3000." in page
    assert "1 process per variant" in page
    assert "95 % intervals, without differences between processes" in page
    # The second process of “new, half” is slower.
    old, new = (samples[v.arm] for v in plan.record.variants[2:])
    new["train_step"][3:] = [[1.6 * s] for s in slow[3:]]
    store.write(replace(session, restarts=(3, 3)), samples=samples)
    speedup = gains(study_view(load_results("costs", [store])))[1].speedup
    known = ratio_intervals(old, new, (3, 3))["train_step"]
    found = (speedup.value, speedup.low, speedup.high)
    assert found == pytest.approx((known.median, known.low, known.high))


@pytest.mark.parametrize("failed", ["all", "half"])
def test_an_arm_out_of_memory_is_a_row_of_the_page(failed: str, tmp_path: Path) -> None:
    plan, store = plan_request(FILE, StudyRequest("costs"), Paths(tmp_path)), Store(tmp_path)
    store.write_study(plan.record)
    arms, steps = [], {"train_step": [[1.0]] * 6}
    for variant in plan.record.variants:
        if variant.name == failed:
            arms.append(ArmRecord(variant.arm, "oom", variant.recipe, message="out of memory"))
            continue
        phases = phase_intervals(steps)
        arms.append(ArmRecord(variant.arm, "ok", variant.recipe, batch_size=2, phases=phases))
    session = SessionRecord("0" * 16, plan.record.variants[0].arm, tuple(arms))
    store.write(session, samples={})
    page = build_study("costs", tmp_path, tmp_path / "reports")
    text = page.read_text(encoding="utf-8")
    assert "No variant's training step was timed together with that of “all”." in text.replace(
        "&#39;", "'"
    )
    rows = (page.parent / "tables" / "failures.csv").read_text().splitlines()
    assert rows[1].startswith(f"{failed},cost session,oom,out of memory")
    assert cost_statuses(plan.record, store)[failed] == "oom"
