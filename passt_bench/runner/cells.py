"""Runs quality cells in a process of their own: trains, evaluates and writes the record."""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from passt_bench.data.dataset import Dataset
from passt_bench.data.splits import is_small
from passt_bench.data.targets import class_counts
from passt_bench.errors import failure_status, is_storage_error, without_folders
from passt_bench.measure import memory
from passt_bench.measure.machine import describe_machine, git_commit, library_versions
from passt_bench.measure.memory import peak_bytes
from passt_bench.models import draw_kept, from_recipe, save_model
from passt_bench.models.patchout import random_stream
from passt_bench.records.files import write_atomically
from passt_bench.records.run import Outcome, Picture, RunRecord, Status
from passt_bench.records.store import MODEL, Store
from passt_bench.runner.datasets import hold_out
from passt_bench.runner.initial_weights import load_initial_weights
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run_status import CURVES, PROGRESS, lock, read_epochs
from passt_bench.spec.recipe import Recipe
from passt_bench.training import checkpoint
from passt_bench.training.engine import Diverged, Engine
from passt_bench.training.evaluate import Evaluation, evaluate, predict
from passt_bench.training.features import features_path, open_features
from passt_bench.training.loop import set_up, train
from passt_bench.training.metrics import best_thresholds
from passt_bench.training.state import Progress, Task, Training, add_clocks, temporarily_load

VISIBLE_GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
_PICTURED = 8  # clips of which the loudest is pictured; the first may be silent
_SUBSET = 0x5B5E  # keeps this stream of the seed apart from others
CANNOT_WRITE = 74  # exit status of a process that could not write (EX_IOERR)


def serve_cells(pipe: Connection, paths: Paths, config: RunConfig, gpu: str | None) -> None:
    """Runs, in a child, the cells that come through the pipe, until one fails.

    Each comes with whether its failure is final.
    """
    if gpu is not None:
        os.environ[VISIBLE_GPUS_VARIABLE] = gpu  # CUDA is not initialized yet
    gc.freeze()  # to search what was imported for garbage takes 0.4 s, and there is none
    seed, environment = torch.initial_seed(), dict(os.environ)
    while True:
        cell, final = pipe.recv()
        try:
            work = lock(paths.runs, f"{cell.key}.work.lock")
            # The process of a killed command may hold it, and write the record.
            with warnings.catch_warnings(), work.acquire(timeout=-1):
                written = final_outcome(cell, Store(paths.runs))
                fine = written is not None or run_cell(cell, paths, config, record_failure=final)
        except OSError as error:
            if not is_storage_error(error):
                raise
            checkpoint.warn(str(error))
            sys.exit(CANNOT_WRITE)
        if not fine or config.fresh_processes or not memory.reset_peak(cell.recipe.engine.device):
            return
        # The next cell finds what a new process would; `set_up` sets threads and modes.
        torch.manual_seed(seed)
        torch._dynamo.reset()
        os.environ.clear()
        os.environ.update(environment)
        pipe.send(True)


def final_outcome(cell: PlannedCell, store: Store) -> Outcome | None:
    """How the attempt at a cell ended, from its record; None without one."""
    outcome = store.outcome(cell.key)
    return outcome if outcome is not None and outcome.attempt >= cell.attempt else None


def run_cell(
    cell: PlannedCell, paths: Paths, config: RunConfig, *, record_failure: bool = True
) -> bool:
    """Runs a cell and writes its final record, also of a failure; returns whether it succeeded.

    A failure that is not to be recorded leaves the cell to the next process.

    Raises:
        OSError: nothing can be written; the next command resumes from the last checkpoint.
    """
    store = Store(paths.runs)
    folder = store.folder(cell.key)
    folder.mkdir(parents=True, exist_ok=True)
    # Of an earlier attempt, and of a process that was killed while it wrote.
    for path in (folder / CURVES, *folder.glob(".*.*")):
        path.unlink(missing_ok=True)
    (folder / PROGRESS).touch()  # marks the cell as started
    try:
        with memory.memory_limit(config.memory):
            if cell.recipe.engine.device == "cuda":
                memory.share_gpu_memory(config.per_gpu)
            record = _run(cell, paths, config, folder)
    except Diverged as error:
        record = failure(cell, "diverged", str(error))
    except Exception as error:  # every failure becomes a record
        if is_storage_error(error):
            raise
        record = failure(cell, failure_status(error), traceback.format_exc(limit=-6))
    if cell.again:
        record = _confirmed(cell, record, store)
    if record.status == "ok" or record_failure:
        store.write(record)
        clear(paths, config, cell.key)
    return record.status == "ok"


def _confirmed(cell: PlannedCell, record: RunRecord, store: Store) -> RunRecord:
    """The record of a run that is repeated for its model: the first one, as another attempt.

    A model with other metrics, as another machine or library may compute it, is not kept.
    """
    first = store.run(cell.key)
    assert first is not None
    if record.status != "ok" or record.metrics != first.metrics:
        (store.folder(cell.key) / MODEL).unlink(missing_ok=True)
        checkpoint.warn(
            f"{cell.variant}, seed {cell.seed}: trained again, the model is not the one on record "
            f"({record.message or record.metrics} instead of {first.metrics}), and is not kept"
        )
    return replace(first, attempt=cell.attempt)


def clear(paths: Paths, config: RunConfig, key: str) -> None:
    """Removes what a cell does not need after its record is written, and keeps its curves.

    A progress file beside a record shows that a process was killed before it could remove it.
    """
    folder = Store(paths.runs).folder(key)
    if not config.keep_checkpoints:
        checkpoint.remove(folder)
    for path in folder.glob(".*.*"):
        path.unlink()
    if epochs := read_epochs(folder / PROGRESS):
        of_run = ("epochs", "seconds")  # the same run gives the same bytes without them
        kept = [{k: v for k, v in values.items() if k not in of_run} for values in epochs.values()]
        _write_lines(folder / CURVES, kept)
    (folder / PROGRESS).unlink(missing_ok=True)


def _write_lines(path: Path, lines: Sequence[Mapping[str, float]]) -> None:
    text = "".join(json.dumps(values) + "\n" for values in lines)
    write_atomically(path, text.encode(), sync=False)


def failure(cell: PlannedCell, status: Status, message: str) -> RunRecord:
    """The record of a cell that failed."""
    return replace(_new_record(cell), status=status, message=without_folders(message).strip())


def _new_record(cell: PlannedCell) -> RunRecord:
    summary = cell.summary
    return RunRecord(
        key=cell.key,
        status="ok",
        recipe=cell.recipe,
        seed=cell.seed,
        fold=cell.fold,
        fingerprint=cell.fingerprint,
        tokens=summary.tokens,
        tokens_full=summary.tokens_full,
        grid=summary.grid,
        patchout=summary.patchout,
        parameters=summary.parameters,
        flops=summary.flops,
        machine=describe_machine(),
        versions=library_versions(),
        components=dict(cell.components),
        commit=git_commit(),
        attempt=cell.attempt,
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _run(cell: PlannedCell, paths: Paths, config: RunConfig, folder: Path) -> RunRecord:
    recipe = cell.recipe
    set_up(recipe.engine)
    clock = Clock()
    dataset = cell.data
    cached = features_path(paths.cache, recipe, cell.fingerprint.digest)
    features = open_features(cached, recipe, dataset)
    train_clips, validation_clips, test_clips = split_clips(cell, dataset)
    clock.lap("data")
    classes = dataset.fingerprint.classes
    net = from_recipe(recipe, len(classes), features.shape[2])
    notes = load_initial_weights(net, recipe, cell.seed, cell.checkpoint, classes)
    net.to(recipe.engine.device)
    clock.lap("build")
    task = Task(
        cell.key,
        recipe,
        cell.seed,
        features,
        dataset.targets,
        train_clips,
        folder,
        validation=test_clips if cell.watched else validation_clips,
        keeps_best=not cell.watched,
        attempt=cell.attempt,
        checkpoint_seconds=config.checkpoint_seconds,
        clocks=clock.seconds,
    )
    state = train(net, task, lambda done: _note_epoch(folder, task, done))
    done = state.progress
    clock.lap("train")
    clock.seconds["train"] = done.seconds  # with those before an interruption
    result = _evaluate(state, dataset, test_clips)
    clock.lap("evaluate")
    if cell.keeps_model:
        chosen_on = dataset.validation() if validation_clips is None else validation_clips
        if chosen_on is not None and is_small(class_counts(dataset.targets, chosen_on)):
            chosen_on = None
        if chosen_on is not None and dataset.fingerprint.multi_label:
            scores = predict(net, features, chosen_on, Engine(recipe.engine))
            net.thresholds = best_thresholds(dataset.targets[chosen_on], scores)
        path = folder / MODEL
        save_model(path, net, recipe, classes, metrics=result.metrics, key=cell.key)
    train_stats = {
        "step_seconds": float(np.median(done.step_seconds)),
        "cpu_seconds": done.cpu_seconds,
        "peak_bytes": float(max(done.peak_bytes, peak_bytes(recipe.engine.device))),
        "training_clips": float(len(train_clips)),
        "test_clips": float(len(test_clips)),
    }
    if done.best_epoch:
        train_stats["epoch"] = float(done.best_epoch)
    return replace(
        _new_record(cell),
        metrics=result.metrics,
        per_class=result.per_class,
        occlusions=result.occlusions,
        curves=_curves(recipe, done),
        train=train_stats,
        clocks=add_clocks(clock.seconds, done.earlier_seconds),
        picture=_picture(cell, (features[clip] for clip in train_clips), task.total_steps),
        notes=(*notes, *result.notes),
    )


def _evaluate(state: Training, dataset: Dataset, clips: np.ndarray) -> Evaluation:
    """Evaluates the weights chosen by `eval_weights`, and the other set if there are two.

    Each set of weights is evaluated separately (``ex_esc50.py:218`` of the reference code computes
    the accuracy of the averaged weights from the counts of the others).
    """
    task = state.task
    recipe, fingerprint, engine = task.recipe, dataset.fingerprint, Engine(task.recipe.engine)
    data = (task.features, dataset.targets, clips, recipe.metrics)
    result = evaluate(state.net, *data, fingerprint, engine)
    if state.other_weights is not None:
        kind, weights = state.other_weights
        with temporarily_load(state.net, weights):
            other = evaluate(state.net, *data, replace(fingerprint, groups={}), engine)
        result.metrics |= {f"{kind}_{name}": value for name, value in other.metrics.items()}
    return result


class Clock:
    """Measures wall seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends the lap, stores it under a name, and starts the next."""
        now = time.perf_counter()
        self.seconds[name] = now - self._since
        self._since = now


def _curves(recipe: Recipe, progress: Progress) -> dict[str, tuple[float, ...]]:
    """The curves of a record, over the epochs that are done."""
    curves = {"train_loss": progress.train_loss, "learning_rate": progress.learning_rate}
    if progress.validation:
        curves[f"inner/{recipe.metrics[0]}"] = progress.validation
    return {name: tuple(curve) for name, curve in curves.items()}


def _note_epoch(folder: Path, task: Task, progress: Progress) -> None:
    """Writes the curves so far to the progress file; an interrupted epoch cannot leave a gap."""
    curves = _curves(task.recipe, progress).items()
    epochs: list[dict[str, float]] = [
        {"epoch": n + 1, **{name: curve[n] for name, curve in curves}}
        for n in range(progress.epoch)
    ]
    epochs[-1] |= {"epochs": task.epochs, "seconds": round(progress.seconds, 3)}
    _write_lines(folder / PROGRESS, epochs)


def validated_epochs(folder: Path) -> tuple[list[float], int]:
    """The metric after each epoch of a watched cell, from the first on, and its epochs in all."""
    known = list(read_epochs(folder / PROGRESS).values())
    values = (v for line in known for name, v in line.items() if name.startswith("inner/"))
    return list(values), int(known[-1]["epochs"]) if known else 1


def _picture(cell: PlannedCell, logmels: Iterable[np.ndarray], steps: int) -> Picture | None:
    """The loudest of the first clips, at most 64 mels high, and the patches kept in the first step.

    Only of a cell that is to be pictured. If patchout rises over the training run, they are those
    kept in the last step.
    """
    grid, shape = cell.summary.grid, cell.summary.model_shape
    if not cell.pictured or grid is None or shape is None:
        return None
    logmel = max(islice(logmels, _PICTURED), key=np.mean)
    common = math.gcd(*shape[0], *shape[1])
    divisors = [k for k in range(1, common + 1) if common % k == 0]
    k = next((k for k in divisors if len(logmel) // k <= 64), common)
    rows, columns = len(logmel) // k * k, logmel.shape[1] // k * k
    small = logmel[:rows, :columns].reshape(rows // k, k, columns // k, k).mean(axis=(1, 3))
    low, high = float(small.min()), float(small.max())
    scaled = np.round((small - low) / max(high - low, 1e-9) * 255).astype(int)
    setting = cell.recipe.patchout
    step = steps - 1 if setting.schedule == "rising" else 0
    return Picture(
        logmel=tuple(tuple(row) for row in scaled.tolist()),
        kept=tuple(draw_kept(setting, grid, cell.seed, step).tolist()),
        grid=grid,
        patch=(shape[0][0] // k, shape[0][1] // k),
        stride=(shape[1][0] // k, shape[1][1] // k),
    )


def split_clips(
    cell: PlannedCell, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Clips for training, for the choice of the epoch (or None), and for evaluation.

    With ``checkpoint_selection: validation`` the test split is not used. ``training.clips`` leaves
    a random part of the training clips, of which a smaller number leaves a part.
    """
    train_clips, validation, test_clips = hold_out(cell.recipe, cell.fold, dataset)
    training = cell.recipe.training
    if training.checkpoint_selection == "validation" and validation is not None:
        test_clips, validation = validation, None
    if training.clips is not None:
        order = random_stream(_SUBSET, cell.seed).permutation(len(train_clips))
        train_clips = np.sort(train_clips[order[: training.clips]])
    return train_clips, validation, test_clips
