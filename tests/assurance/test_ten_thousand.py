"""Ten thousand recorded cells: what the commands take, in CPU seconds and resident memory.

CPU seconds, for a wall clock on a busy machine says little of the commands. They hold the imports
(about three seconds).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from many_cells import write_many

from passt_bench.records.run import STATUSES
from passt_bench.records.store import Store

GIB = 2**30


@dataclass(frozen=True)
class Taken:
    """What a command took."""

    code: int
    output: str
    seconds: float  # CPU, user and system
    peak: int  # bytes resident


# Between the command and this process, whose own memory a child would begin with.
WRAPPER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
told = [done.returncode, done.stdout, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
print(json.dumps(told))
"""


def take(folder: Path, *words: str) -> Taken:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, sys.executable, "-m", "passt_bench", *words],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    taken = Taken(*json.loads(done.stdout))
    wall = time.monotonic() - began
    print(
        f"\n{' '.join(words)}: {taken.seconds:.1f} s CPU, {wall:.1f} s wall, "
        f"{taken.peak / 2**20:.0f} MiB"
    )
    assert taken.code == 0, taken.output
    return taken


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("many")
    _, store = write_many(folder, variants=20, seeds=500)
    assert len(store.record_keys()) == 10_000
    return store


def test_plan(store: Store) -> None:
    taken = take(store.root.parent, "plan", "many.py")
    assert "10000 runs, all done" in taken.output
    assert taken.seconds < 10
    assert taken.peak < GIB


def test_status(store: Store) -> None:
    taken = take(store.root.parent, "status", "many.py")
    assert taken.output.count("the loss is nan in step 7") == 200
    assert taken.seconds < 20
    assert taken.peak < GIB


def test_report(store: Store) -> None:
    taken = take(store.root.parent, "report", "many")
    kept = Store(store.root / "reports" / "many")
    assert kept.record_keys() == store.record_keys()
    assert taken.seconds < 20
    assert taken.peak < GIB
    again = take(store.root.parent, "report", "many")
    assert again.seconds < 20


def test_clean_and_merge(store: Store) -> None:
    taken = take(store.root.parent, "records", "clean")
    assert "Nothing was removed." in taken.output
    taken = take(store.root.parent, "records", "merge", "runs", "--runs", "runs/reports/many")
    assert "0 records copied, 10000 existed already." in taken.output
    assert taken.peak < GIB


def test_records_are_read_one_at_a_time(store: Store) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = dict.fromkeys(STATUSES, 0)
    for record in store.records():
        assert record.kind == "quality"
        counts[record.status] += 1
    assert counts["ok"] == 9800 and counts["diverged"] == 200
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
