"""Cells in processes of their own: what becomes of each, and that none runs twice."""

import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import small_study
from filelock import FileLock, Timeout
from planned_study import planned
from rich.console import Console
from small_study import results

from passt_bench import registry
from passt_bench.errors import InputError
from passt_bench.measure.session import ArmProcess
from passt_bench.processes import oom_kills
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.registry import MODELS
from passt_bench.runner.cluster import train_on_cluster
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.executor import RESTARTS, free_gpu, prepare, run_cells, visible_gpus
from passt_bench.runner.plan import missing_cells
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run_status import is_running, variant_statuses
from passt_bench.runner.studies import load_study
from passt_bench.spec import ModelSpec, Variant
from passt_bench.study_run import find_incomplete
from passt_bench.training import checkpoint

LONG = {"training.epochs": 100_000}  # would take hours


class Study:
    def __init__(self, file: Path, folder: Path, variants: dict[str, dict[str, Any]]) -> None:
        self.paths, self.config = Paths(folder), RunConfig(checkpoint_seconds=0.2)
        self.store = Store(folder)
        others = (Variant(name, changes) for name, changes in variants.items())
        self.plan = planned(file, folder, variants=(Variant("none"), *others), seeds=(0,))
        prepare(self.plan.cells, self.paths, Datasets(self.paths), Console(quiet=True))

    def cell(self, variant: str) -> PlannedCell:
        return next(cell for cell in self.plan.cells if cell.variant == variant)

    def run(self, *variants: str, retry: tuple[str, ...] = (), **options: Any) -> list[RunRecord]:
        todo = missing_cells(self.plan.cells, self.store, retry)
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
    found = []
    for server in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # one that has just ended
            found += [c for c in server.children() if c.status() != psutil.STATUS_ZOMBIE]
    return found


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_cell_beyond_its_time_is_a_row_and_the_others_finish(make: Callable[..., Study]) -> None:
    study = make(long=LONG)
    key = study.cell("long").key
    folder = study.store.folder(key)
    folder.mkdir(parents=True)
    # Time adds up over the processes of an attempt.
    (folder / "progress.jsonl").write_text('{"epoch": 3, "epochs": 9, "seconds": 3600.0}\n')
    records = {r.recipe.training.epochs: r for r in study.run("none", "long", timeout=3602)}
    assert records[2].status == "ok"
    late = records[100_000]
    assert (late.status, late.message, late.attempt) == ("timeout", "stopped after 3602 s", 1)
    assert sorted(path.name for path in folder.iterdir()) == ["curves.jsonl", "record.json"]
    assert not children()
    before = (folder / "record.json").read_bytes()
    assert study.run("long", timeout=2) == []  # only on demand
    began = time.monotonic()
    (again,) = study.run("long", retry=("timeout",), timeout=2)
    assert time.monotonic() - began > 2  # what the first attempt took is not counted
    assert (again.status, again.attempt) == ("timeout", 2)
    assert (folder / "attempt-1.json").read_bytes() == before
    assert [record.attempt for record in study.store.attempts(key)] == [1, 2]
    assert study.store.run(key) == again
    _, status = variant_statuses(study.plan.record, study.store)
    assert status.retried == 1
    assert status.failures == (
        "long, seed 0: timeout (attempt 2, before: timeout): stopped after 2 s",
    )


BESIDE = """
from torch import nn
from passt_bench.models import AudioModel
from passt_bench.registry import MODELS

@MODELS.register("beside", version=1, summary="a model in a file next to the study")
class Beside(AudioModel):
    def __init__(self, num_classes, options, *, mels, frames):
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.head = nn.Linear(mels, num_classes)

    def forward(self, x, kept=None):
        return self.head(x.mean(dim=(1, 3)))
"""


def test_the_processes_of_a_study_know_what_a_file_next_to_it_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_files", [])
    monkeypatch.delitem(sys.modules, "besides", raising=False)
    (tmp_path / "besides.py").write_text(BESIDE)
    file = small_study.write(tmp_path, imports="import besides")
    study = Study(file, tmp_path / "runs", {"beside": {"model": ModelSpec("beside")}})
    (record,) = study.run("beside")
    assert (record.status, record.message) == ("ok", None)
    arm = ArmProcess()
    arm.send(MODELS.get, "beside")
    assert arm.receive(60) == ("ok", None)
    arm.close()
    assert "besides" in sys.modules  # so a second study that imports it does not register it anew
    load_study(str(file))
    with pytest.raises(InputError, match="of a file"):
        train_on_cluster(study.plan.cells, "", study.paths, study.config, Console(quiet=True))
    MODELS._table.pop("beside")


def test_memory_that_runs_out_is_a_row(make: Callable[..., Study]) -> None:
    study = make(wide={"model.width": 4096, "model.depth": 4}, less={"salt": 1}, least={"salt": 2})
    first, wide = study.run("none", "wide", memory=1500 * 2**20)
    assert (first.status, wide.status) == ("ok", "oom")
    assert "memory" in (wide.message or "")
    for name, megabytes in ("less", 300), ("least", 1):  # below what a process needs
        assert [r.status for r in study.run(name, memory=megabytes * 2**20)] == ["oom"]


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
@pytest.mark.parametrize("server", [False, True], ids=["the process", "the fork server"])
def test_what_is_killed_resumes_from_a_checkpoint(make: Callable[..., Study], server: bool) -> None:
    study = make(some={"training.epochs": 40})
    folder = study.store.folder(study.cell("some").key)
    killed: list[int] = []

    def kill() -> None:
        until(lambda: checkpoint.exists(folder))
        (child,) = children()
        victim = child.parent() if server else child
        killed.append(victim.pid)
        victim.send_signal(signal.SIGKILL)

    thread = meanwhile(kill)
    (record,) = study.run("some")
    thread.join()
    assert len(killed) == 1
    assert record.status == "ok"
    assert len(record.curves["train_loss"]) == 40


@pytest.mark.skipif(oom_kills() is None, reason="needs /proc/vmstat")
def test_who_is_killed_again_and_again_is_left_for_later(make: Callable[..., Study]) -> None:
    study = make(long=LONG)
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.is_set():
            for child in children():
                if child.pid not in killed:
                    killed.add(child.pid)
                    with suppress(psutil.NoSuchProcess):
                        child.send_signal(signal.SIGTERM if len(killed) % 2 else signal.SIGKILL)
            time.sleep(0.02)

    thread = meanwhile(kill)
    try:
        assert study.run("long", timeout=300) == []
    finally:
        over.set()
        thread.join()
    assert len(killed) == 1 + RESTARTS
    assert study.store.run(study.cell("long").key) is None
    short = find_incomplete(study.plan, study.store, ())
    assert short == ["2 runs did not finish; run the same command to resume."]


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


@pytest.mark.parametrize("name", ["lock", "work.lock"], ids=["command", "process left behind"])
def test_a_cell_of_another_command_is_waited_for(make: Callable[..., Study], name: str) -> None:
    study = make()
    cell = study.cell("none")
    locks = study.paths.runs / "locks"
    locks.mkdir(exist_ok=True)
    with FileLock(locks / f"{cell.key}.{name}"):
        assert is_running(study.paths.runs, cell.key)
        found: list[list[RunRecord]] = []
        thread = meanwhile(lambda: found.append(study.run("none")))
        if name == "work.lock":
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
        "record.json", "curves.jsonl", checkpoint.LATEST, checkpoint.BEST
    }  # fmt: skip
    assert record.train["epoch"] in (1, 2, 3, 4)
    inner = record.curves["inner/mAP"]
    assert inner.index(max(inner)) == record.train["epoch"] - 1
    assert set(record.clocks) == {"data", "build", "train", "select", "evaluate"}


@pytest.mark.parametrize(
    ("environment", "count", "names"),
    [
        ({}, 0, ()),
        ({}, 2, ("0", "1")),
        ({"CUDA_VISIBLE_DEVICES": "3,5"}, 2, ("3", "5")),
        ({"CUDA_VISIBLE_DEVICES": "GPU-8a, MIG-1/2 "}, 2, ("GPU-8a", "MIG-1/2")),
        ({"CUDA_VISIBLE_DEVICES": ""}, 0, ()),
        ({"CUDA_VISIBLE_DEVICES": "0,9"}, 1, ("0",)),  # CUDA stops at one that is not there
    ],
)
def test_what_a_scheduler_chose_is_respected(
    environment: dict[str, str], count: int, names: tuple[str, ...]
) -> None:
    assert visible_gpus(environment, count) == names


@pytest.mark.parametrize(
    ("gpus", "workers", "per_gpu"), [(1, 4, 1), (2, 3, 1), (4, 16, 1), (2, 9, 3)]
)
def test_no_more_than_asked_for_have_the_same_gpu(
    tmp_path: Path, gpus: int, workers: int, per_gpu: int
) -> None:
    names = visible_gpus({}, gpus)
    held: Counter[str] = Counter()
    guard = threading.Lock()

    def work() -> None:
        with free_gpu(names, tmp_path, lambda: False, per_gpu) as gpu:
            assert gpu in names
            with guard:
                held[gpu] += 1
                assert held[gpu] <= per_gpu
            time.sleep(0.01)
            with guard:
                held[gpu] -= 1

    with ThreadPoolExecutor(max_workers=workers) as pool:
        for future in [pool.submit(work) for _ in range(3 * workers)]:
            future.result()
    with free_gpu(names, tmp_path, lambda: True) as stopped:
        assert stopped is None
    # Another command on the folder, which may ask for fewer, sees the first lock.
    with free_gpu(names, tmp_path, lambda: False, per_gpu), pytest.raises(Timeout):
        FileLock(tmp_path / "gpu-0.lock", timeout=0).acquire()


@pytest.mark.skipif(oom_kills() is None, reason="needs /proc/vmstat")
def test_failures_of_all_kinds_in_one_process_after_another(
    make: Callable[..., Study], study_file: Path, tmp_path: Path
) -> None:
    """Between runs that succeed: each is recorded as it would be alone, and harms no other."""
    wide, late = {"model.width": 4096, "model.depth": 4}, {"training.epochs": 100_000}
    diverges = {"training.learning_rate": 1e30, "training.warmup": 0.0}
    study = make(a={"salt": 1}, wide=wide, b={"salt": 2}, long=late, c={"salt": 3},
                 diverges=diverges, d={"salt": 4})  # fmt: skip
    records = study.run(*"abcd", "wide", "long", "diverges", workers=1, timeout=6,
                        memory=1500 * 2**20)  # fmt: skip
    assert [record.status for record in records] == [
        "ok", "oom", "ok", "timeout", "ok", "diverged", "ok"
    ]  # fmt: skip
    assert records[3].message == "stopped after 6 s"
    alone = Study(study_file, tmp_path / "alone", {name: {"salt": n} for n, name in
                                                   enumerate("abcd", 1)})  # fmt: skip
    alone.run(*"abcd", fresh_processes=True)
    together = results(study.paths.runs)
    expected = results(alone.paths.runs)
    assert len(expected) == 4
    assert {key: together[key] for key in expected} == expected
