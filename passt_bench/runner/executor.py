"""Runs cells a few at a time, each in a process of its own, and records how each one ended.

Threads of a `concurrent.futures` executor only wait: each starts a child from the fork server
(which has loaded torch), and records how the child ended.
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
from passt_bench.records.run import Outcome
from passt_bench.records.store import Store
from passt_bench.runner.cells import clear, failure, run_cell
from passt_bench.runner.locks import PROGRESS, lock
from passt_bench.runner.plan import PlannedCell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.training import checkpoint

VARIABLE = "CUDA_VISIBLE_DEVICES"
POLL = 0.3  # seconds
RESTARTS = 3  # of a cell whose process is killed from outside, within one command
_CANNOT_WRITE = 74  # exit status of a process that could not write (EX_IOERR)


@dataclass(frozen=True)
class _RunContext:
    """Settings that all cells of one call of `run_cells` share."""

    paths: Paths
    config: RunConfig
    gpus: Gpus
    stopped: Callable[[], bool]  # whether everything is to end now


def run_cells(
    cells: Sequence[PlannedCell],
    paths: Paths,
    config: RunConfig,
    progress: Progress = lambda share, text: None,
) -> dict[str, Outcome]:
    """Runs cells to their final records.

    Args:
        cells: the cells; those with a record by the time of their turn are not run again.
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
    stop = Event()
    context = _RunContext(paths, config, _gpus(cells, paths), stop.is_set)
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        futures = {pool.submit(_run_once, cell, context, False): cell for cell in cells}
        try:
            while not all(future.done() and not _is_busy(future) for future in futures):
                progress(*_share(futures, paths))
                time.sleep(POLL)
                for future in [future for future in futures if _is_busy(future)]:
                    # Another command runs this cell: run the others first, then wait for it.
                    cell = futures.pop(future)
                    futures[pool.submit(_run_once, cell, context, True)] = cell
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
    # A cell would import these later: the first optimizer torch._dynamo, the metrics scikit-learn.
    more = ("torch._dynamo", "passt_bench.training.metrics", "passt_bench.runner.benchmark_target")
    return processes.fork_server(__name__, *more)


def _is_busy(future: Future[Outcome | None]) -> bool:
    return future.done() and isinstance(future.exception(), Timeout)


def _raise_first(futures: Mapping[Future[Outcome | None], PlannedCell]) -> None:
    """Raises an error that concerns all cells, e.g. a full disk."""
    for future in futures:
        error = future.exception() if future.done() else None
        if error is not None and not isinstance(error, Timeout):
            raise error


def _share(
    futures: Mapping[Future[Outcome | None], PlannedCell], paths: Paths
) -> tuple[float, str]:
    """Fraction of the expected seconds that is done, and the number of finished cells in words."""
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
    """Assigns each GPU to one process at a time, among all commands that use one folder.

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


def _run_once(cell: PlannedCell, context: _RunContext, wait: bool) -> Outcome | None:
    """Runs one cell in a child; among all commands that use the folder, only one runs it.

    Returns:
        How it ended; None if it was stopped, or repeatedly killed from outside.

    Raises:
        Timeout: another command runs the cell, and ``wait`` is not set.
        StorageError: nothing can be written.
    """
    cell_lock = lock(context.paths.runs, f"{cell.key}.lock")
    while not context.stopped():
        try:
            cell_lock.acquire(timeout=POLL if wait else 0)
        except Timeout:
            if wait:
                continue
            raise
        try:
            return _run_until_final(cell, context)
        finally:
            cell_lock.release()
    return None


def _final(cell: PlannedCell, paths: Paths) -> Outcome | None:
    outcome = Store(paths.runs).outcome(cell.key)
    return outcome if outcome is not None and outcome.attempt >= cell.attempt else None


def _run_until_final(cell: PlannedCell, context: _RunContext) -> Outcome | None:
    on_gpu = cell.recipe.engine.device == "cuda"
    for _ in range(1 + RESTARTS):
        outcome = _final(cell, context.paths)
        if outcome is not None or context.stopped():
            return outcome
        with context.gpus.one(context.stopped) if on_gpu else nullcontext() as gpu:
            if context.stopped():
                return None
            outcome = _run_in_child(cell, context, gpu)
        if outcome is not None:
            return outcome
    return None


def _run_in_child(cell: PlannedCell, context: _RunContext, gpu: str | None) -> Outcome | None:
    """Runs a cell in a child; None if the child was killed from outside."""
    paths, config = context.paths, context.config
    left = None
    if config.timeout is not None:
        left = config.timeout - _last_progress(paths, cell.key).get("seconds", 0.0)
    kills = oom_kills()
    # Not a daemon, because daemons may not start loader processes; it ends with its parent anyway.
    child = fork_server().Process(target=_child, args=(cell, paths, config, gpu))
    try:
        child.start()
    except (OSError, EOFError):  # the fork server died; the next attempt starts it again
        return None
    work = lock(paths.runs, f"{cell.key}.work.lock")
    timed_out = _wait(child, work, left, context.stopped)
    try:
        outcome = _final(cell, paths)
        if outcome is None:
            if context.stopped():
                return None
            if child.exitcode == _CANNOT_WRITE:
                raise StorageError(
                    "cannot be written; the disk is full or read-only",
                    source=Store(paths.runs).folder(cell.key),
                    remedy="Free space there and run the same command to resume.",
                )
            if timed_out:
                record = failure(cell, "timeout", f"stopped after {config.timeout:g} s")
            elif was_interrupted(child.exitcode, kills):
                return None
            else:
                record = failure(cell, *explain_exit(child.exitcode, kills))
            Store(paths.runs).write(record)
            outcome = Outcome(cell.key, record.status, record.attempt, record.message)
        clear(paths, config, cell.key)  # in case the child was killed before it did this
        return outcome
    finally:
        work.release()


def _wait(
    child: BaseProcess, work: FileLock, seconds: float | None, stopped: Callable[[], bool]
) -> bool:
    """Waits until the child has ended, and takes its lock; returns whether it timed out.

    The lock decides, because children outlive a fork server that dies and cannot be joined then.
    """
    began, timed_out, killed = time.monotonic(), False, False
    while True:
        child.join(POLL)
        if not child.is_alive():
            try:
                work.acquire()
            except Timeout:
                time.sleep(POLL)
            else:
                return timed_out
        timed_out = timed_out or (seconds is not None and time.monotonic() - began > seconds)
        if (timed_out or stopped()) and not killed and child.pid is not None:
            killed = True
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def _child(cell: PlannedCell, paths: Paths, config: RunConfig, gpu: str | None) -> None:
    """Runs the cell in the child, unless another process has written its record meanwhile."""
    processes.follow_parent()
    if gpu is not None:
        os.environ[VARIABLE] = gpu  # CUDA is not initialized yet
    work = lock(paths.runs, f"{cell.key}.work.lock")
    with work.acquire(timeout=-1):  # the process of a killed command may hold it
        if _final(cell, paths) is None:
            try:
                run_cell(cell, paths, config)
            except OSError as error:
                if is_storage_error(error):
                    checkpoint.warn(str(error))
                    sys.exit(_CANNOT_WRITE)
                raise
