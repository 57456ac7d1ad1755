"""The command line. Exit status: 0 all well, 1 some cell failed, 2 bad input."""

from __future__ import annotations

import sys

from passt_bench.cli import lists, results, study
from passt_bench.cli.options import app, console
from passt_bench.errors import InputError

__all__ = ["app", "console", "lists", "main", "results", "study"]

INTERRUPTED = 130


def main() -> None:
    """Entry point: input errors become a message and exit status 2, Ctrl-C a hint."""
    try:
        app()
    except InputError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer has turned a Ctrl-C into this
            console.print("Stopped. The same command goes on from here.", markup=False)
        raise
