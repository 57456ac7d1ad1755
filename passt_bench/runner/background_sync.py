"""MLflow beside a run: what is going on while it trains, and what came of it at the end.

Everything that talks to MLflow runs in a process of its own. A server that hangs, a client that
crashes and a database that is locked cost the run nothing but the bounded wait at its end. The
process is told when to go and killed when there is no more time: a sync may be cut off anywhere.
"""

from __future__ import annotations

import argparse
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
from queue import Empty, SimpleQueue
from typing import IO, Any

from passt_bench.console import Update
from passt_bench.errors import InputError
from passt_bench.processes import without_current_folder
from passt_bench.runner.tracking_uri import TrackingError

FIRST_SECONDS = 20.0  # a study that is done by then needs no live curves
EVERY_SECONDS = 20.0
REST = 30.0  # seconds without a sync for each CPU second that the last one took
PATIENCE_SECONDS = 30.0  # for the last sync, once there is nothing else left to do


@contextmanager
def live(
    root: Path,
    study: str | None = None,
    *,
    first: float = FIRST_SECONDS,
    every: float = EVERY_SECONDS,
    rest: float = REST,
) -> Iterator[None]:
    """Syncs now and then while the body trains; ends with it, wherever a sync is.

    The process has the lowest priority, and the import of MLflow and the set-up of its database
    count as part of the first sync. It dies with its parent. Failures are not told here: those
    that last, the final sync tells.

    Args:
        root: the output folder.
        study: the only one to log; None is all of the folder.
        first: seconds before the first sync.
        every: seconds between two, at least.
        rest: seconds between two for each CPU second that the one before took.
    """
    words = ["--first", str(first), "--every", str(every), "--rest", str(rest)]
    child = _start(root, "follow", *words, *(["--study", study] if study else []))
    try:
        yield
    finally:
        _end(child)


class LastSync:
    """A sync in a process of its own, begun when made; meanwhile there is time for other work.

    Args:
        root: the output folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._child = _start(root, "finish")
        self._told: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        stream: IO[bytes] = self._child.stdout  # type: ignore[assignment]
        for line in stream:
            self._told.put(json.loads(line))
        self._told.put(None)

    def wait(self, patience: float = PATIENCE_SECONDS, progress: Update | None = None) -> None:
        """Waits for its end, at most so many seconds.

        Raises:
            TrackingError: it failed, or did not end; it is no longer running.
        """
        deadline = time.monotonic() + patience
        try:
            while told := self._told.get(timeout=max(0.0, deadline - time.monotonic())):
                if "error" in told:
                    raise TrackingError(**told["error"])
                if "done" in told:
                    return
                if progress is not None:
                    progress(told["share"], told["text"])
        except Empty:
            raise self._left(f"the sync was given up after {patience:.0f} s more") from None
        finally:
            _end(self._child)
        raise self._left(f"the sync ended by itself with status {self._child.returncode}")

    def cancel(self) -> None:
        """Ends it where it is."""
        _end(self._child)

    def _left(self, problem: str) -> TrackingError:
        remedy = f"Later: passt-bench sync --out {self._root}"
        return TrackingError(f"{problem}; the records are not affected", remedy=remedy)


def _start(root: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "passt_bench.runner.background_sync",
        str(root.resolve()),
        *words,
    ]
    with without_current_folder():
        return subprocess.Popen(
            command,
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


def _follow(root: Path, study: str | None, first: float, every: float, rest: float) -> None:
    """Syncs for ever, and rests."""
    from passt_bench.runner.tracking import sync

    os.nice(19)
    time.sleep(first)
    before = 0.0  # the imports count
    while True:
        with suppress(InputError):
            sync(root, studies=[study] if study is not None else None)
        now = time.process_time()
        time.sleep(max(every, rest * (now - before)))
        before = now


def _finish(root: Path, tell: IO[str]) -> None:
    """Syncs once and tells how it goes, a line of JSON at a time."""
    from passt_bench.runner.tracking import sync

    def say(**told: object) -> None:
        print(json.dumps(told), file=tell, flush=True)

    try:
        report = sync(root, progress=lambda share, text: say(share=share, text=text))
    except InputError as error:
        source = None if error.source is None else str(error.source)
        say(error={"problem": error.problem, "source": source, "remedy": error.remedy})
    else:
        say(done=report.studies)


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


def main() -> None:
    """What the process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    threading.Thread(target=_die_with_parent, daemon=True).start()
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=Path)
    parser.add_argument("work", choices=("follow", "finish"))
    parser.add_argument("--study")
    parser.add_argument("--first", type=float)
    parser.add_argument("--every", type=float)
    parser.add_argument("--rest", type=float)
    asked = parser.parse_args()
    tell, sys.stdout = sys.stdout, sys.stderr  # whatever MLflow prints is not for the parent
    if asked.work == "follow":
        _follow(asked.root, asked.study, asked.first, asked.every, asked.rest)
    else:
        _finish(asked.root, tell)


if __name__ == "__main__":
    main()
