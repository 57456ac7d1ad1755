"""Many cells, each in a process of its own, a few at a time.

Threads of a `concurrent.futures` executor only wait: each starts a child from the fork server
(torch is loaded there once), and turns whatever happens to it into a record.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from threading import Event

from filelock import FileLock, Timeout

from passt_bench.measure.failure import explain_exit, oom_kills
from passt_bench.record import RunRecord
from passt_bench.runner.cells import failure, run_cell
from passt_bench.runner.plan import Context, PlannedCell
from passt_bench.store import Store

_POLL = 0.3  # seconds


@dataclass(frozen=True)
class Tick:
    """How far a batch of cells is; work is counted in expected seconds."""

    done_cells: int
    cells: int
    done_work: float
    work: float
    running: tuple[str, ...]

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1."""
        return self.done_work / self.work if self.work else 1.0


def process_context() -> BaseContext:
    """The fork server with torch and this package loaded; a child costs 0.03 s instead of 2 s."""
    context = multiprocessing.get_context("forkserver")
    # What a cell would import late: the first optimizer torch._dynamo, the metrics scikit-learn.
    late = ["torch._dynamo", "passt_bench.training.metrics", "passt_bench.runner.subject"]
    context.set_forkserver_preload(["passt_bench.runner.cells", *late])
    return context


def run_cells(
    cells: Sequence[PlannedCell],
    context: Context,
    *,
    workers: int,
    timeout: float | None = None,
    on_tick: Callable[[Tick], None] = lambda tick: None,
) -> list[RunRecord]:
    """Runs cells to their final records.

    Args:
        cells: what is to run; a cell that has meanwhile a record is not run again.
        context: where things lie.
        workers: processes at a time.
        timeout: seconds that a cell may take; beyond it its record says so.
        on_tick: told a few times a second how far it is.

    Raises:
        KeyboardInterrupt: after the children have ended; checkpoints stay for the next run.
    """
    stop = Event()
    futures: dict[Future[RunRecord | None], PlannedCell] = {}
    with ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        try:
            for cell in cells:
                futures[pool.submit(_run_isolated, cell, context, timeout, stop, False)] = cell
            while not all(future.done() and not _is_busy(future) for future in futures):
                on_tick(_tick(futures, context))
                time.sleep(_POLL)
                for future in [future for future in futures if _is_busy(future)]:
                    # Another invocation has it: the others first, then wait for that one.
                    cell = futures.pop(future)
                    futures[pool.submit(_run_isolated, cell, context, timeout, stop, True)] = cell
            on_tick(_tick(futures, context))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    records = [future.result() for future in futures]
    return [record for record in records if record is not None]


def _is_busy(future: Future[RunRecord | None]) -> bool:
    return future.done() and isinstance(future.exception(), Timeout)


def _run_isolated(
    cell: PlannedCell, context: Context, timeout: float | None, stop: Event, wait: bool
) -> RunRecord | None:
    """Runs one cell in a child, once among all invocations on the folder.

    Raises:
        Timeout: another invocation runs the cell, and ``wait`` is not set.
    """
    locks = context.out / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{cell.key}.lock", timeout=_POLL if wait else 0)
    while not stop.is_set():
        try:
            with lock:
                record = Store(context.out).run(cell.key)
                if record is not None and record.attempt >= cell.attempt:
                    return record
                return _spawn(cell, context, timeout, stop)
        except Timeout:
            if not wait:
                raise
    return None


def _spawn(
    cell: PlannedCell, context: Context, timeout: float | None, stop: Event
) -> RunRecord | None:
    store = Store(context.out)
    child = process_context().Process(target=_child, args=(cell, context), daemon=True)  # type: ignore[attr-defined]
    started, kills = time.monotonic(), oom_kills()
    child.start()
    late = False
    while child.is_alive():
        child.join(_POLL)
        late = timeout is not None and time.monotonic() - started > timeout
        if late or stop.is_set():
            child.kill()
            child.join()
    record = store.run(cell.key)
    if record is not None and record.attempt >= cell.attempt:
        return record
    if stop.is_set():
        return None
    if late:
        record = failure(cell, "timeout", f"killed after {timeout:g} s")
    else:
        record = failure(cell, *explain_exit(child.exitcode, kills))
    store.write(record)
    return record


def _child(cell: PlannedCell, context: Context) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    run_cell(cell, context)


def _tick(futures: dict[Future[RunRecord | None], PlannedCell], context: Context) -> Tick:
    store = Store(context.out)
    done_cells, done_work, work = 0, 0.0, 0.0
    running: list[str] = []
    for future, cell in futures.items():
        work += cell.seconds
        if future.done():
            done_cells += 1
            done_work += cell.seconds
        elif future.running():
            share = _share(store, cell)
            done_work += share * cell.seconds
            running.append(f"{cell.variant}, seed {cell.seed}")
    return Tick(done_cells, len(futures), done_work, work, tuple(running))


def _share(store: Store, cell: PlannedCell) -> float:
    try:
        with (store.folder(cell.key) / "progress.jsonl").open("rb") as file:
            last = file.read().splitlines()[-1]
        line = json.loads(last)
        return 0.95 * float(line["epoch"]) / float(line["epochs"])
    except (OSError, IndexError, ValueError, KeyError):
        return 0.0


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
