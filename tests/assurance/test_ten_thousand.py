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
from collections import Counter
from dataclasses import replace
from time import process_time

import numpy as np
import pytest
import small_study

from passt_bench.analysis.frame import load_frame
from passt_bench.records.files import to_json
from passt_bench.records.run import Picture, RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import plan_study
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.request import Paths
from passt_bench.runner.studies import load_study

GIB = 2**30
SEEDS, RATES = 500, 20
VARIANTS = f"""Variant("none"), *(
    Variant(f"rate {{i}}", {{"patchout": Patchout("unstructured", rate=i / 32)}})
    for i in range(1, {RATES})
)"""
# Between the command and this process, whose own memory a child would begin with.
WRAPPER = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
told = [done.returncode, done.stdout, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]
print(json.dumps(told))
"""


def recorded(cell: PlannedCell, number: int, rng: np.random.Generator) -> RunRecord:
    """A record shaped like one of a real run, twenty kilobytes as JSON; every fiftieth diverged."""
    data, facts, epochs = cell.fingerprint, cell.summary, cell.recipe.training.epochs
    record = replace(failure(cell, "diverged", "the loss is nan in step 7"), tokens=facts.tokens)
    if number % 50 == 49:
        return record
    assert facts.grid is not None
    value = float(0.8 + 0.001 * (cell.seed % 20) + rng.normal(0, 0.01))

    def near() -> float:
        return float(np.clip(value + rng.normal(0, 0.05), 0, 1))

    classes = {name: near() for name in data.classes}
    groups = {f"mAP/{group}": near() for group in data.groups}
    logmel = tuple(map(tuple, rng.integers(0, 256, (64, 64)).tolist()))
    return replace(
        record,
        status="ok",
        message=None,
        flops=facts.flops,
        metrics={"mAP": value},
        per_class={"average_precision": classes},
        occlusions={name: {"mAP": value, **groups} for name in ("none", "hide_time")},
        curves={"train_loss": tuple(rng.random(epochs).tolist())},
        train={"step_seconds": 0.01, "cpu_seconds": 5.0, "peak_bytes": 4e8},
        picture=Picture(logmel, tuple(range(facts.tokens - 2)), facts.grid, (8, 8), (8, 8)),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("many")
    seeds = tuple(range(SEEDS))
    file = small_study.write(folder, "many", changes="", variants=VARIANTS, seeds=seeds)
    store, rng = Store(folder / "runs"), np.random.default_rng(0)
    plan = plan_study(load_study(str(file)).study, Datasets(Paths(store.root)))
    store.write_study(plan.record)
    for number, cell in enumerate(plan.cells):
        path = store.folder(cell.key) / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(to_json(recorded(cell, number, rng)))  # without the fsync of the store
    assert len(store.record_keys()) == SEEDS * RATES == 10_000
    return store


@pytest.mark.parametrize(
    ("command", "said", "times", "most"),
    [
        ("plan many.py", "10000 runs, 9800 done, 200 failed", 1, 10),
        ("status many.py", "the loss is nan in step 7", 200, 20),
        ("report many", "index.html", 1, 20),
        ("report many", "index.html", 1, 20),  # over the first one
        ("records clean", "Nothing was removed.", 1, 60),
        ("records merge runs --runs runs/reports/many", "0 records copied, 10000 existed", 1, 60),
    ],
)
def test_what_a_command_takes(
    store: Store, command: str, said: str, times: int, most: float
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRAPPER, sys.executable, "-m", "passt_bench", *command.split()],
        cwd=store.root.parent,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    )
    code, output, seconds, peak = json.loads(done.stdout)
    print(f"\n{command}: {seconds:.1f} s CPU, {peak / 2**20:.0f} MiB")
    assert code == 0, output
    assert output.count(said) == times, output
    assert seconds < most and peak < GIB


def test_load_frame(store: Store) -> None:
    start = process_time()
    frame = load_frame(store.root)
    seconds = process_time() - start
    print(f"\nload_frame: {seconds:.1f} s CPU")
    assert len(frame) == 10_000 and seconds < 10


def test_records_are_read_one_at_a_time(store: Store) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = Counter(record.status for record in store.records() if record.kind == "quality")
    assert counts == {"ok": 9800, "diverged": 200}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
