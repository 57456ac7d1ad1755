"""A disk that is full in the midst of a run: nothing is recorded, and the next command goes on."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store

STUDY = '''"""?"""
from passt_bench.ablations.recipes import synthetic
from passt_bench.spec import Patchout, Study, Variant, override

STUDY = Study(
    name="full",
    question="?",
    base=override(
        synthetic(),
        {
            "model.width": 32, "model.depth": 2, "model.heads": 2, "model.patch": (16, 16),
            "model.stride": (16, 16), "data.train_clips": 64, "data.test_clips": 120,
            "training.epochs": 3,
        },
    ),
    baseline="none",
    variants=(Variant("none"), Variant("time", {"patchout": Patchout("time", rate=0.5)})),
    seeds=(0,),
)
'''
DISK = 100_000  # bytes a file: more than a record, less than a checkpoint


def _run(folder: Path, disk: int | None = None) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if disk is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))

    words = ("run", "full.py", "--no-track", "--no-cost", "--checkpoint-seconds", "0")
    return subprocess.run(
        [sys.executable, "-m", "passt_bench", *words, "--workers", "1"],
        cwd=folder,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=limit,  # the limit passes on to every process of the run
    )


def _metrics(folder: Path) -> dict[str, dict[str, float]]:
    runs = [record for record in Store(folder / "runs").records() if isinstance(record, RunRecord)]
    assert all(record.status == "ok" for record in runs)
    return {record.key: record.metrics for record in runs}


def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "full.py").write_text(STUDY)
    done = _run(one)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copytree(one / "runs" / "cache", two / "runs" / "cache")
    full = _run(two, DISK)
    said = " ".join(full.stdout.split())
    assert full.returncode == 2, full.stdout + full.stderr
    assert "the disk is full" in said or "cannot be written" in said
    assert "Free space" in said and "Traceback" not in said
    assert not list((two / "runs" / "records").glob("*/record.json"))
    assert not list((two / "runs" / "records").glob("*/.*"))
    again = _run(two)
    assert again.returncode == 0, again.stdout + again.stderr
    assert _metrics(two) == _metrics(one)
    assert len(_metrics(two)) == 2
