"""Trains cells, here or on the workers of a Dask cluster, and brings their records home.

Dask carries a cell to a worker and its record back; that a worker joins or is lost, it tells. Which
worker may have a cell is decided here, because only a trial shows which data a worker has.

On a worker a cell runs in a process of its own, with the worker's data (``PASST_BENCH_DATA``) and
in its own folder ``runs``, so that a cell that is interrupted there resumes there.
"""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import AcquireReturnProxy, Timeout
from rich.console import Console

from passt_bench import __version__
from passt_bench.console import Stopwatch, aside, stage
from passt_bench.errors import InputError
from passt_bench.processes import without_current_folder
from passt_bench.records.files import to_json, write_atomically
from passt_bench.records.run import RunRecord, count_of
from passt_bench.records.store import MODEL, Store
from passt_bench.registry import check_no_study_files
from passt_bench.runner.cells import final_outcome
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.executor import POLL, parallel_runs, prepare, run_cells
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.runner.prediction import Predictor
from passt_bench.runner.request import Paths, RunConfig, data_folders
from passt_bench.runner.run_status import CURVES, lock
from passt_bench.spec.codec import from_json, to_plain, validate
from passt_bench.spec.recipe import Recipe

if TYPE_CHECKING:
    from distributed import Client, Future

PACKAGE, RUNS = "passt-bench", Path("runs")
_CONNECT, _FRAMES = 30, 1 << 16  # seconds; parts of a message, whose number comes first
_TELLING, _PATIENCE = 0.05, 60.0  # share of the work and seconds, before a machine is called slow
_TOLD, _SHARE = "> ", "share "  # marks of a line about the progress, and of one with a share
_SHOWN = 4  # workers
Answer = tuple[str, dict[str, bytes]]  # the record as JSON, or why there is none; files beside it


def train_cells(
    cells: Sequence[PlannedCell],
    datasets: Datasets,
    config: RunConfig,
    paths: Paths,
    console: Console,
) -> None:
    """Trains cells here, or on a cluster if one is given."""
    if config.dask is not None:
        # What is trained again for its model is compared with the record here.
        away = [cell for cell in cells if not cell.again]
        train_on_cluster(away, config.dask, paths, config, console)
        cells = [cell for cell in cells if cell.again]
    prepare(cells, paths, datasets, console)
    if cells:
        width = min(len(cells), parallel_runs(cells, config))
        title = f"Training and evaluating {count_of(len(cells), 'run')}, {width} in parallel"
        predictor, clock = Predictor(paths.runs), Stopwatch()
        expected = sum(cell.seconds(predictor) for cell in cells) / width
        with stage(console, title) as update:

            def show(share: float, text: str) -> None:
                nonlocal expected
                update(share, text)
                if slow := describe_slowness(clock, share, expected):
                    aside(console).print(slow, markup=False)
                    expected = math.inf  # said once

            run_cells(cells, paths, config, show, console.print if config.curves else None)


def describe_slowness(clock: Stopwatch, share: float, expected: float) -> str:
    """A sentence if a share of work took more than twice its part of the expected seconds."""
    enough = share >= _TELLING and clock.elapsed >= _PATIENCE
    if not (enough and (times := clock.elapsed / (share * expected)) > 2):
        return ""
    return f"This machine is {times:.0f} times slower than estimated: {clock.left(share)}."


def train_on_cluster(
    cells: Sequence[PlannedCell], address: str, paths: Paths, config: RunConfig, console: Console
) -> None:
    """Trains cells on the workers at an address until each has a final record.

    A worker that is lost gives its cells to the others. One that has another version of the
    package gets none, and one without the data none of that data; both are said once. Without any
    worker it waits.

    Raises:
        InputError: there is no scheduler, or it ended; no worker that is connected can train, and
            none could; or a study file has components of its own.
    """
    if not cells:
        return
    check_no_study_files("--dask", address)
    title = f"Training and evaluating {count_of(len(cells), 'run')} on the cluster"
    with _connect(address) as client, stage(console, title) as up:
        work = _Dispatch(client, cells, Store(paths.runs), config, console)
        try:
            while work.step():
                up(*work.estimate())
                time.sleep(POLL)
        finally:
            work.close()


@contextmanager
def _connect(address: str) -> Iterator[Client]:
    try:
        from distributed import Client
        from distributed.comm.addressing import parse_host_port
    except ImportError:
        problem, remedy = "needs the package distributed", "pip install 'passt-bench[dask]'."
        raise InputError(problem, field="--dask", value=address, remedy=remedy) from None
    try:
        if not Path(address).is_file():  # else a scheduler file
            kind, _, place = address.rpartition("://")
            host = parse_host_port(place)
            if kind in ("", "tcp"):  # of what says nothing, or something else, a client never ends
                with socket.create_connection(host, _CONNECT) as asked:
                    frames = int.from_bytes(asked.recv(8, socket.MSG_WAITALL), "little")
                if not 0 < frames < _FRAMES:
                    raise OSError("what answers there is something else")
        where = {"scheduler_file" if Path(address).is_file() else "address": address}
        client = Client(**where, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        problem = f"no Dask scheduler answers ({error})"
        remedy = "Give its address, e.g. tcp://server:8786, or the file that it wrote."
        raise InputError(problem, field="--dask", value=address, remedy=remedy) from None
    with client:
        yield client


class _Dispatch:
    """The cells that wait, those that run, and what is known of the workers."""

    def __init__(
        self,
        client: Client,
        cells: Sequence[PlannedCell],
        store: Store,
        config: RunConfig,
        console: Console,
    ) -> None:
        self._client, self._config, self._console, self._store = client, config, console, store
        self._place = client.scheduler.address  # which a client forgets when it gives up
        self.workers: dict[str, Any] = {}  # those that are connected, by address
        self._waiting, self._total = list(cells), len(cells)
        self._running: dict[Future, tuple[PlannedCell, str, AcquireReturnProxy[Any]]] = {}
        self._unfit: dict[str, str] = {}  # worker → why it gets no cells; empty if it does
        self._without: dict[tuple[str, str], str] = {}  # (worker, data set) → why
        self._served = False  # whether a worker could train; then others like it may come
        self._shares = dict[str, float]()  # key → share that is done; none while data is prepared
        client.subscribe_topic(PACKAGE, self._hear)

    def _hear(self, event: tuple[float, tuple[str, str]]) -> None:
        """Takes what a worker tells of a cell: the share that is done, or a line to print."""
        key, told = event[1]
        if all(key != cell.key for cell, *_ in list(self._running.values())):
            return  # another command's
        if told.startswith(_SHARE):
            self._shares[key] = float(told.removeprefix(_SHARE))
        else:
            self._console.print(told)

    def estimate(self) -> tuple[float, str]:
        """The share of the work that is done, and what each worker does."""
        done, doing = float(self._total - len(self._waiting) - len(self._running)), list[str]()
        text = f"{done:g} of {self._total} runs"
        for cell, address, _ in self._running.values():
            share = self._shares.get(cell.key)
            done += 0.95 * (share or 0)
            name = str(self.workers.get(address, {}).get("name", address)).rpartition("://")[2]
            doing.append(f"{name} {'prepares data' if share is None else f'{share:.0%}'}")
        if not self.workers:
            text += f", no worker is connected to {self._place}"
        elif self._served and self._waiting and not self._running:
            text += ", waiting for a worker that can train what is left"
        more = f", and {len(doing) - _SHOWN} more" * (len(doing) > _SHOWN)
        return done / self._total, ", ".join([text, *doing[:_SHOWN]]) + more

    def step(self) -> bool:
        """Takes what has ended and hands out what waits; whether anything is left."""
        try:
            workers = self.workers = self._client.scheduler_info(n_workers=-1)["workers"]
        except (KeyError, OSError):
            remedy = "Start it and its workers, and run the same command again; it resumes."
            problem = "the Dask scheduler has ended"
            raise InputError(problem, field="--dask", value=self._place, remedy=remedy) from None
        for future, (_, address, _) in list(self._running.items()):
            if future.done() or address not in workers:
                self._take(future)
        for address in workers:
            if address not in self._unfit:
                self._unfit[address] = self._check(address)
        used = Counter(address for _, address, _ in self._running.values())
        fit = [address for address in workers if not self._unfit[address]]
        for address in fit:
            for cell in [c for c in self._waiting if self._has_data(address, c)]:
                if used[address] < workers[address]["nthreads"] and self._hand(cell, address):
                    used[address] += 1
        stuck = [c for c in self._waiting if not any(self._has_data(address, c) for address in fit)]
        if workers and stuck and not self._running and not self._served:
            reasons = filter(None, (*self._unfit.values(), *self._without.values()))
            problem = f"no worker can train what is left: {'; '.join(dict.fromkeys(reasons))}"
            remedy = "Start workers that can, and run the same command again; it resumes."
            raise InputError(problem, field="--dask", value=self._place, remedy=remedy)
        return bool(self._waiting or self._running)

    def _has_data(self, address: str, cell: PlannedCell) -> bool:
        """Whether a worker may have the data of a cell: it was not refused there."""
        return (address, cell.recipe.data.name) not in self._without

    def _check(self, address: str) -> str:
        """Why a worker gets no cells, from the version that is installed there."""
        found = self._client.run(version, PACKAGE, workers=[address], on_error="return")[address]
        if found == __version__:
            return ""
        what = "no passt-bench" if isinstance(found, PackageNotFoundError) else f"version {found}"
        reason = f"{address} has {what}, this command {__version__}"
        self._say(f"{reason}: it gets no runs.")
        return reason

    def _hand(self, cell: PlannedCell, address: str) -> bool:
        """Gives a cell to a worker, unless it has a record or another command runs it."""
        try:
            held = lock(self._store.root, f"{cell.key}.lock").acquire()
        except Timeout:
            return False
        self._waiting.remove(cell)
        if final_outcome(cell, self._store) is not None:
            held.lock.release()
            return False
        name = f"{PACKAGE}-{cell.key}-{cell.attempt}-{time.time_ns()}"  # asked anew each time
        future = self._client.submit(
            train_cell, _job(cell, self._config), key=name, workers=[address], pure=False
        )
        self._running[future] = cell, address, held
        return True

    def _take(self, future: Future) -> None:
        """Writes the record that a worker returned; a cell without one waits again."""
        cell, address, held = self._running.pop(future)
        self._shares.pop(cell.key, None)
        with held:
            if future.status == "finished":
                text, files = future.result()
                if text.startswith("{"):
                    self._served = True
                    for name in files.keys() & {MODEL, CURVES}:
                        write_atomically(self._store.folder(cell.key) / name, files[name])
                    self._store.write(from_json(RunRecord, text.encode()))
                    return
                name = cell.recipe.data.name
                self._without[address, name] = f"{address}: {text}"
                self._say(f"{address}: {text} A worker looks for data in its PASST_BENCH_DATA.")
                self._say(f"{address} gets no runs of {name}.")
            elif future.status == "error":
                self._unfit[address] = f"{address} failed ({future.exception()})"
                self._say(f"{self._unfit[address]}: it gets no more runs.")
            else:  # it was lost with its worker
                self._served = True
            future.cancel()
            self._waiting.append(cell)

    def _say(self, text: str) -> None:
        self._console.print(text, style="yellow", markup=False)

    def close(self) -> None:
        """Leaves what still runs: its record stays at the worker, for the next command."""
        for future, (_, _, held) in self._running.items():
            held.lock.release()
            if self._client.status not in ("closing", "closed"):
                future.cancel()


def _job(cell: PlannedCell, config: RunConfig) -> str:
    """What a worker needs, as text, so that nothing of this machine is unpickled there."""
    fields = ("key", "variant", "seed", "fold", "attempt", "pictured", "keeps_model")
    job = {"recipe": to_plain(cell.recipe), "cell": {name: getattr(cell, name) for name in fields}}
    if cell.checkpoint is not None:
        job["recipe"]["init"]["checkpoint"] = str(cell.checkpoint)
    settings = ("timeout", "memory", "checkpoint_seconds", "curves")
    return json.dumps(job | {"config": {name: getattr(config, name) for name in settings}})


def train_cell(job: str) -> Answer:
    """Trains a cell in a new process of a worker, which ends with the worker."""
    from distributed import get_worker

    cell, text = json.loads(job)["cell"], ""
    command = [sys.executable, "-c", f"from {__name__} import serve; serve()"]
    with without_current_folder():
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(f"{job}\n")
        child.stdin.flush()  # and left open, because its end would end the process
        for line in child.stdout:
            text = line.strip()
            if not line.startswith(_TOLD):
                break
            get_worker().log_event(PACKAGE, (cell["key"], text.removeprefix(_TOLD)))
    finally:
        child.kill()
        status = child.wait()
    if not text or text.startswith(_TOLD):
        raise RuntimeError(f"the process of a run ended with exit status {status}")
    folder, names = Store(RUNS).folder(cell["key"]), [CURVES, *[MODEL] * cell["keeps_model"]]
    return text, {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def serve() -> None:
    """Trains the cell that comes on the standard input, and writes its record to the output.

    Lines before the record, with a mark, tell of the progress.
    """
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_worker, daemon=True).start()
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    with output:
        output.write(_train(job, lambda text: print(_TOLD + text, file=output, flush=True)))


def _end_with_worker() -> None:
    sys.stdin.read()  # until the worker ends
    os._exit(1)


def _train(job: dict[str, Any], tell: Callable[[str], None]) -> str:
    """The record of a cell as JSON, or why this worker cannot have one."""
    told = ""

    def progress(share: float, text: str) -> None:
        nonlocal told
        if (now := f"{_SHARE}{share:.2f}") != told:
            tell(now)
            told = now

    paths, own = Paths(RUNS, data_folders(())), job["cell"]
    datasets = Datasets(paths)
    try:
        recipe = validate(Recipe, job["recipe"])
        cell = plan_cell(own["variant"], recipe, own["seed"], own["fold"], datasets)
        if cell.key != own["key"]:
            return "the data or the versions of components differ from those of the command."
        cell = replace(cell, **own)
        prepare([cell], paths, datasets, Console(stderr=True))
    except InputError as error:
        return " ".join(str(error).split())
    config = RunConfig(workers=1, **job["config"])
    run_cells([cell], paths, config, progress, tell if config.curves else None)
    record = Store(RUNS).run(cell.key)
    return "" if record is None else to_json(record)
