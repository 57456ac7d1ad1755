"""Many cells, each in a process of its own, a few at a time.

Threads of a `concurrent.futures` executor only wait: each starts a child from the fork server
(torch is loaded there once), and turns whatever happens to it into a record, see `isolation`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import torch
from filelock import Timeout

from passt_bench.records.run import RunRecord
from passt_bench.runner.isolation import (
    POLL,
    Batch,
    Gpus,
    fork_server,
    progress_of,
    run_isolated,
    visible_gpus,
)
from passt_bench.runner.plan import PlannedCell
from passt_bench.runner.request import Paths, RunConfig


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


def run_cells(
    cells: Sequence[PlannedCell],
    paths: Paths,
    config: RunConfig,
    *,
    on_tick: Callable[[Tick], None] = lambda tick: None,
) -> list[RunRecord]:
    """Runs cells to their final records.

    Args:
        cells: what is to run; a cell that has meanwhile a record is not run again.
        paths: where their files are.
        config: processes at a time (of those on CUDA, one a GPU), time and memory limits.
        on_tick: called a few times a second with the progress.

    Returns:
        The records; a cell whose process was killed from outside again and again has none.

    Raises:
        KeyboardInterrupt: after the children have ended; checkpoints stay for the next run.
        StorageError: nothing can be written.
    """
    if not cells:
        return []
    fork_server()
    stop = Event()
    batch = Batch(paths, config, _gpus(cells, paths), stop.is_set)
    with ThreadPoolExecutor(max_workers=max(1, config.workers)) as pool:
        futures = {pool.submit(run_isolated, cell, batch, False): cell for cell in cells}
        try:
            while not all(future.done() and not _is_busy(future) for future in futures):
                on_tick(_tick(futures, paths))
                time.sleep(POLL)
                for future in [future for future in futures if _is_busy(future)]:
                    # Another invocation has it: the others first, then wait for that one.
                    cell = futures.pop(future)
                    again = pool.submit(run_isolated, cell, batch, True)
                    futures[again] = cell
                _raise_first(futures)
            on_tick(_tick(futures, paths))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [record for record in (future.result() for future in futures) if record is not None]


def _gpus(cells: Sequence[PlannedCell], paths: Paths) -> Gpus:
    wanted = any(cell.recipe.engine.device == "cuda" for cell in cells)
    count = torch.cuda.device_count() if wanted else 0
    return Gpus(visible_gpus(os.environ, count), paths.runs / "locks")


def _is_busy(future: Future[RunRecord | None]) -> bool:
    return future.done() and isinstance(future.exception(), Timeout)


def _raise_first(futures: Mapping[Future[RunRecord | None], PlannedCell]) -> None:
    """Ends the batch for what no cell can help, e.g. a full disk."""
    for future in futures:
        error = future.exception() if future.done() else None
        if error is not None and not isinstance(error, Timeout):
            raise error


def _tick(futures: Mapping[Future[RunRecord | None], PlannedCell], paths: Paths) -> Tick:
    done_cells, done_work, work = 0, 0.0, 0.0
    running: list[str] = []
    for future, cell in futures.items():
        work += cell.seconds
        if future.done():
            done_cells += 1
            done_work += cell.seconds
        elif future.running():
            told = progress_of(paths, cell.key)
            share = 0.95 * told["epoch"] / told["epochs"] if told.get("epochs") else 0.0
            done_work += share * cell.seconds
            running.append(f"{cell.variant}, seed {cell.seed}")
    return Tick(done_cells, len(futures), done_work, work, tuple(running))


def default_workers() -> int:
    """One process a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
