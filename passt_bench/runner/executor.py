"""Runs cells a few at a time, each in a process of its own, and records how each one ended.

Threads of a `concurrent.futures` executor only wait: each starts a child from the fork server
(torch is loaded there once), and turns its end into a record, however it ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Event

import torch
from filelock import FileLock, Timeout

from passt_bench import processes
from passt_bench.console import Progress
from passt_bench.errors import StorageError
from passt_bench.measure.failure import explain_exit, is_storage_error, oom_kills, was_interrupted
from passt_bench.records.files import Outcome
from passt_bench.records.store import Store
from passt_bench.runner.cells import clear, failure, run_cell
from passt_bench.runner.locks import PROGRESS, lock
from passt_bench.runner.plan import PlannedCell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.training import checkpoint

VARIABLE = "CUDA_VISIBLE_DEVICES"
POLL = 0.3  # seconds
RESTARTS = 3  # of a cell whose process is killed from outside; then the next command runs it
_CANNOT_WRITE = 74  # exit status of a process that could not write (EX_IOERR)


@dataclass(frozen=True)
class _Batch:
    """What all cells of a call of `run_cells` share."""

    paths: Paths
    config: RunConfig
    gpus: Gpus
    stopped: Callable[[], bool]  # whether to end everything now


def run_cells(
    cells: Sequence[PlannedCell],
    paths: Paths,
    config: RunConfig,
    progress: Progress = lambda share, text: None,
) -> dict[str, Outcome]:
    """Runs cells to their final records.

    Args:
        cells: what is to run; a cell that has meanwhile a record is not run again.
        paths: where their files are.
        config: processes at a time (of those on CUDA, one a GPU), time and memory limits.
        progress: called a few times a second with the share of the work that is done, in expected
            seconds, and the number of runs.

    Returns:
        Key → how the cell ended; a cell whose process was killed from outside again and again is
        not among them.

    Raises:
        KeyboardInterrupt: after the children have ended; checkpoints stay for the next run.
        StorageError: nothing can be written.
    """
    if not cells:
        return {}
    for cell in cells:
        cell.data.write()  # here, where a full disk is an error of the command
    fork_server()
    stop = Event()
    batch = _Batch(paths, config, _gpus(cells, paths), stop.is_set)
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        futures = {pool.submit(_run_once, cell, batch, False): cell for cell in cells}
        try:
            while not all(future.done() and not _is_busy(future) for future in futures):
                progress(*_share(futures, paths))
                time.sleep(POLL)
                for future in [future for future in futures if _is_busy(future)]:
                    # Another invocation has it: the others first, then wait for that one.
                    cell = futures.pop(future)
                    futures[pool.submit(_run_once, cell, batch, True)] = cell
                _raise_first(futures)
            progress(*_share(futures, paths))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    ends = {cell.key: future.result() for future, cell in futures.items()}
    return {key: end for key, end in ends.items() if end is not None}


def fork_server() -> ForkServerContext:
    """The fork server with what cells and cost sessions import: a child costs 0.03 s, not 2 s."""
    # What a cell would import late: the first optimizer torch._dynamo, the metrics scikit-learn.
    late = ("torch._dynamo", "passt_bench.training.metrics", "passt_bench.runner.benchmark_target")
    return processes.fork_server(__name__, *late)


def _is_busy(future: Future[Outcome | None]) -> bool:
    return future.done() and isinstance(future.exception(), Timeout)


def _raise_first(futures: Mapping[Future[Outcome | None], PlannedCell]) -> None:
    """Ends the batch for what no cell can help, e.g. a full disk."""
    for future in futures:
        error = future.exception() if future.done() else None
        if error is not None and not isinstance(error, Timeout):
            raise error


def _share(
    futures: Mapping[Future[Outcome | None], PlannedCell], paths: Paths
) -> tuple[float, str]:
    """Share of the expected seconds that have been worked, and how many cells are done."""
    done, work = 0.0, sum(cell.seconds for cell in futures.values())
    for future, cell in futures.items():
        if future.done():
            done += cell.seconds
        elif future.running():
            last = _last_progress(paths, cell.key)
            done += 0.95 * cell.seconds * last["epoch"] / last["epochs"] if last else 0.0
    finished = sum(future.done() for future in futures)
    return done / work if work else 1.0, f"{finished} of {len(futures)} runs"


def _last_progress(paths: Paths, key: str) -> dict[str, float]:
    """The last line of a cell's progress: ``epoch``, ``epochs``, ``seconds``; empty without one."""
    try:
        with (Store(paths.runs).folder(key) / PROGRESS).open("rb") as file:
            last = json.loads(file.read().splitlines()[-1])
        return {name: float(last[name]) for name in ("epoch", "epochs", "seconds")}
    except (OSError, IndexError, ValueError, KeyError, TypeError):
        return {}


def _gpus(cells: Sequence[PlannedCell], paths: Paths) -> Gpus:
    wanted = any(cell.recipe.engine.device == "cuda" for cell in cells)
    count = torch.cuda.device_count() if wanted else 0
    return Gpus(visible_gpus(os.environ, count), paths.runs / "locks")


def visible_gpus(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """The GPUs that this program may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes.

    Args:
        environment: of this program; a scheduler may have chosen some of the GPUs there.
        count: GPUs that CUDA finds.
    """
    named = environment.get(VARIABLE)
    if named is None:
        return tuple(str(index) for index in range(count))
    return tuple(name.strip() for name in named.split(",") if name.strip())[:count]


class Gpus:
    """Hands GPUs to processes, one at a time, over all invocations on one folder.

    Args:
        names: see `visible_gpus`.
        locks: folder of the lock files.
    """

    def __init__(self, names: Sequence[str], locks: Path) -> None:
        self.names = tuple(names)
        self._locks = locks

    @contextmanager
    def one(self, stopped: Callable[[], bool]) -> Iterator[str | None]:
        """Waits for a free GPU; yields its name, or None once ``stopped`` returns true."""
        while not stopped():
            for name in self.names:
                lock = FileLock(self._locks / f"gpu-{name.replace('/', '-')}.lock", timeout=0)
                try:
                    lock.acquire()
                except Timeout:
                    continue
                try:
                    yield name
                finally:
                    lock.release()
                return
            time.sleep(POLL)
        yield None


def _run_once(cell: PlannedCell, batch: _Batch, wait: bool) -> Outcome | None:
    """Runs one cell in a child, once among all invocations on the folder.

    Returns:
        How it ended; None where it was stopped, or killed from outside again and again.

    Raises:
        Timeout: another invocation runs the cell, and ``wait`` is not set.
        StorageError: nothing can be written.
    """
    mine = lock(batch.paths.runs, f"{cell.key}.lock")
    while not batch.stopped():
        try:
            mine.acquire(timeout=POLL if wait else 0)
        except Timeout:
            if wait:
                continue
            raise
        try:
            return _run_until_final(cell, batch)
        finally:
            mine.release()
    return None


def _final(cell: PlannedCell, paths: Paths) -> Outcome | None:
    outcome = Store(paths.runs).outcome(cell.key)
    return outcome if outcome is not None and outcome.attempt >= cell.attempt else None


def _run_until_final(cell: PlannedCell, batch: _Batch) -> Outcome | None:
    on_gpu = cell.recipe.engine.device == "cuda"
    for _ in range(1 + RESTARTS):
        outcome = _final(cell, batch.paths)
        if outcome is not None or batch.stopped():
            return outcome
        with batch.gpus.one(batch.stopped) if on_gpu else nullcontext() as gpu:
            if batch.stopped():
                return None
            outcome = _run_in_child(cell, batch, gpu)
        if outcome is not None:
            return outcome
    return None


def _run_in_child(cell: PlannedCell, batch: _Batch, gpu: str | None) -> Outcome | None:
    """Starts a child and waits for its end; None if it was ended from outside."""
    paths, config = batch.paths, batch.config
    left = None
    if config.timeout is not None:
        left = config.timeout - _last_progress(paths, cell.key).get("seconds", 0.0)
    kills = oom_kills()
    # No daemon, for these may start no processes that make batches; it ends with its parent anyway.
    child = fork_server().Process(target=_child, args=(cell, paths, config, gpu))
    try:
        child.start()
    except (OSError, EOFError):  # the fork server has died; it is started again the next time
        return None
    work = lock(paths.runs, f"{cell.key}.work.lock")
    late = _wait(child, work, left, batch.stopped)
    try:
        outcome = _final(cell, paths)
        if outcome is None:
            if batch.stopped():
                return None
            if child.exitcode == _CANNOT_WRITE:
                raise StorageError(
                    "cannot be written: a full disk, or one that only reads",
                    source=Store(paths.runs).folder(cell.key),
                    remedy="Free space there and run the same command to resume.",
                )
            if late:
                record = failure(cell, "timeout", f"ended after {config.timeout:g} s")
            elif was_interrupted(child.exitcode, kills):
                return None
            else:
                record = failure(cell, *explain_exit(child.exitcode, kills))
            Store(paths.runs).write(record)
            outcome = Outcome(record.status, record.attempt, record.message, key=cell.key)
        clear(paths, config, cell.key)  # the child may have been killed before it did
        return outcome
    finally:
        work.release()


def _wait(
    child: BaseProcess, work: FileLock, seconds: float | None, stopped: Callable[[], bool]
) -> bool:
    """Waits until the child has ended, however that came, and holds its lock; whether it was late.

    The lock counts, for if the fork server dies, its children live on and cannot be waited for.
    """
    began, late, killed = time.monotonic(), False, False
    while True:
        child.join(POLL)
        if not child.is_alive():
            try:
                work.acquire()
            except Timeout:
                time.sleep(POLL)
            else:
                return late
        late = late or (seconds is not None and time.monotonic() - began > seconds)
        if (late or stopped()) and not killed and child.pid is not None:
            killed = True
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _child(cell: PlannedCell, paths: Paths, config: RunConfig, gpu: str | None) -> None:
    """Runs in the child: the cell, unless another process has brought its record meanwhile."""
    processes.follow_parent()
    if gpu is not None:
        os.environ[VARIABLE] = gpu  # CUDA has not been asked for anything yet
    work = lock(paths.runs, f"{cell.key}.work.lock")
    with work.acquire(timeout=-1):  # the process of an invocation that was killed may hold it
        if _final(cell, paths) is None:
            try:
                run_cell(cell, paths, config)
            except OSError as error:
                if is_storage_error(error):
                    checkpoint.warn(str(error))
                    sys.exit(_CANNOT_WRITE)
                raise
