"""Study files that run in seconds on one core, and their command in a process to be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

TEXT = '''"""Does time patchout cost anything?"""

from passt_bench.ablations.recipes import synthetic
from passt_bench.spec import InitSpec, ModelSpec, Patchout, Recipe, Study, Variant, override
{imports}
STUDY = Study(
    name="{name}",
    question="{question}",
    base=override({base}, {{{changes}}}),
    baseline="none",
    variants=({variants},),
    seeds={seeds},
    metric="{metric}",
)
'''
QUICK = """
    "data.train_clips": 64, "data.test_clips": 120, "training.epochs": 2, "measurement.rounds": 6,
    "measurement.restarts": 1, "measurement.most_rounds": 6, "measurement.steps": 1,
    "measurement.seconds": 20.0,
"""
SMALL = (
    QUICK
    + """
    "model.width": 16, "model.depth": 1, "model.heads": 2, "model.patch": (16, 16),
    "model.stride": (16, 16),
"""
)
TIME = """
    Variant("none"),
    Variant("time", {"patchout": Patchout("time", rate=0.5)})"""
DIVERGES = """,
    Variant("diverges", {"training.learning_rate": 1e30, "training.warmup": 0.0})"""
# A tenth of a second per epoch, and states that only a checkpoint can restore.
KILLED = (
    SMALL
    + """
    "model.patch": (8, 8), "model.stride": (8, 8), "frontend.sampling_rate": 8000,
    "frontend.n_fft": 256, "frontend.window": 200, "frontend.hop": 125, "frontend.mels": 32,
    "frontend.fmax": 3500.0, "data.seconds": 0.5, "data.train_clips": 96, "data.test_clips": 60,
    "training.learning_rate": 1e-3, "training.batch_size": 16, "training.mixup": 0.3,
    "training.roll": 0.2, "training.mask_time": 4, "measurement.seconds": 1.0,
"""
)
HALF = 'Patchout("unstructured", rate=0.5, scope="sample")'
THREE = """
    Variant("none"),
    Variant("half", {{"patchout": {half}}}),
    Variant("best", {{"training.checkpoint_selection": "best_on_validation"}})"""


def text(
    name: str = "tiny",
    *,
    question: str = "Does time patchout cost anything?",
    variants: str = TIME + DIVERGES,
    changes: str = SMALL,
    base: str = "synthetic()",
    seeds: tuple[int, ...] = (0, 1),
    metric: str = "mAP",
    imports: str = "",
) -> str:
    return TEXT.format(
        name=name, question=question, variants=variants, changes=changes, base=base, seeds=seeds,
        metric=metric, imports=imports,
    )  # fmt: skip


def write(folder: Path, name: str = "tiny", **options: Any) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text(name, **options))
    return path


def killed(folder: Path, epochs: int, seeds: int, half: str = HALF, **options: Any) -> Path:
    return write(
        folder, "small", variants=THREE.format(half=half), seeds=tuple(range(seeds)),
        changes=f'{KILLED} "training.epochs": {epochs}', **options,
    )  # fmt: skip


ENVIRONMENT = {
    **os.environ, "PYTHONWARNINGS": "ignore", "COLUMNS": "200",
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
}  # fmt: skip


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
        study = killed(folder, epochs, seeds)
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
        deadline = time.monotonic() + 120
        while len(list(self.runs.glob(pattern))) < number:
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.01)

    def end(self) -> int:
        return self.process.wait(240)

    def text(self) -> str:
        return self.log.read_text()

    def members(self) -> list[int]:
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
        deadline = time.monotonic() + seconds
        while self.members():
            assert time.monotonic() < deadline, f"{self.members()} live on: {self.text()}"
            time.sleep(0.05)
