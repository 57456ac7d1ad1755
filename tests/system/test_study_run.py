"""What a study still lacks by its records; a finished one does nothing."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from planned_study import planned, write
from rich.console import Console

from passt_bench.records.run import Status
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import Store
from passt_bench.report.build import build_study
from passt_bench.runner.executor import feature_seconds, prepare, run_cells
from passt_bench.runner.plan import StudyPlan, choose_variants
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run_status import PROGRESS, cost_statuses
from passt_bench.spec import Variant
from passt_bench.spec.key import digest
from passt_bench.study_run import _newer_page, describe, execute_plan, find_incomplete
from passt_bench.training import checkpoint


def _session(plan: StudyPlan, statuses: dict[str, Status], finished: str) -> SessionRecord:
    arms = {v.name: ArmRecord(v.arm, statuses[v.name], v.recipe) for v in plan.record.variants}
    baseline = arms["none"].key
    return SessionRecord(digest(finished), baseline, tuple(arms.values()), finished=finished)


@pytest.fixture
def two_variants(study_file: Path, tmp_path: Path) -> StudyPlan:
    variants = (Variant("none"), Variant("wide", {"model.width": 32}))
    return planned(study_file, tmp_path, variants=variants, seeds=(0,))


def test_what_fell_short(two_variants: StudyPlan, tmp_path: Path) -> None:
    plan, store = two_variants, Store(tmp_path)
    (short,) = find_incomplete(plan, store, store.sessions())
    assert short == "2 runs did not finish; run the same command to resume."
    write(tmp_path, plan)
    assert not find_incomplete(plan, store, store.sessions())
    text = describe(plan, store, RunConfig())
    assert "2 runs, all done. Nothing to train. The cost of 2 variants, the baseline" in text
    assert list(cost_statuses(plan.record, store).values()) == [None] * 2
    store.write(_session(plan, {"none": "ok", "wide": "oom"}, "2026-01-01"))
    assert None not in cost_statuses(plan.record, store).values()
    short = find_incomplete(plan, store, store.sessions())
    assert short == ["The cost of 1 variant could not be measured."]
    without = choose_variants(plan, ["wide"], baseline=False)
    assert not execute_plan(without, RunConfig(track=False), Paths(tmp_path), Console(quiet=True))
    store.write(_session(plan, {"none": "ok", "wide": "ok"}, "2026-01-02"))
    assert not find_incomplete(plan, store, store.sessions())


def test_the_disk_that_is_expected(two_variants: StudyPlan, tmp_path: Path) -> None:
    plan, config = two_variants, RunConfig(keep_checkpoints=True, cost=False, track=False)
    text = describe(plan, Store(tmp_path), config)
    expected = float(text.rpartition(", and ")[2].partition(" MB of disk")[0])
    assert not execute_plan(plan, config, Paths(tmp_path), Console(quiet=True))
    parts = [tmp_path / name for name in ("cache", "records")]
    taken = sum(path.stat().st_size for part in parts for path in part.rglob("*")) / 1e6
    assert 0.5 * taken < expected < 2 * taken + 1


def test_the_time_that_is_expected_includes_that_of_the_features(
    two_variants: StudyPlan, tmp_path: Path
) -> None:
    plan, paths = two_variants, Paths(tmp_path)
    clips, seconds = plan.record.fingerprint.found, plan.cells[0].recipe.data.seconds
    assert feature_seconds(plan.cells, paths, plan.datasets) == clips * seconds / 300
    prepare(plan.cells, paths, plan.datasets, Console(quiet=True))
    assert feature_seconds(plan.cells, paths, plan.datasets) == 0


def test_a_finished_study_does_nothing(
    two_variants: StudyPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, started = two_variants, []
    write(tmp_path, plan)
    monkeypatch.setattr("passt_bench.runner.executor._CellRunner.work", started.append)
    monkeypatch.setattr("passt_bench.study_run.fork_server", lambda: started.append(0))
    paths = Paths(tmp_path)
    options = RunConfig(cost=False, track=False)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    began = time.process_time()
    assert not execute_plan(plan, options, paths, Console(quiet=True))
    assert time.process_time() - began < 1  # CPU seconds, whatever else the machine does
    assert started == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")} == before
    assert not (tmp_path / "cache").exists()
    expansion = tmp_path / "studies" / "tiny.json"
    written = expansion.stat().st_mtime_ns
    execute_plan(plan, options, paths, Console(quiet=True))
    assert expansion.stat().st_mtime_ns == written
    assert run_cells([], paths, RunConfig()) == {}


def test_what_a_killed_process_left_is_tidied_up(two_variants: StudyPlan, tmp_path: Path) -> None:
    plan = two_variants
    store = write(tmp_path, plan)
    asked, left = (store.folder(cell.key) for cell in plan.cells)
    for folder in (asked, left):
        checkpoint.save(folder, {"key": folder.name, "attempt": 1})
    (left / PROGRESS).touch()  # killed between its record and its tidying up
    paths = Paths(tmp_path)
    execute_plan(plan, RunConfig(cost=False, track=False), paths, Console(quiet=True))
    assert [path.name for path in left.iterdir()] == ["record.json"]
    assert checkpoint.exists(asked)  # with --keep-checkpoints


def test_a_page_that_shows_everything_stands(two_variants: StudyPlan, tmp_path: Path) -> None:
    store, reports = Store(tmp_path / "runs"), tmp_path / "reports"
    paths = Paths(store.root, pages=reports)
    write(store.root, two_variants)
    assert _newer_page("tiny", paths) is None
    page = build_study("tiny", store.root, reports)
    assert _newer_page("tiny", paths) == page
    other = replace(two_variants, record=replace(two_variants.record, margin=0.1))
    for number, (plan, value) in enumerate(((other, 0.5), (two_variants, 0.6))):
        root = write(tmp_path / str(number), plan, value=value).root
        assert build_study("tiny", root, reports) == page
        assert _newer_page("tiny", paths) is None  # it shows what is in the other folder
    assert build_study("tiny", store.root, reports) == _newer_page("tiny", paths)
    store.write(_session(two_variants, {"none": "ok", "wide": "ok"}, "2026-01-02"))
    assert _newer_page("tiny", paths) is None
