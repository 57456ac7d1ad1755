"""A study of tiny cells as a file, and its command in a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

STUDY = '''"""Small."""

from passt_bench.spec import (
    DataSpec, FrontendSpec, MeasurementSpec, ModelSpec, Patchout, Recipe, Study, TrainingSpec,
    Variant,
)

STUDY = Study(
    name="small",
    question="?",
    base=Recipe(
        model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, depth=1, heads=2),
        frontend=FrontendSpec(
            sampling_rate=8000, n_fft=256, window=200, hop=125, mels=32, fmax=3500.0
        ),
        data=DataSpec("synthetic", seconds=0.5, train_clips=96, test_clips=60),
        training=TrainingSpec(epochs={epochs}, batch_size=16, mixup=0.3, roll=0.2, mask_time=4),
        measurement=MeasurementSpec(rounds=6, most_rounds=6, steps=1, seconds=1.0),
    ),
    variants=(
        Variant("none"),
        Variant("half", {{"patchout": Patchout("unstructured", rate=0.5, scope="sample")}}),
        Variant("best", {{"training.checkpoint_selection": "best_on_validation"}}),
    ),
    baseline="none",
    seeds=tuple(range({seeds})),
)
'''
ENVIRONMENT = {
    **os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "200", "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
}  # fmt: skip


def write_study(folder: Path, epochs: int = 60, seeds: int = 2) -> Path:
    """Writes the study file; its path."""
    path = folder / "small.py"
    path.write_text(STUDY.format(epochs=epochs, seeds=seeds))
    return path


def results(runs: Path) -> dict[str, dict[str, Any]]:
    """Records by key without what tells of time and machine; the chosen epoch is a result."""
    found = {}
    for path in sorted(runs.glob("records/*/record.json")):
        record = json.loads(path.read_text())
        for name in ("clocks", "finished", "machine", "versions", "commit"):
            del record[name]
        record["train"] = record["train"].get("epoch")
        found[record["key"]] = record
    return found


class Command:
    """`passt-bench run` of the study in a session of its own, as a terminal would start it."""

    def __init__(self, folder: Path, *words: str, epochs: int = 60, seeds: int = 2) -> None:
        study = write_study(folder, epochs, seeds)
        self.runs = folder / "runs"
        self.words = ["run", str(study), "--no-cost", *words]
        self.log = folder / f"log-{time.monotonic_ns()}.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "passt_bench", *self.words],
                cwd=folder,
                env=ENVIRONMENT,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for(self, pattern: str, number: int = 1) -> None:
        """Waits until so many files of the folder of records match the pattern."""
        deadline = time.monotonic() + 120
        while len(list(self.runs.glob(pattern))) < number:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.01)

    def end(self) -> int:
        """Waits for the end; the exit status."""
        return self.process.wait(240)

    def text(self) -> str:
        """What it has printed so far."""
        return self.log.read_text()

    def members(self) -> list[int]:
        """Living processes of its session."""
        found = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and os.getsid(process.pid) == self.process.pid:
                    found.append(process.pid)
            except (psutil.NoSuchProcess, ProcessLookupError):
                continue
        return found

    def gone(self, seconds: float) -> None:
        """Waits until no process of its session is alive."""
        deadline = time.monotonic() + seconds
        while self.members():
            assert time.monotonic() < deadline, f"{self.members()} live on: {self.text()}"
            time.sleep(0.05)
