"""Training on a Dask cluster of real processes: what comes home, and who gets no runs.

Workers have folders of their own; with ``--long``, as `nox -s assurance` gives it, two of them also
have environments of their own, in which the package is installed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import small_study
from installing import make_environment
from layouts import write_manifest
from small_study import ENVIRONMENT, results

from passt_bench import __version__

CHANGES = (
    small_study.KILLED
    + """
    "data.name": "manifest", "data.train_clips": None, "data.test_clips": None,
    "training.loss": "ce", "metrics": ("accuracy",), "training.epochs": 60,
"""
)
STUDY = "run small.py --no-cost --no-track"
OTHER = "99.0"  # version
Start = Callable[..., subprocess.Popen[str]]


def environment(*path: Path, data: Path | None = None) -> dict[str, str]:
    found = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"PYTHONPATH": os.pathsep.join(found)} if found else {}
    return {**ENVIRONMENT, **own, "PASST_BENCH_DATA": str(data or "")}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process in a folder of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(
        name: str,
        words: str,
        *path: Path,
        data: Path | None = None,
        python: Path | str = sys.executable,
        **more: str,
    ) -> subprocess.Popen[str]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [python, "-m", *words.split()],
                cwd=folder,
                env=environment(*path, data=data) | more,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until(holds: Callable[[], bool], told: Callable[[], str]) -> None:
    deadline = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


WORKER = "distributed.cli.dask_worker --nthreads 1 --no-dashboard --no-nanny --scheduler-file"


def start_scheduler(found: Path, start: Start) -> subprocess.Popen[str]:
    """Starts a scheduler, which writes its address into a file."""
    scheduler = start("scheduler", f"distributed.cli.dask_scheduler --port 0 --no-dashboard "
                      f"--scheduler-file {found} --host 127.0.0.1")  # fmt: skip
    log = found.with_name("scheduler") / "log.txt"
    wait_until(found.is_file, log.read_text)
    return scheduler


def test_a_scheduler_that_dies_is_named(tmp_path: Path, start: Start) -> None:
    found = tmp_path / "scheduler.json"
    scheduler = start_scheduler(found, start)
    start("worker", f"{WORKER} {found}")
    folder = tmp_path / "command"
    folder.mkdir()
    small_study.killed(folder, epochs=2000, seeds=1)
    command = start("command", f"passt_bench {STUDY} --dask {found}")

    def said() -> str:
        return (folder / "log.txt").read_text()

    begun = tmp_path / "worker" / "runs" / "records"
    wait_until(lambda: any(begun.glob("*/progress.jsonl")), said)
    os.killpg(scheduler.pid, signal.SIGKILL)
    assert command.wait(600) == 2, said()
    assert "the Dask scheduler has ended" in said() and "Traceback" not in said()


def test_workers_that_die_come_late_or_lack_something(
    tmp_path: Path, start: Start, pytestconfig: pytest.Config
) -> None:
    data = write_manifest(tmp_path / "data" / "manifest", each=6).root.parent
    found = tmp_path / "scheduler.json"
    start_scheduler(found, start)
    worker = f"{WORKER} {found}"
    if pytestconfig.getoption("--long"):
        own = {"PYTHONPATH": ""}  # which may name the sources
        python = make_environment(tmp_path / "environment")
        other = make_environment(tmp_path / "other", OTHER)
        start("old", worker, data=data, python=other, **own)
        first = start("first", worker, data=data, python=python, **own)
    else:
        information = tmp_path / "other" / f"passt_bench-{OTHER}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Name: passt-bench\nVersion: {OTHER}\n")
        start("old", worker, information.parent, data=data)
        first = start("first", worker, data=data)
    start("empty", worker)

    folder = tmp_path / "command"
    folder.mkdir()
    small_study.write(
        folder, "small", variants=small_study.THREE.format(half=small_study.HALF),
        changes=CHANGES, metric="accuracy", seeds=(0,),
    )  # fmt: skip
    words = f"passt_bench {STUDY} --curves --dask {found}"
    command = start("command", words, data=data, FORCE_COLOR="1")  # a bar, as in a terminal

    def said() -> str:
        return (folder / "log.txt").read_text()

    begun = tmp_path / "first" / "runs" / "records"
    wait_until(lambda: any(begun.glob("*/progress.jsonl")), said)
    os.killpg(first.pid, signal.SIGKILL)
    late = start("late", worker, data=data)
    assert command.wait(600) == 0, said()
    assert late.poll() is None
    assert f"has version {OTHER}, this command {__version__}" in said()
    shown = re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", said())
    assert re.search(r"of 3 runs, 127\.0\.0\.1:\d+ prepares data", shown)
    assert re.search(r"of 3 runs, 127\.0\.0\.1:\d+ [1-9]\d?%", shown)
    assert "none, seed 0: epoch 60 of 60" in shown
    assert "gets no runs of manifest" in said()
    assert not (tmp_path / "old" / "runs").exists()
    assert not list((tmp_path / "empty" / "runs").glob("records/*/record.json"))

    local = tmp_path / "local"
    local.mkdir()
    (local / "small.py").write_bytes((folder / "small.py").read_bytes())
    done = start("local", f"passt_bench {STUDY}", data=data)
    assert done.wait(600) == 0
    assert results(folder / "runs") == results(local / "runs")
    assert len(results(local / "runs")) == 3
    for name in ("model.safetensors", "curves.jsonl"):
        kept = [len(list((at / "runs").glob(f"records/*/{name}"))) for at in (folder, local)]
        assert kept == [3, 3]
