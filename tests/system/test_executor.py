"""Cells in processes of their own: what becomes of each, and that none runs twice."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from rich.console import Console

from passt_bench.processes import oom_kills
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.executor import RESTARTS, run_cells
from passt_bench.runner.plan import Datasets, PlannedCell, missing_cells, plan_study
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run import find_incomplete, prepare
from passt_bench.runner.run_status import is_running, variant_statuses
from passt_bench.runner.studies import load_study
from passt_bench.spec import Variant
from passt_bench.training import checkpoint

LONG = {"training.epochs": 100_000}  # would take hours


class Study:
    """The tiny study in a folder, with variants of one's own."""

    def __init__(self, file: Path, folder: Path, variants: dict[str, dict[str, Any]]) -> None:
        self.paths, self.config = Paths(folder), RunConfig(checkpoint_seconds=0.2)
        self.datasets = Datasets(self.paths)
        self.store = Store(folder)
        study = replace(
            load_study(str(file)).study,
            variants=(Variant("none"), *(Variant(name, v) for name, v in variants.items())),
            seeds=(0,),
        )
        self.plan = plan_study(study, self.paths, datasets=self.datasets)
        prepare(self.plan.cells, self.paths, self.datasets, Console(quiet=True))

    def cell(self, variant: str) -> PlannedCell:
        return next(cell for cell in self.plan.cells if cell.variant == variant)

    def run(self, *variants: str, retry: tuple[str, ...] = (), **options: Any) -> list[RunRecord]:
        todo = missing_cells(self.plan, self.store, retry)
        todo = [cell for cell in todo if cell.variant in variants]
        progress = options.pop("progress", lambda share, text: None)
        ends = run_cells(todo, self.paths, replace(self.config, **options), progress)
        records = [self.store.run(key) for key in ends]
        assert [(r.status, r.attempt, r.message) for r in records if r is not None] == [
            (end.status, end.attempt, end.message) for end in ends.values()
        ]
        return [record for record in records if record is not None]


@pytest.fixture
def make(study_file: Path, tmp_path: Path) -> Callable[..., Study]:
    return lambda **variants: Study(study_file, tmp_path / "runs", variants or {"other": {}})


def children() -> list[psutil.Process]:
    """Processes that compute a cell: children of the fork server."""
    me = psutil.Process()
    return [
        child
        for server in me.children()
        for child in server.children()
        if child.status() != psutil.STATUS_ZOMBIE
    ]


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_cell_beyond_its_time_is_a_row_and_the_others_go_on(make: Callable[..., Study]) -> None:
    study = make(long=LONG)
    records = {r.recipe.training.epochs: r for r in study.run("none", "long", timeout=12)}
    assert records[2].status == "ok"
    late = records[100_000]
    assert (late.status, late.message, late.attempt) == ("timeout", "stopped after 12 s", 1)
    folder = study.store.folder(study.cell("long").key)
    assert [path.name for path in folder.iterdir()] == ["record.json"]
    assert not children()


def test_an_attempt_has_its_time_and_the_old_one_is_kept(make: Callable[..., Study]) -> None:
    study = make(long=LONG)
    key = study.cell("long").key
    study.run("long", timeout=2)
    before = (study.store.folder(key) / "record.json").read_bytes()
    assert study.run("long", timeout=2) == []  # only on demand
    began = time.monotonic()
    (again,) = study.run("long", retry=("timeout",), timeout=2)
    assert time.monotonic() - began > 2  # what the first attempt took is not counted
    assert (again.status, again.attempt) == ("timeout", 2)
    assert (study.store.folder(key) / "attempt-1.json").read_bytes() == before
    assert [record.attempt for record in study.store.attempts(key)] == [1, 2]
    assert study.store.run(key) == again
    (standing,) = [
        s for s in variant_statuses(study.plan.record, study.store) if s.variant == "long"
    ]
    assert standing.retried == 1
    assert standing.failures == (
        "long, seed 0: timeout (attempt 2, before: timeout): stopped after 2 s",
    )


def test_time_adds_up_over_the_processes_of_an_attempt(make: Callable[..., Study]) -> None:
    study = make(long=LONG)
    folder = study.store.folder(study.cell("long").key)
    folder.mkdir(parents=True)
    (folder / "progress.jsonl").write_text('{"epoch": 3, "epochs": 9, "seconds": 3600.0}\n')
    began = time.monotonic()
    (record,) = study.run("long", timeout=3601)
    assert record.status == "timeout"
    assert time.monotonic() - began < 60


def test_memory_that_runs_out_is_a_row(make: Callable[..., Study]) -> None:
    study = make(wide={"model.width": 4096, "model.depth": 4})
    records = {r.recipe.model.width: r for r in study.run(
        "none", "wide", memory=1500 * 2**20)}  # fmt: skip
    assert records[16].status == "ok"
    assert records[4096].status == "oom"
    assert "memory" in (records[4096].message or "")


@pytest.mark.parametrize("megabytes", [1, 300])
def test_a_limit_below_what_a_process_needs_is_a_row_too(
    make: Callable[..., Study], megabytes: int
) -> None:
    study = make()
    (record,) = study.run("none", memory=megabytes * 2**20)
    assert record.status == "oom"


def test_an_error_keeps_its_traceback(make: Callable[..., Study]) -> None:
    study = make()
    path = next(study.paths.cache.glob("features-*.npy"))
    path.write_bytes(b"no features")
    (record,) = study.run("none")
    assert record.status == "error"
    assert "Traceback" in (record.message or "")
    assert "ValueError" in (record.message or "").splitlines()[-1]
    assert str(Path.home()) not in (record.message or "")


@pytest.mark.skipif(oom_kills() is None, reason="needs /proc/vmstat")
def test_a_process_that_somebody_kills_goes_on_from_its_checkpoint(
    make: Callable[..., Study],
) -> None:
    study = make(some={"training.epochs": 40})
    folder = study.store.folder(study.cell("some").key)
    seen: list[int] = []

    def kill() -> None:
        until(lambda: checkpoint.exists(folder))
        (child,) = children()
        seen.append(child.pid)
        child.send_signal(signal.SIGKILL)

    thread = meanwhile(kill)
    (record,) = study.run("some")
    thread.join()
    assert len(seen) == 1
    assert record.status == "ok"
    assert len(record.curves["train_loss"]) == 40


@pytest.mark.skipif(oom_kills() is None, reason="needs /proc/vmstat")
def test_who_is_killed_again_and_again_is_left_to_the_next_command(
    make: Callable[..., Study],
) -> None:
    study = make(long=LONG)
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            for child in children():
                if child.pid not in killed:
                    killed.add(child.pid)
                    child.send_signal(signal.SIGTERM if len(killed) % 2 else signal.SIGKILL)
            time.sleep(0.02)

    thread = meanwhile(kill)
    try:
        assert study.run("long") == []
    finally:
        over.set()
        thread.join()
    assert len(killed) == 1 + RESTARTS
    assert study.store.run(study.cell("long").key) is None
    short = find_incomplete(study.plan, study.store, ())
    assert short.interrupted == 2
    assert short.sentences() == ["2 runs did not finish; run the same command to resume."]


def test_a_fork_server_that_dies_loses_nothing(make: Callable[..., Study]) -> None:
    study = make(some={"training.epochs": 40})
    folder = study.store.folder(study.cell("some").key)
    pids: list[int] = []

    def kill() -> None:
        until(lambda: checkpoint.exists(folder))
        (child,) = children()
        server = child.parent()
        assert server is not None
        pids.extend((child.pid, server.pid))
        server.send_signal(signal.SIGKILL)

    thread = meanwhile(kill)
    (record,) = study.run("some")
    thread.join()
    assert len(pids) == 2
    assert record.status == "ok"
    assert len(record.curves["train_loss"]) == 40


def test_stopping_ends_the_children_and_the_next_run_goes_on(make: Callable[..., Study]) -> None:
    study = make(long=LONG)
    key = study.cell("long").key
    states: list[dict[str, int]] = []

    def stop(share: float, text: str) -> None:
        if checkpoint.exists(study.store.folder(key)):
            states.extend(dict(s.cells) for s in variant_statuses(study.plan.record, study.store))
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        study.run("long", progress=stop)
    assert time.monotonic() - began < 60
    assert not children()
    assert not is_running(study.paths.runs, key)
    assert states[1] == {"done": 0, "failed": 0, "running": 1, "interrupted": 0, "missing": 0}
    after = [s.cells for s in variant_statuses(study.plan.record, study.store)]
    assert after[0]["missing"] == 1
    assert after[1]["interrupted"] == 1
    assert study.store.run(key) is None


def test_a_cell_that_another_invocation_has_is_waited_for(make: Callable[..., Study]) -> None:
    study = make()
    cell = study.cell("none")
    locks = study.paths.runs / "locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{cell.key}.lock"):
        assert is_running(study.paths.runs, cell.key)
        found: list[list[RunRecord]] = []
        thread = meanwhile(lambda: found.append(study.run("none")))
        time.sleep(1.5)
        assert not study.store.has(cell.key)
    thread.join(60)
    assert found[0][0].status == "ok"


def test_nobody_writes_beside_a_process_left_behind(make: Callable[..., Study]) -> None:
    study = make()
    cell = study.cell("none")
    locks = study.paths.runs / "locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{cell.key}.work.lock"):  # as its process would
        assert is_running(study.paths.runs, cell.key)
        found: list[list[RunRecord]] = []
        thread = meanwhile(lambda: found.append(study.run("none")))
        until(children)
        time.sleep(1)
        folder = study.store.folder(cell.key)
        assert not folder.exists() or not list(folder.iterdir())
    thread.join(60)
    assert found[0][0].status == "ok"


def test_checkpoints_stay_where_they_are_asked_for(make: Callable[..., Study]) -> None:
    study = make(best={"training.checkpoint_selection": "best_on_validation", "training.epochs": 4})
    (record,) = study.run("best", keep_checkpoints=True, checkpoint_seconds=0.0)
    assert {path.name for path in study.store.folder(record.key).iterdir()} == {
        "record.json", checkpoint.LATEST, checkpoint.PREVIOUS, checkpoint.BEST
    }  # fmt: skip
    assert record.train["epoch"] in (1, 2, 3, 4)
    inner = record.curves["inner/mAP"]
    assert inner.index(max(inner)) == record.train["epoch"] - 1
    assert set(record.clocks) == {"data", "build", "train", "select", "evaluate"}
