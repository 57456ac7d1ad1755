"""One cell in a process of its own: locks, GPUs, limits, and what the end of the process means."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.process import BaseProcess
from pathlib import Path

from filelock import FileLock, Timeout

from passt_bench.errors import StorageError
from passt_bench.import_path import without_current_folder
from passt_bench.measure.failure import explain_exit, oom_kills, says_nothing, was_interrupted
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import PROGRESS, clear, failure, run_cell
from passt_bench.runner.locks import lock
from passt_bench.runner.plan import PlannedCell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.training import checkpoint
from passt_bench.training.loaders import end_with_parent

VARIABLE = "CUDA_VISIBLE_DEVICES"
_POLL = 0.2  # seconds

POLL = 0.3  # seconds
RESTARTS = 3  # of a cell whose process somebody kills, before it is left to the next command
_CANNOT_WRITE = 74  # exit status of a process that could not write (EX_IOERR)


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
        """Waits for a GPU that nobody holds; its name, or None where ``stopped`` says so."""
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
            time.sleep(_POLL)
        yield None


def fork_server() -> ForkServerContext:
    """The fork server with torch and this package loaded; a child costs 0.03 s instead of 2 s."""
    context = multiprocessing.get_context("forkserver")
    # What a cell would import late: the first optimizer torch._dynamo, the metrics scikit-learn.
    late = ["torch._dynamo", "passt_bench.training.metrics", "passt_bench.runner.benchmark_target"]
    context.set_forkserver_preload(["passt_bench.runner.isolation", *late])
    # A Ctrl-C reaches every process of the terminal; this program decides what it means, and
    # the server and its children never see it, not even while they start.
    with without_current_folder():
        resource_tracker.ensure_running()  # it would let Ctrl-C through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


@dataclass(frozen=True)
class Batch:
    """What all cells of a batch share.

    Attributes:
        paths: where their files are.
        config: how they are run.
        gpus: shared out among cells on CUDA.
        stopped: whether to end everything now.
    """

    paths: Paths
    config: RunConfig
    gpus: Gpus
    stopped: Callable[[], bool]


def run_isolated(cell: PlannedCell, batch: Batch, wait: bool) -> RunRecord | None:
    """Runs one cell in a child, once among all invocations on the folder.

    Returns:
        The final record; None where it was stopped, or killed from outside again and again.

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
            return _until_final(cell, batch)
        finally:
            mine.release()
    return None


def _final(cell: PlannedCell, paths: Paths) -> RunRecord | None:
    record = Store(paths.runs).run(cell.key)
    return record if record is not None and record.attempt >= cell.attempt else None


def _until_final(cell: PlannedCell, batch: Batch) -> RunRecord | None:
    on_gpu = cell.recipe.engine.device == "cuda"
    for _ in range(1 + RESTARTS):
        record = _final(cell, batch.paths)
        if record is not None or batch.stopped():
            return record
        with batch.gpus.one(batch.stopped) if on_gpu else nullcontext() as gpu:
            if batch.stopped():
                return None
            record = _attend(cell, batch, gpu)
        if record is not None:
            return record
    return None


def _attend(cell: PlannedCell, batch: Batch, gpu: str | None) -> RunRecord | None:
    """Starts a child and waits for its end; None if it was ended from outside."""
    left = None
    if batch.config.timeout is not None:
        left = batch.config.timeout - progress_of(batch.paths, cell.key).get("seconds", 0.0)
    kills = oom_kills()
    # No daemon, for these may start no processes that make batches; it ends with its parent anyway.
    child = fork_server().Process(target=_child, args=(cell, batch.paths, batch.config, gpu))
    try:
        child.start()
    except (OSError, EOFError):  # the fork server has died; it is started anew the next time
        return None
    work = lock(batch.paths.runs, f"{cell.key}.work.lock")
    late = _wait(child, work, left, batch.stopped)
    try:
        record = _final(cell, batch.paths)
        if record is not None:
            clear(
                batch.paths, batch.config, cell.key
            )  # the child may have been killed before it did
            return record
        if batch.stopped():
            return None
        if child.exitcode == _CANNOT_WRITE:
            raise StorageError(
                "cannot be written: a full disk, or one that only reads",
                source=Store(batch.paths.runs).folder(cell.key),
                remedy="Free space there and give the same command again; it resumes from here.",
            )
        if late:
            message = f"ended after {batch.config.timeout:g} s"
            record = failure(cell, "timeout", message)
        elif was_interrupted(child.exitcode, kills):
            return None
        else:
            record = failure(cell, *explain_exit(child.exitcode, kills))
        Store(batch.paths.runs).write(record)
        clear(batch.paths, batch.config, cell.key)
        return record
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
    """The life of a child."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    end_with_parent()
    if gpu is not None:
        os.environ[VARIABLE] = gpu  # CUDA has not been asked for anything yet
    work = lock(paths.runs, f"{cell.key}.work.lock")
    with work.acquire(timeout=-1):  # the process of an invocation that was killed may hold it
        if _final(cell, paths) is None:
            try:
                run_cell(cell, paths, config)
            except OSError as error:
                if says_nothing(error):
                    checkpoint.say(str(error))
                    sys.exit(_CANNOT_WRITE)
                raise


def progress_of(paths: Paths, key: str) -> dict[str, float]:
    """What a cell told last: ``epoch``, ``epochs``, ``train_loss``, ``seconds``; or nothing."""
    try:
        with (Store(paths.runs).folder(key) / PROGRESS).open("rb") as file:
            last = json.loads(file.read().splitlines()[-1])
        return {name: float(value) for name, value in last.items()}
    except (OSError, IndexError, ValueError, AttributeError, TypeError):
        return {}
