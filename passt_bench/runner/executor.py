"""Prepares and runs cells, a few at a time, in child processes.

Threads of a `concurrent.futures` executor only wait: each starts a child from the fork server
(which has loaded torch), which serves one cell with the same engine after another, on the same GPU.
After a failure of any kind the child is replaced. Only a new child's failure, or a time limit, is
final: a cell that fails otherwise in a child that has served others is run again in a new one, so
that no cell can be harmed by the state of another.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Event, Lock

import torch
from filelock import FileLock, Timeout
from rich.console import Console

from passt_bench import processes
from passt_bench.console import Progress, plain_console, stage
from passt_bench.errors import InputError, StorageError, located
from passt_bench.processes import PipedChild
from passt_bench.records.files import is_sealed
from passt_bench.records.run import Outcome, cell_name
from passt_bench.records.store import Store
from passt_bench.runner import cells as running
from passt_bench.runner.cells import CANNOT_WRITE, VISIBLE_GPUS_VARIABLE, clear, final_outcome
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import StudyPlan
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.request import Paths, RunConfig, check_device_name
from passt_bench.runner.run_status import CURVES, PROGRESS, is_running, lock, read_epochs
from passt_bench.spec.recipe import EngineSpec, Recipe
from passt_bench.training.features import cache_bytes, features_path, fits_cache, prepare_features

POLL = 0.3  # seconds
_RUN_BYTES = 1e5  # a record and its copies beside the page and in MLflow
_FEATURE_SPEED = 300  # seconds of sound that are decoded and transformed in one
RESTARTS = 3  # of a cell whose process is killed from outside, within one command
# What a cell would import later: the first optimizer torch._dynamo, the metrics scikit-learn.
_MODULES = (__name__, "torch._dynamo", "sklearn.metrics", "passt_bench.runner.benchmark_target")


def run_cells(
    cells: Sequence[PlannedCell],
    paths: Paths,
    config: RunConfig,
    progress: Progress = lambda share, text: None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Outcome]:
    """Runs each cell until it has a final record; skips a cell that got one meanwhile.

    ``progress`` is called a few times per second with the fraction of the expected work that is
    done, and the number of runs; ``note`` with a line for each epoch that a cell has finished.

    Returns:
        Key → how the cell ended; without cells whose process was repeatedly killed from outside.

    Raises:
        KeyboardInterrupt: after the children have ended; checkpoints stay for the next command.
        StorageError: nothing can be written.
    """
    if not cells:
        return {}
    fork_server()
    runner, width = _CellRunner(cells, paths, config), parallel_runs(cells, config)
    with ThreadPoolExecutor(max_workers=width) as pool:
        threads = {pool.submit(runner.work) for _ in range(width)}
        try:
            while threads:
                ended, threads = wait(threads, POLL, FIRST_EXCEPTION)
                for thread in ended:
                    thread.result()  # raises what concerns all cells, e.g. a full disk
                progress(*runner.estimate())
                if note is not None:
                    for line in runner.new_epochs():
                        note(line)
        except BaseException:
            runner.stop.set()
            raise
    return {key: end for key, end in runner.ends.items() if end is not None}


def fork_server() -> ForkServerContext:
    """The fork server with what cells and cost sessions import: a child costs 0.03 s, not 2 s."""
    return processes.fork_server(*_MODULES)


def visible_gpus(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """The GPUs that this program may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes.

    Of the ``count`` that CUDA finds, a scheduler may have chosen some in the environment.
    """
    named = environment.get(VISIBLE_GPUS_VARIABLE)
    if named is None:
        return tuple(str(index) for index in range(count))
    return tuple(name.strip() for name in named.split(",") if name.strip())[:count]


def parallel_runs(cells: Sequence[PlannedCell], config: RunConfig) -> int:
    """How many cells run at a time."""
    if not all(cell.recipe.engine.device == "cuda" for cell in cells):
        return max(1, config.workers)
    gpus = visible_gpus(os.environ, torch.cuda.device_count())
    return max(1, min(config.workers, config.per_gpu * len(gpus)))


@contextmanager
def free_gpu(
    names: Sequence[str], locks: Path, stopped: Callable[[], bool], per_gpu: int = 1
) -> Iterator[str | None]:
    """Waits for a GPU that fewer processes than ``per_gpu`` use, and holds one of its locks.

    The processes of all commands on the folder of locks count. Yields the name of the GPU, or None
    once ``stopped`` returns true.
    """
    ends = ["", *(f"-{number}" for number in range(2, per_gpu + 1))]
    places = [(name, f"gpu-{name.replace('/', '-')}{end}.lock") for end in ends for name in names]
    while not stopped():
        for name, file in places:
            try:
                held = FileLock(locks / file, timeout=0).acquire()
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
        self._cells, self._todo = cells, list(cells)
        self._running: set[str] = set()  # keys of cells that were begun
        self._busy: list[PlannedCell] = []  # cells that other commands run
        self._guard = Lock()  # of what is to be done
        self._gpus = visible_gpus(os.environ, torch.cuda.device_count())
        self._shown: dict[str, float] = {}  # key → last epoch that `new_epochs` gave
        self.ends: dict[str, Outcome | None] = {}  # None if the child was repeatedly killed
        self.stop = Event()  # when set, the children are killed

    def estimate(self) -> tuple[float, str]:
        """The fraction of the FLOPs that is done, and the number of finished cells."""
        done, work = 0.0, sum(cell.flops for cell in self._cells)
        for cell in self._cells:
            if cell.key in self.ends:
                done += cell.flops
            elif cell.key in self._running:
                last = self._last_epoch(cell.key)
                share = last.get("epoch", 0.0) / last.get("epochs", math.inf)
                done += 0.95 * cell.flops * share
        return done / work if work else 1.0, f"{len(self.ends)} of {len(self._cells)} runs"

    def _last_epoch(self, key: str) -> dict[str, float]:
        """The values of the last epoch that a cell has finished; empty without one."""
        return next(reversed(read_epochs(self._store.folder(key) / PROGRESS).values()), {})

    def new_epochs(self) -> Iterator[str]:
        """A line for each epoch that was finished since the last call."""
        left = (c for c in self._cells if self._shown.get(c.key, 0.0) < math.inf)
        for cell in (cell for cell in left if cell.key in self._running):
            folder, ended = self._store.folder(cell.key), cell.key in self.ends
            shown = self._shown.get(cell.key, 0.0)
            found = read_epochs(folder / PROGRESS) or read_epochs(folder / CURVES)
            total = next(reversed(found.values())).get("epochs", len(found)) if found else 0
            for number in (number for number in found if number > shown):
                text = f"{cell.variant}, {cell_name(cell.seed, cell.fold)}: epoch {number} of "
                text += f"{total:g}, loss {found[number]['train_loss']:.4g}"
                for name, value in found[number].items():
                    text += f", validation {name[6:]} {value:.4g}" * name.startswith("inner/")
                yield text
            self._shown[cell.key] = math.inf if ended else max((shown, *found))

    def work(self) -> None:
        """Runs cells until none is left; called in each thread (raises `StorageError`)."""
        locks, per_gpu = self._paths.runs / "locks", self._config.per_gpu
        while (cell := self._next()) is not None:
            on_gpu = cell.recipe.engine.device == "cuda"
            gpus = free_gpu(self._gpus, locks, self.stop.is_set, per_gpu)
            with gpus if on_gpu else nullcontext() as gpu:
                self._serve(cell, gpu)

    def _next(self, engine: EngineSpec | None = None) -> PlannedCell | None:
        """The next cell, or the next with an engine; None if there is none or the work is stopped.

        Without an engine, waits for the cells that other commands run.
        """
        while not self.stop.is_set():
            with self._guard:
                for number, cell in enumerate(self._todo):
                    if engine in (None, cell.recipe.engine):
                        return self._todo.pop(number)
                if engine is not None or not self._busy:
                    return None
                self._todo = [c for c in self._busy if not is_running(self._paths.runs, c.key)]
                self._busy = [cell for cell in self._busy if cell not in self._todo]
            if not self._todo:
                time.sleep(POLL)
        return None

    def _serve(self, first: PlannedCell, gpu: str | None) -> None:
        """Runs a cell, and then those left with the same engine, in as few children as possible."""
        cell: PlannedCell | None = first
        child: PipedChild | None = None
        try:
            while cell is not None:
                try:  # among all commands that use the folder, only one runs the cell
                    held = lock(self._paths.runs, f"{cell.key}.lock").acquire()
                except Timeout:
                    with self._guard:
                        self._busy.append(cell)
                else:
                    with held:
                        child = self._run(cell, gpu, child)
                cell = self._next(first.recipe.engine)
        finally:
            if child is not None:
                child.close()

    def _run(
        self, cell: PlannedCell, gpu: str | None, child: PipedChild | None
    ) -> PipedChild | None:
        """Runs a cell until it has a final record; see `_run_in_child`."""
        self._running.add(cell.key)
        outcome = final_outcome(cell, self._store)
        for _ in range(1 + RESTARTS):
            if outcome is None and not self.stop.is_set():
                outcome, child = self._run_in_child(cell, gpu, child)
        self.ends[cell.key] = outcome
        return child

    def _run_in_child(
        self, cell: PlannedCell, gpu: str | None, child: PipedChild | None
    ) -> tuple[Outcome | None, PipedChild | None]:
        """Runs a cell in a child, or in a new one if there is none.

        Returns:
            How the cell ended, None if it is to be run again; the child if it may serve another
            cell, None if it has ended.
        """
        paths, config = self._paths, self._config
        left = math.inf if config.timeout is None else config.timeout
        left -= self._last_epoch(cell.key).get("seconds", 0.0)
        reused = child is not None
        if child is None:
            try:
                # Not a daemon, because daemons may not start loader processes.
                child = PipedChild(running.serve_cells, paths, config, gpu, modules=_MODULES)
            except (OSError, EOFError):  # the fork server died; the next attempt starts it again
                return None, None
        child.send(cell, not reused)
        deadline, timed_out = time.monotonic() + left, False
        while not child.wait(POLL):
            timed_out = time.monotonic() > deadline
            if timed_out or self.stop.is_set():
                child.kill()
        kept = child if child.answer() and not timed_out else None
        if kept is None:
            child.ended(10)
            child.close()  # in case it outlived the fork server
        with lock(paths.runs, f"{cell.key}.work.lock").acquire(timeout=-1):
            outcome = final_outcome(cell, self._store)
            if outcome is None:
                if self.stop.is_set():
                    return None, kept
                if child.status == CANNOT_WRITE:
                    problem = "cannot be written; the disk is full or read-only"
                    folder = self._store.folder(cell.key)
                    remedy = "Free space there and run the same command to resume."
                    raise StorageError(problem, source=folder, remedy=remedy)
                status, message = child.explain_exit()
                if timed_out:
                    record = running.failure(cell, "timeout", f"stopped after {config.timeout:g} s")
                elif reused or status == "interrupted":
                    return None, kept
                else:
                    record = running.failure(cell, status, message)
                self._store.write(record)
                outcome = Outcome(cell.key, record.status, record.attempt, record.message)
            clear(paths, config, cell.key)  # in case the child was killed before it did this
            return outcome, kept


def check_device(plan: StudyPlan) -> None:
    """Refuses a plan for a device that is not available (raises `InputError`)."""
    for variant in plan.record.variants:
        with located(plan.study.place(variant.name)):
            check_available(variant.recipe.engine.device, "engine.device")


def check_available(device: str, field: str = "--device") -> None:
    """Refuses a device that is unknown or not available (raises `InputError`)."""
    check_device_name(device, field)
    if device == "cuda" and not torch.cuda.is_available():
        problem, remedy = "no CUDA device is available on this machine", "Use --device cpu."
        raise InputError(problem, field=field, value="cuda", remedy=remedy)


def disk_bytes(
    todo: Sequence[PlannedCell], paths: Paths, config: RunConfig, datasets: Datasets
) -> float:
    """About what missing runs need on the disk: log-mels, checkpoints, models, records."""
    missing = _missing_features(todo, paths, datasets)
    logmels = [cache_bytes(recipe, len(datasets.get(recipe).ids)) for recipe in missing]
    states = [12 * cell.summary.parameters for cell in todo]  # weights and AdamW's two averages
    # A run keeps its checkpoint while it writes the next.
    running = 2 * sum(sorted(states)[-parallel_runs(todo, config) :])
    kept = sum(states) * config.keep_checkpoints
    kept += sum(cell.model_bytes for cell in todo if cell.keeps_model)
    return sum(logmels) + max(running, kept) + _RUN_BYTES * len(todo)


def feature_seconds(todo: Sequence[PlannedCell], paths: Paths, datasets: Datasets) -> float:
    """About how long it takes to compute the log-mels that missing runs need, on one core."""
    missing = _missing_features(todo, paths, datasets)
    return sum(len(datasets.get(r).ids) * r.data.seconds for r in missing) / _FEATURE_SPEED


def _missing_features(
    todo: Sequence[PlannedCell], paths: Paths, datasets: Datasets
) -> list[Recipe]:
    found = _cached_features(todo, paths, datasets)
    return [recipe for path, recipe in found.items() if not path.is_file()]


def _cached_features(
    todo: Sequence[PlannedCell], paths: Paths, datasets: Datasets
) -> dict[Path, Recipe]:
    """The features that cells need and that are in the cache or fit into it, by path."""
    found: dict[Path, Recipe] = {}
    for cell in todo:
        path = features_path(paths.cache, cell.recipe, cell.fingerprint.digest)
        if path is None or path in found:
            continue
        recipe = cell.recipe  # a data set is opened only where that is needed
        if path.is_file() or fits_cache(recipe, len(datasets.get(recipe).ids), paths.cache):
            found[path] = recipe
    return found


def prepare(
    todo: Sequence[PlannedCell], paths: Paths, datasets: Datasets, console: Console
) -> None:
    """Computes the features that cells need and that are not in the cache, or damaged there."""
    torch.set_num_threads(1)  # features must not depend on the number of cores
    for path, recipe in _cached_features(todo, paths, datasets).items():
        with stage(plain_console(stderr=True), f"Checking {path.name}", 3.0) as checked:
            if is_sealed(path, checked):
                continue
        if path.is_file():
            text = f"{path} is damaged, or of an earlier version; it is made again."
            console.print(text, markup=False)
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
