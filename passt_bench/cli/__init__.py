"""The command line. Exit status: 0 if all went well, 1 if a run failed, 2 for bad input."""

from __future__ import annotations

import shlex
import signal
import sys
from types import FrameType

# The order of the imports is that of the commands in the help.
from passt_bench.cli import study  # isort: split

from passt_bench.cli import results  # isort: split

from passt_bench.cli import measure, predict  # isort: split

from passt_bench.cli import data, records, weights
from passt_bench.cli.options import app, console, with_new_names
from passt_bench.errors import InputError
from passt_bench.processes import without_current_folder

__all__ = [
    "app",
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
    """Runs the command line: bad input becomes a message and exit status 2, Ctrl-C a hint."""
    before = signal.signal(signal.SIGINT, _stop)
    try:
        sys.argv[1:] = with_new_names(sys.argv[1:])  # records keep the command as it is now
        with without_current_folder():
            app(prog_name="passt-bench")
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the stopping
    raise KeyboardInterrupt
