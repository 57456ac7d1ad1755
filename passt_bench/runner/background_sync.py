"""Syncs with MLflow during a run, in separate processes.

A server that hangs, a client that crashes or a locked database costs the run only the bounded wait
at its end. The processes may be killed at any point of a sync.
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

from passt_bench.errors import InputError
from passt_bench.processes import without_current_folder

FIRST_SECONDS = 20.0  # a shorter study needs no live curves
EVERY_SECONDS = 20.0
REST = 30.0  # pause in seconds per CPU second of the last sync
PATIENCE_SECONDS = 30.0  # maximum wait for the last sync


@contextmanager
def live(
    root: Path,
    study: str | None = None,
    *,
    first: float = FIRST_SECONDS,
    every: float = EVERY_SECONDS,
    rest: float = REST,
) -> Iterator[None]:
    """Syncs regularly while the body trains; ends with it, even in the middle of a sync.

    The process has the lowest priority, and the import of MLflow and the set-up of its database
    count as part of the first sync. It ends with its parent. Failures are not reported here; the
    last sync reports lasting ones.

    Args:
        root: the output folder.
        study: name of the study to log; None is all in the folder.
        first: seconds before the first sync.
        every: minimum pause in seconds between syncs.
        rest: pause in seconds per CPU second of the last sync.
    """
    child = _start(root, study=study, first=first, every=every, rest=rest)
    try:
        yield
    finally:
        _end(child)


class LastSync:
    """A sync in a separate process, which starts at once.

    Args:
        root: the output folder.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._child = root, _start(root)

    def wait(self, patience: float = PATIENCE_SECONDS) -> str | None:
        """Waits for the end of the sync, and ends it after so many seconds.

        Returns:
            Why MLflow was not updated, with a remedy; None if it was updated.
        """
        try:
            status = self._child.wait(patience)
            if status == 0 and self._child.stdout is not None:
                return self._child.stdout.read().decode() or None
            problem = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            problem = f"did not finish within {patience:.0f} s more"
        finally:
            self.cancel()
        return (
            f"the sync {problem}; the records are not affected. "
            f"Run later: passt-bench sync --runs {self._root}"
        )

    def cancel(self) -> None:
        """Ends the sync."""
        _end(self._child)


def _start(root: Path, **rhythm: str | float | None) -> subprocess.Popen[bytes]:
    words = ["-m", "passt_bench.runner.background_sync", str(root.resolve()), json.dumps(rhythm)]
    with without_current_folder():
        return subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.PIPE,  # never written to: it closes when this process dies
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            stream.close()


def _die_with_parent() -> None:
    os.read(0, 1)  # its standard input ends with the parent
    os._exit(1)


def _follow(root: Path, study: str | None, first: float, every: float, rest: float) -> None:
    from passt_bench.runner.tracking import sync

    os.nice(19)
    time.sleep(first)
    before = 0.0  # the imports count
    while True:
        with suppress(InputError):
            sync(root, study=study)
        now = time.process_time()
        time.sleep(max(every, rest * (now - before)))
        before = now


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
    rhythm = json.loads(sys.argv[2])
    if rhythm:
        _follow(Path(sys.argv[1]), **rhythm)
    else:
        _finish(Path(sys.argv[1]))
