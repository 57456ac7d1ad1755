"""One quality cell in a process of its own: train, evaluate, write the record."""

from __future__ import annotations

import json
import math
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.data.splits import inner_split
from passt_bench.measure.failure import classify
from passt_bench.measure.machine import describe_machine, git_commit, library_versions
from passt_bench.measure.memory import peak_bytes
from passt_bench.models import draw, from_recipe, initialise
from passt_bench.record import Picture, RunRecord, Status
from passt_bench.runner.plan import Context, PlannedCell
from passt_bench.store import Store
from passt_bench.training import checkpoint
from passt_bench.training.evaluate import evaluate
from passt_bench.training.features import features_path
from passt_bench.training.loop import Diverged, Progress, Task, set_up, train


def run_cell(cell: PlannedCell, context: Context) -> RunRecord:
    """Runs a cell to its final record, which is also written; failures become records too."""
    store = Store(context.out)
    folder = store.folder(cell.key)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record = _run(cell, context, folder)
    except Diverged as error:
        record = failure(cell, "diverged", str(error))
    except Exception as error:  # whatever it is, it becomes a row
        record = failure(cell, classify(error), traceback.format_exc(limit=-6))
    store.write(record)
    checkpoint.remove(folder)
    (folder / "progress.jsonl").unlink(missing_ok=True)
    return record


def failure(cell: PlannedCell, status: Status, message: str) -> RunRecord:
    """The record of a cell that came to nothing."""
    here = str(Path(__file__).resolve().parents[2])
    return replace(_blank(cell), status=status, message=message.replace(here, "").strip())


def _blank(cell: PlannedCell) -> RunRecord:
    facts = cell.facts
    return RunRecord(
        key=cell.key,
        status="ok",
        recipe=cell.recipe,
        seed=cell.seed,
        fold=cell.fold,
        fingerprint=cell.fingerprint,
        tokens=facts.tokens,
        tokens_full=facts.tokens_full,
        grid=facts.grid,
        patchout=facts.patchout,
        parameters=facts.parameters,
        flops=facts.flops,
        machine=describe_machine(),
        versions=library_versions(),
        components=dict(cell.components),
        commit=git_commit(),
        attempt=cell.attempt,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _run(cell: PlannedCell, context: Context, folder: Path) -> RunRecord:
    recipe = cell.recipe
    set_up(recipe.engine)
    clock = Clock()
    dataset = open_dataset(recipe.data, recipe.frontend.sampling_rate, cell.data_root)
    if dataset.fingerprint.digest != cell.fingerprint.digest:
        raise RuntimeError("the data changed since the study was planned; run it again")
    features = np.load(
        features_path(context.cache, recipe, dataset.fingerprint.digest), mmap_mode="r"
    )
    train_clips, test_clips = _split(cell, dataset)
    clock.lap("data")
    net = from_recipe(recipe, len(dataset.fingerprint.classes), features.shape[2])
    initialise(net, cell.seed)
    net.to(recipe.engine.device)
    clock.lap("build")
    task = Task(cell.key, recipe, cell.seed, features, dataset.targets, train_clips, folder)
    done = train(net, task, lambda progress: _tell(folder, recipe.training.epochs, progress))
    clock.seconds["train"] = done.seconds  # over resumes
    clock.start()
    result = evaluate(
        net,
        features,
        dataset.targets,
        test_clips,
        recipe.metrics,
        dataset.fingerprint,
        recipe.engine.device,
    )
    clock.lap("evaluate")
    return replace(
        _blank(cell),
        metrics=result.metrics,
        per_class=result.per_class,
        probes=result.probes,
        curves={
            "train_loss": tuple(done.train_loss),
            "learning_rate": tuple(done.learning_rate),
        },
        train={
            "step_seconds": float(np.median(done.step_seconds)),
            "cpu_seconds": done.cpu_seconds,
            "peak_bytes": float(peak_bytes(recipe.engine.device)),
        },
        clocks=clock.seconds,
        picture=_picture(cell, features[train_clips[0]]),
    )


def _split(cell: PlannedCell, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Training and evaluation clips; with ``select: inner`` the test fold stays closed."""
    train_clips, test_clips = dataset.split(cell.fold)
    training = cell.recipe.training
    if training.select == "inner":
        # One inner split a search, whatever the seed: trials are compared on the same clips.
        return inner_split(train_clips, dataset.sources, dataset.targets, training.inner_share, 0)
    return train_clips, test_clips


class Clock:
    """Wall seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.start()

    def start(self) -> None:
        """Begins a lap."""
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends the lap under a name and begins the next."""
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def _tell(folder: Path, epochs: int, progress: Progress) -> None:
    line: dict[str, Any] = {
        "epoch": progress.epoch,
        "epochs": epochs,
        "train_loss": progress.train_loss[-1],
        "seconds": round(progress.seconds, 3),
    }
    with (folder / "progress.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _picture(cell: PlannedCell, logmel: np.ndarray) -> Picture | None:
    """The first training clip and the patches that the first step keeps, at most 64 mels high."""
    grid, shape = cell.facts.grid, cell.facts.model_shape
    if grid is None or shape is None:
        return None
    common = math.gcd(*shape[0], *shape[1])
    k = next(
        (k for k in range(1, common + 1) if common % k == 0 and len(logmel) // k <= 64), common
    )
    rows, columns = len(logmel) // k * k, logmel.shape[1] // k * k
    small = logmel[:rows, :columns].reshape(rows // k, k, columns // k, k).mean(axis=(1, 3))
    low, high = float(small.min()), float(small.max())
    scaled = np.round((small - low) / max(high - low, 1e-9) * 255).astype(int)
    return Picture(
        logmel=tuple(tuple(row) for row in scaled.tolist()),
        kept=tuple(draw(cell.recipe.patchout, grid, cell.seed, 0).tolist()),
        grid=grid,
        patch=(shape[0][0] // k, shape[0][1] // k),
        stride=(shape[1][0] // k, shape[1][1] // k),
    )
