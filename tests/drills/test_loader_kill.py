"""Processes that make batches, and SIGKILL: nobody is left, and the result is what it would be."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import loader_cells
import psutil
import pytest

from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store

FAMILY = 4  # the fork server of the cell, two that make batches, and the cell itself


def _until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _cells(process: psutil.Process) -> list[psutil.Process]:
    return [cell for server in process.children() for cell in server.children()]


def _at_work(process: psutil.Process, folder: Path) -> bool:
    """Whether a cell is in the midst of its training, with all the processes that it wants."""
    told = [len(path.read_text().splitlines()) for path in folder.glob("records/*/progress.jsonl")]
    cells = _cells(process)
    return bool(
        told
        and 2 <= told[0] <= 16
        and len(cells) == 1
        and len(cells[0].children(recursive=True)) >= FAMILY - 1
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    record = loader_cells.run(tmp_path_factory.mktemp("alone"), 0)
    assert record.status == "ok", record.message
    return record


def _start(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, loader_cells.__file__, str(folder)])


def _equal(one: RunRecord, two: RunRecord) -> bool:
    names = ("key", "status", "metrics", "curves", "per_class", "occlusions", "picture")
    return all(getattr(one, name) == getattr(two, name) for name in names)


def test_a_cell_that_is_killed_goes_on(tmp_path: Path, expected: RunRecord) -> None:
    with _start(tmp_path) as process:
        top = psutil.Process(process.pid)
        _until(lambda: _at_work(top, tmp_path))
        (cell,) = _cells(top)
        family = cell.children(recursive=True)
        cell.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, [child.cmdline() for child in alive]
        assert process.wait(120) == 0
    (key,) = Store(tmp_path).record_keys()
    record = Store(tmp_path).run(key)
    assert record is not None
    assert _equal(record, expected)


def test_a_command_that_is_killed_leaves_nobody(tmp_path: Path, expected: RunRecord) -> None:
    with _start(tmp_path) as process:
        top = psutil.Process(process.pid)
        _until(lambda: _at_work(top, tmp_path))
        family = top.children(recursive=True)
        assert len(family) > FAMILY
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not alive, [child.cmdline() for child in alive]
    assert _equal(loader_cells.run(tmp_path, 1), expected)
