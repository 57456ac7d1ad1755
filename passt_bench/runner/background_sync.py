"""Syncs with MLflow during a run, in separate processes.

A server that hangs, a client that crashes or a locked database costs the run only the bounded wait
at its end. The processes may be killed at any point of a sync, and end with their parent.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from passt_bench.errors import InputError
from passt_bench.processes import without_current_folder

if TYPE_CHECKING:
    from rich.console import Console

    from passt_bench.console import Stopwatch

EVERY_SECONDS = 20.0  # also before the first sync: a shorter study needs no live curves
PAUSE = 30.0  # seconds between syncs per CPU second of the last sync
PATIENCE_SECONDS = 30.0  # maximum wait for the last sync


@contextmanager
def regular_sync(
    root: Path, study: str | None = None, *, every: float = EVERY_SECONDS, pause: float = PAUSE
) -> Iterator[None]:
    """Syncs a study, or all, regularly; stops when the body ends, even during a sync.

    The process has the lowest priority, and the import of MLflow and the set-up of its database
    count as part of the first sync. Failures are not reported here; the last sync reports lasting
    ones.
    """
    with _child(root, study=study, every=every, pause=pause):
        yield


@contextmanager
def updating_mlflow(runs: Path, clock: Stopwatch, console: Console) -> Iterator[None]:
    """Syncs once beside the body, then waits for the sync; a failure is printed, not raised.

    Waits at most 30 s, or 2 % of the command's run time (``clock``) if that is longer.
    """
    with _child(runs) as child:
        yield
        patience = max(PATIENCE_SECONDS, 0.02 * clock.elapsed)
        with console.status("Updating MLflow"):
            try:
                status = child.wait(patience)
                failure = f"the sync ended with status {status}" if status else ""
            except subprocess.TimeoutExpired:
                failure = f"the sync did not finish within {patience:.0f} s more"
        if failure:
            failure += f"; the records are not affected. Run later: passt-bench sync --runs {runs}"
        elif child.stdout is not None:
            failure = child.stdout.read().decode()
    if failure:
        console.print(f"MLflow was not updated: {failure}", style="yellow", markup=False)


@contextmanager
def _child(root: Path, **options: str | float | None) -> Iterator[subprocess.Popen[bytes]]:
    words = ["-m", "passt_bench.runner.background_sync", str(root.resolve()), json.dumps(options)]
    with without_current_folder():
        child = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,  # never written to: it closes when this process dies
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    with child:
        try:
            yield child
        finally:
            child.kill()


def _die_with_parent() -> None:
    os.read(0, 1)  # its standard input ends with the parent
    os._exit(1)


def _follow(root: Path, study: str | None, every: float, pause: float) -> None:
    from passt_bench.runner.tracking import sync

    os.nice(19)
    time.sleep(every)
    previous = 0.0  # the imports count
    while True:
        with suppress(InputError):
            sync(root, study=study)
        now = time.process_time()
        time.sleep(max(every, pause * (now - previous)))
        previous = now


def _finish(root: Path) -> None:
    """Syncs once; prints the reason if that fails."""
    from passt_bench.runner.tracking import sync

    out, sys.stdout = sys.stdout, sys.stderr  # the output of MLflow is not for the parent
    try:
        sync(root)
    except InputError as error:
        print(error, end="", file=out, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_parent, daemon=True).start()
    options = json.loads(sys.argv[2])
    if options:
        _follow(Path(sys.argv[1]), **options)
    else:
        _finish(Path(sys.argv[1]))
