"""The command line. Exit status: 0 all well, 1 some cell failed, 2 bad input."""

from __future__ import annotations

import shlex
import signal
import sys
from types import FrameType

from passt_bench.cli import data, measure, predict, records, results, study, weights
from passt_bench.cli.options import app, console
from passt_bench.errors import InputError
from passt_bench.processes import without_current_folder

__all__ = [
    "app",
    "console",
    "data",
    "main",
    "measure",
    "predict",
    "records",
    "results",
    "study",
    "weights",
]

INTERRUPTED = 130


def main() -> None:
    """Entry point: input errors become a message and exit status 2, Ctrl-C a hint."""
    before = signal.signal(signal.SIGINT, _stop)
    try:
        with without_current_folder():
            app()
    except InputError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer has turned a Ctrl-C into this
            again = shlex.join(["passt-bench", *sys.argv[1:]])
            console.print(f"Stopped. Run the same command to resume: {again}", markup=False)
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, before)


def _stop(number: int, frame: FrameType | None) -> None:
    """A Ctrl-C stops; another one while things are brought to an end changes nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
