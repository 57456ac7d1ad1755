"""The command line. Exit status: 0 success, 1 a run failed, 2 bad input, 130 after Ctrl-C."""

from __future__ import annotations

import gc
import io
import re
import resource
import shlex
import signal
import sys
from importlib import import_module
from traceback import walk_tb
from types import FrameType

from passt_bench.cli.options import app, console, error_console
from passt_bench.errors import InputError, failure_status
from passt_bench.processes import without_current_folder

__all__ = ["app", "main"]

for _group in ("plan", "study", "results", "measure", "predict", "data", "records", "weights"):
    import_module(f"passt_bench.cli.{_group}")  # registers its commands, in the order of the help

# Command → an example for its help; those of the first part are listed first.
_MAIN = {
    "list": "passt-bench list models",
    "plan": "passt-bench plan quick",
    "run": "passt-bench run patchout_type --data esc50=DIR",
    "train": "passt-bench train passt_small --data manifest=DIR --patchout unstructured:.5",
    "search": "passt-bench search quick --trials 60 --search-minutes 6",
    "show": "passt-bench show quick",
    "compare": "passt-bench compare passt_micro panns_micro --seconds 2",
    "predict": "passt-bench predict clip.wav --checkpoint quick:none:0",
    "evaluate": "passt-bench evaluate --checkpoint model.safetensors --data esc50=DIR --fold 1",
}
_MORE = {
    "status": "passt-bench status quick",
    "report": "passt-bench report quick",
    "sync": "passt-bench sync --runs runs",
    "ui": "passt-bench ui --port 5001",
    "doctor": "passt-bench doctor --instruments",
}
for _command in app.registered_commands:
    _name = str(_command.name or getattr(_command.callback, "__name__", ""))
    _command.epilog = f"Example: {(_MAIN | _MORE)[_name]}"
    _command.rich_help_panel = None if _name in _MAIN else "More commands"
for _group_of_commands in app.registered_groups:
    _group_of_commands.rich_help_panel = "More commands"

INTERRUPTED = 130
_LONG = frozenset(("run", "train", "search", "predict", "evaluate", "compare"))
_TERSE = frozenset(("--quiet", "--json", "json", "csv", "-h", "--help"))
_ENDS = re.compile(r"passt_bench\.(?!ablations\.)|typer|click")  # modules that may end the program
_RESUMING = frozenset(("run", "search", "evaluate", "prepare", "get"))  # keep what was done
# Option of ulimit → what it limits, and the bytes of libraries: with less, OpenBLAS may not return.
_LEAST = {"-v": (resource.RLIMIT_AS, 5 << 28), "-d": (resource.RLIMIT_DATA, 7 << 26)}


def main() -> None:
    """Runs the command line: bad input becomes a message and exit status 2, Ctrl-C a hint."""
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what no encoding takes
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    words = {word.removeprefix("--format=") for word in sys.argv[1:]}
    if _LONG.intersection(sys.argv[1:2]) and not words & _TERSE and "torch" not in sys.modules:
        error_console().print("Starting; PyTorch takes some seconds to load.")
    before = signal.signal(signal.SIGINT, _stop)
    gc.set_threshold(100_000)  # at 700 a tenth of the time of a plan of ten thousand runs
    try:
        for option, (kind, least) in _LEAST.items():
            if 0 <= (allowed := resource.getrlimit(kind)[0]) < least:
                problem, about = "too little memory for Python's libraries", f"ulimit {option}"
                remedy = f"Allow {least >> 10} KiB."
                raise InputError(problem, field=about, value=allowed >> 10, remedy=remedy)
        with without_current_folder():
            app(prog_name="passt-bench")
    except Exception as error:
        if (sentence := _sentence(error)) is None:
            raise
        console.print(f"error: {sentence}", style="red")
        sys.exit(2)
    except SystemExit as ended:
        *_, (frame, line) = walk_tb(ended.__traceback__)
        if not _ENDS.match(frame.f_globals["__name__"]):
            place = f"{frame.f_code.co_filename}:{line}"
            console.print(f"error: {place}: a plug-in ended the program. Fix it.", style="red")
            sys.exit(2)
        if ended.code == INTERRUPTED:  # typer has turned a Ctrl-C into this
            again = shlex.join(["passt-bench", *sys.argv[1:]])
            resumes = _RESUMING.intersection(sys.argv[1:3])
            console.print("Stopped." + f" Run the same command to resume: {again}" * bool(resumes))
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is _stop:
            signal.signal(signal.SIGINT, before)


def _sentence(error: BaseException) -> str | None:
    """What to print of an error by input, memory or disk; None for others."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.filename and not isinstance(error, BrokenPipeError):
        reason = f"cannot be opened or written ({error.strerror})"
        remedy = "Give another folder, or the right to read and write there."
        return str(InputError(reason, source=error.filename, remedy=remedy))
    if failure_status(error) == "oom":
        return str(InputError("memory ran out", remedy="Choose smaller models, batches or files."))
    return None


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not stop the stopping
    raise KeyboardInterrupt
