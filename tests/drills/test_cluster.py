"""Training on a Dask cluster of real processes: what comes home, and who gets no runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import small_study
from layouts import write_manifest
from small_study import ENVIRONMENT, results

from passt_bench import __version__

CHANGES = (
    small_study.KILLED
    + """
    "data.name": "manifest", "data.train_clips": None, "data.test_clips": None,
    "training.loss": "ce", "metrics": ("accuracy",), "training.epochs": 20,
"""
)
STUDY = "run small.py --no-cost --no-track"
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
        name: str, words: str, *path: Path, data: Path | None = None
    ) -> subprocess.Popen[str]:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        with (folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words.split()],
                cwd=folder,
                env=environment(*path, data=data),
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
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline, told()
        time.sleep(0.05)


def test_workers_that_die_come_late_or_lack_something(tmp_path: Path, start: Start) -> None:
    data = write_manifest(tmp_path / "data" / "manifest", each=6).root.parent
    other = tmp_path / "other" / "passt_bench-99.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: passt-bench\nVersion: 99.0\n")
    found = tmp_path / "scheduler.json"
    start("scheduler", f"distributed.cli.dask_scheduler --port 0 --no-dashboard "
          f"--scheduler-file {found} --host 127.0.0.1")  # fmt: skip
    wait_until(found.is_file, lambda: (tmp_path / "scheduler" / "log.txt").read_text())
    worker = (
        f"distributed.cli.dask_worker --scheduler-file {found} --nthreads 1 --no-dashboard "
        "--no-nanny"
    )
    start("old", worker, other.parent, data=data)
    start("empty", worker)
    first = start("first", worker, data=data)

    folder = tmp_path / "command"
    folder.mkdir()
    small_study.write(
        folder, "small", variants=small_study.THREE.format(half=small_study.HALF),
        changes=CHANGES, metric="accuracy", seeds=(0,),
    )  # fmt: skip
    address = f"--dask {found}"
    command = start("command", f"passt_bench {STUDY} {address}", data=data)

    def said() -> str:
        return (folder / "log.txt").read_text()

    begun = tmp_path / "first" / "runs" / "records"
    wait_until(lambda: any(begun.glob("*/progress.jsonl")), said)
    os.killpg(first.pid, signal.SIGKILL)
    late = start("late", worker, data=data)
    assert command.wait(240) == 0, said()
    assert late.poll() is None
    assert f"has version 99.0, this command {__version__}" in said()
    assert "It gets no runs of manifest" in said()
    assert not (tmp_path / "old" / "runs").exists()
    assert not list((tmp_path / "empty" / "runs").glob("records/*/record.json"))

    local = tmp_path / "local"
    local.mkdir()
    (local / "small.py").write_bytes((folder / "small.py").read_bytes())
    done = start("local", f"passt_bench {STUDY}", data=data)
    assert done.wait(240) == 0
    assert results(folder / "runs") == results(local / "runs")
    assert len(results(local / "runs")) == 3
    for name in ("model.safetensors", "curves.jsonl"):
        kept = [len(list((at / "runs").glob(f"records/*/{name}"))) for at in (folder, local)]
        assert kept == [3, 3]
