"""SIGKILL at seeded moments: the finished records equal those of an undisturbed run.

Sixteen moments; eighty with ``--long``, as `nox -s assurance` gives it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_study import results

from passt_bench.records.store import MODEL

HERE = Path(__file__).parent
POINTS = ("create", "cut", "sync", "rename", "renamed")
CHILD_BATCH = 5  # moments that one invocation meets


def _moment(random: random.Random, who: str, phase: str, number: int, each: int) -> dict[str, Any]:
    point = random.choice(("before", "after"))
    at = 1
    if phase == "training":
        at = random.randint(1, 8)
    elif phase == "evaluation":
        at = random.randint(1, 3)
    else:
        point = random.choice(POINTS) if each < len(POINTS) else POINTS[number % len(POINTS)]
        if phase == "checkpoint":
            at = random.randint(1, 2)
    if who == "parent" and phase == "record" and number >= each // 2:
        who = "self"  # the parent writes as well: the rows of processes that died
    # Where checkpoints are cut off there have to be some; else they come now and then.
    seconds = 0.0 if phase == "checkpoint" else random.choice((0.0, 0.02, 0.2))
    return {
        "who": who, "phase": phase, "point": point, "at": at, "checkpoint_seconds": seconds
    }  # fmt: skip


def _batches(seed: int, each: int) -> list[list[dict[str, Any]]]:
    drawn = random.Random(seed)
    phases = ("training", "evaluation", "checkpoint", "record")
    child = [_moment(drawn, "child", phase, i, each) for phase in phases for i in range(each)]
    parent = [_moment(drawn, "parent", phase, i, each) for phase in phases for i in range(each)]
    drawn.shuffle(child)
    batches = [child[i : i + CHILD_BATCH] for i in range(0, len(child), CHILD_BATCH)]
    batches += [[moment] for moment in parent]
    # And amid the expansion of the study, which the parent writes first of all.
    batches += [[{**parent[0], "who": "self", "phase": "study", "point": p, "at": 1}]
                for p in POINTS]  # fmt: skip
    drawn.shuffle(batches)
    return batches


def _files(runs: Path) -> set[Path]:
    return {path.relative_to(runs) for path in runs.glob("records/*/*")}


def test_the_records_equal_those_of_an_undisturbed_run_and_nothing_else_is_left(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    each = 10 if pytestconfig.getoption("--long") else 2  # kills of each phase in each process
    batches = tmp_path / "batches.json"
    batches.write_text(json.dumps(_batches(20261123, each)))
    done = subprocess.run(
        [sys.executable, str(HERE / "killing.py"), str(tmp_path), str(batches)],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    moments = [json.loads(path.read_text()) for path in tmp_path.glob("killed-*/moments/*.done")]
    counts = Counter((moment["who"] == "child", moment["phase"]) for moment in moments)
    assert counts.pop((False, "study")) == len(POINTS)
    assert len(counts) == 8
    assert set(counts.values()) == {each}  # every kill took place
    assert not list(tmp_path.glob("killed-*/moments/*.json"))
    expected = results(tmp_path / "undisturbed")
    assert Counter(record["status"] for record in expected.values()) == {
        "ok": 9, "diverged": 3, "error": 3
    }  # fmt: skip
    files = _files(tmp_path / "undisturbed")
    assert {path.name for path in files} == {"record.json", "curves.jsonl", MODEL}
    for folder in tmp_path.glob("killed-*"):
        assert results(folder) == expected
        assert _files(folder) == files
    for process in psutil.process_iter(["cmdline"]):
        assert str(tmp_path) not in " ".join(process.info["cmdline"] or ())
