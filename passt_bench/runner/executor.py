"""Prepares and runs cells, a few at a time, each in a process of its own.

Threads of a `concurrent.futures` executor only wait: each starts a child from the fork server
(which has loaded torch), and records how the child ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Event

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from passt_bench import processes
from passt_bench.console import Progress, stage
from passt_bench.errors import InputError, StorageError, is_storage_error
from passt_bench.records.run import Outcome
from passt_bench.records.store import Store
from passt_bench.runner.cells import clear, failure, run_cell
from passt_bench.runner.plan import Datasets, PlannedCell, StudyPlan
from passt_bench.runner.request import Paths, RunConfig, check_device_name
from passt_bench.runner.run_status import PROGRESS, lock
from passt_bench.spec.recipe import Recipe
from passt_bench.training import checkpoint
from passt_bench.training.features import features_path, fits_cache, prepare_features

VISIBLE_GPUS_VARIABLE = "CUDA_VISIBLE_DEVICES"
POLL = 0.3  # seconds
RESTARTS = 3  # of a cell whose process is killed from outside, within one command
_CANNOT_WRITE = 74  # exit status of a process that could not write (EX_IOERR)
# What a cell would import later: the first optimizer torch._dynamo, the metrics scikit-learn.
_MODULES = (
    __name__,
    "torch._dynamo",
    "passt_bench.training.metrics",
    "passt_bench.runner.benchmark_target",
)


def run_cells(
    cells: Sequence[PlannedCell],
    paths: Paths,
    config: RunConfig,
    progress: Progress = lambda share, text: None,
) -> dict[str, Outcome]:
    """Runs each cell until it has a final record; skips a cell that got one meanwhile.

    Args:
        cells: the cells.
        paths: folders of their files.
        config: number of processes (on CUDA, one per GPU), time and memory limits.
        progress: called a few times per second with the fraction of the expected seconds that is
            done, and the number of runs.

    Returns:
        Key → how the cell ended; without cells whose process was repeatedly killed from outside.

    Raises:
        KeyboardInterrupt: after the children have ended; checkpoints stay for the next command.
        StorageError: nothing can be written.
    """
    if not cells:
        return {}
    for cell in cells:
        cell.data.write()  # before the children start, so that a full disk fails the command
    fork_server()
    runner = _CellRunner(cells, paths, config)
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        futures = {pool.submit(runner.run, cell): cell for cell in cells}
        try:
            while not all(future.done() and not _is_busy(future) for future in futures):
                progress(*runner.estimate(futures))
                time.sleep(POLL)
                for future in [future for future in futures if _is_busy(future)]:
                    # Another command runs this cell: run the others first, then wait for it.
                    cell = futures.pop(future)
                    futures[pool.submit(runner.run, cell, wait=True)] = cell
                for future in futures:
                    if future.done() and not _is_busy(future):
                        future.result()  # raises what concerns all cells, e.g. a full disk
            progress(*runner.estimate(futures))
        except BaseException:
            runner.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    outcomes = {cell.key: future.result() for future, cell in futures.items()}
    return {key: end for key, end in outcomes.items() if end is not None}


def fork_server() -> ForkServerContext:
    """The fork server with what cells and cost sessions import: a child costs 0.03 s, not 2 s."""
    return processes.fork_server(*_MODULES)


def _is_busy(future: Future[Outcome | None]) -> bool:
    return future.done() and isinstance(future.exception(), Timeout)


def visible_gpus(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """The GPUs that this program may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes.

    Args:
        environment: of this program; a scheduler may have chosen some of the GPUs there.
        count: GPUs that CUDA finds.
    """
    named = environment.get(VISIBLE_GPUS_VARIABLE)
    if named is None:
        return tuple(str(index) for index in range(count))
    return tuple(name.strip() for name in named.split(",") if name.strip())[:count]


@contextmanager
def free_gpu(
    names: Sequence[str], locks: Path, stopped: Callable[[], bool]
) -> Iterator[str | None]:
    """Waits for a GPU that no process of any command on the folder of locks uses, and holds it.

    Yields its name, or None once ``stopped`` returns true.
    """
    while not stopped():
        for name in names:
            gpu = FileLock(locks / f"gpu-{name.replace('/', '-')}.lock", timeout=0)
            try:
                held = gpu.acquire()
            except Timeout:
                continue
            with held:
                yield name
            return
        time.sleep(POLL)
    yield None


class _CellRunner:
    """Runs cells of one call of `run_cells` in children."""

    def __init__(self, cells: Sequence[PlannedCell], paths: Paths, config: RunConfig) -> None:
        self._paths, self._config, self._store = paths, config, Store(paths.runs)
        cuda = any(cell.recipe.engine.device == "cuda" for cell in cells)
        self._gpus = visible_gpus(os.environ, torch.cuda.device_count() if cuda else 0)
        self.stop = Event()

    def estimate(self, futures: Mapping[Future[Outcome | None], PlannedCell]) -> tuple[float, str]:
        """The fraction of the expected seconds that is done, and the number of finished cells."""
        done, work = 0.0, sum(cell.seconds for cell in futures.values())
        for future, cell in futures.items():
            if future.done():
                done += cell.seconds
            elif future.running():
                last = self._last_progress(cell.key)
                done += 0.95 * cell.seconds * last["epoch"] / last["epochs"] if last else 0.0
        finished = sum(future.done() for future in futures)
        return done / work if work else 1.0, f"{finished} of {len(futures)} runs"

    def _last_progress(self, key: str) -> dict[str, float]:
        """The last line of a cell's progress, see `cells._note_epoch`; empty without one."""
        try:
            last = json.loads((self._store.folder(key) / PROGRESS).read_bytes().splitlines()[-1])
            return {name: float(last[name]) for name in ("epoch", "epochs", "seconds")}
        except (OSError, IndexError, ValueError, KeyError, TypeError):
            return {}

    def run(self, cell: PlannedCell, *, wait: bool = False) -> Outcome | None:
        """Runs one cell; among all commands that use the folder, only one runs it.

        Returns:
            How it ended; None if it was stopped, or repeatedly killed from outside.

        Raises:
            Timeout: another command runs the cell, and ``wait`` is not set.
            StorageError: nothing can be written.
        """
        cell_lock = lock(self._paths.runs, f"{cell.key}.lock")
        while not self.stop.is_set():
            try:
                cell_lock.acquire(timeout=POLL if wait else 0)
            except Timeout:
                if wait:
                    continue
                raise
            try:
                return self._run_until_final(cell)
            finally:
                cell_lock.release()
        return None

    def _run_until_final(self, cell: PlannedCell) -> Outcome | None:
        gpus, locks, stopped = self._gpus, self._paths.runs / "locks", self.stop.is_set
        on_gpu = cell.recipe.engine.device == "cuda"
        for _ in range(1 + RESTARTS):
            outcome = _final(cell, self._store)
            if outcome is not None or stopped():
                return outcome
            with free_gpu(gpus, locks, stopped) if on_gpu else nullcontext() as gpu:
                if stopped():
                    return None
                outcome = self._run_in_child(cell, gpu)
            if outcome is not None:
                return outcome
        return None

    def _run_in_child(self, cell: PlannedCell, gpu: str | None) -> Outcome | None:
        """Runs a cell in a child; None if the child was killed from outside."""
        paths, config = self._paths, self._config
        left = float("inf")
        if config.timeout is not None:
            left = config.timeout - self._last_progress(cell.key).get("seconds", 0.0)
        try:
            # Not a daemon, because daemons may not start loader processes.
            child = processes.Child(_child, cell, paths, config, gpu, modules=_MODULES)
        except (OSError, EOFError):  # the fork server died; the next attempt starts it again
            return None
        deadline, timed_out = time.monotonic() + left, False
        while not child.ended(POLL):
            timed_out = time.monotonic() > deadline
            if timed_out or self.stop.is_set():
                child.kill()
        child.kill()  # in case it outlived the fork server
        with lock(paths.runs, f"{cell.key}.work.lock").acquire(timeout=-1):
            outcome = _final(cell, self._store)
            if outcome is None:
                if self.stop.is_set():
                    return None
                if child.status == _CANNOT_WRITE:
                    raise StorageError(
                        "cannot be written; the disk is full or read-only",
                        source=self._store.folder(cell.key),
                        remedy="Free space there and run the same command to resume.",
                    )
                status, message = child.explain_exit()
                if timed_out:
                    record = failure(cell, "timeout", f"stopped after {config.timeout:g} s")
                elif status == "interrupted":
                    return None
                else:
                    record = failure(cell, status, message)
                self._store.write(record)
                outcome = Outcome(cell.key, record.status, record.attempt, record.message)
            clear(paths, config, cell.key)  # in case the child was killed before it did this
            return outcome


def _final(cell: PlannedCell, store: Store) -> Outcome | None:
    outcome = store.outcome(cell.key)
    return outcome if outcome is not None and outcome.attempt >= cell.attempt else None


def _child(cell: PlannedCell, paths: Paths, config: RunConfig, gpu: str | None) -> None:
    """Runs the cell in the child, unless another process has written its record meanwhile."""
    if gpu is not None:
        os.environ[VISIBLE_GPUS_VARIABLE] = gpu  # CUDA is not initialized yet
    work = lock(paths.runs, f"{cell.key}.work.lock")
    with work.acquire(timeout=-1):  # the process of a killed command may hold it
        if _final(cell, Store(paths.runs)) is None:
            try:
                run_cell(cell, paths, config)
            except OSError as error:
                if is_storage_error(error):
                    checkpoint.warn(str(error))
                    sys.exit(_CANNOT_WRITE)
                raise


def check_device(plan: StudyPlan) -> None:
    """Refuses a plan for a device that is not available (raises `InputError`)."""
    for variant in plan.record.variants:
        check_available(variant.recipe.engine.device, plan.study.place(variant.name))


def check_available(device: str, source: str | None = None, field: str = "engine.device") -> None:
    """Refuses a device that is unknown or not available (raises `InputError`)."""
    check_device_name(device, source, field)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "no CUDA device is available on this machine",
            source=source,
            field=field,
            value="cuda",
            remedy="Use --device cpu.",
        )


def prepare(
    todo: Sequence[PlannedCell], paths: Paths, datasets: Datasets, console: Console
) -> None:
    """Computes the features that cells need and that are not in the cache."""
    torch.set_num_threads(1)  # features must not depend on the number of cores
    missing: dict[Path, Recipe] = {}
    for cell in todo:
        path = features_path(paths.cache, cell.recipe, cell.fingerprint.digest)
        if path is None or path.is_file():
            continue
        if fits_cache(cell.recipe, len(datasets.get(cell.recipe).ids), paths.cache):
            missing.setdefault(path, cell.recipe)
    for path, recipe in missing.items():
        paths.cache.mkdir(parents=True, exist_ok=True)
        # If several commands use the folder, one computes and the others wait.
        with (
            stage(console, f"Preparing log-mel features of {recipe.data.name}") as update,
            FileLock(paths.cache / "prepare.lock"),
        ):
            for left in paths.cache.glob("*.tmp"):
                left.unlink()  # left by a command that was killed
            dataset = datasets.get(recipe)
            prepare_features(dataset, recipe.frontend, recipe.data.seconds, path, update)


def train(todo: Sequence[PlannedCell], paths: Paths, config: RunConfig, console: Console) -> None:
    """Trains and evaluates cells whose features are prepared."""
    if todo:
        cells = f"{len(todo)} runs, {config.workers} in parallel"
        with stage(console, f"Training and evaluating {cells}") as update:
            run_cells(todo, paths, config, update)
