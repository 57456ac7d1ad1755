"""Gives many commands in one process, each as if typed; either edition can run it.

Read are JSON lists of words; written is for each its exit status, what it printed, and field and
value of the error that it ended with.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from passt_bench.cli import main
from passt_bench.errors import InputError

ROOT = Path(__file__).parents[2]
CREATED: list[InputError] = []
_init = InputError.__init__


def _remembered(self: InputError, *words: Any, **options: Any) -> None:
    _init(self, *words, **options)
    CREATED.append(self)


def one_line(text: str) -> str:
    """A text without its line breaks."""
    return " ".join(text.split())


def give(words: list[str]) -> dict[str, Any]:
    """Gives one command; what came of it."""
    CREATED.clear()
    sys.argv = ["passt-bench", *words]
    out, err = io.StringIO(), io.StringIO()
    status: object = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            status = ended.code or 0
        except BaseException as error:  # a traceback, which no command may end with
            status = f"{type(error).__name__}: {error}"
    printed = one_line(out.getvalue() + err.getvalue())
    # An error may be made and caught on the way; the one that was printed counts.
    told = [error for error in CREATED if one_line(str(error)) in printed] if status else []
    return {
        "status": status,
        "field": told[-1].field if told else None,
        "value": str(told[-1].value) if told else None,
        "error": bool(told),
        "out": out.getvalue(),
        "printed": printed,
    }


def python(words: Sequence[str], folder: Path, *path: Path) -> str:
    """Runs Python in a folder, with more folders on its path; what it printed."""
    found = [*map(str, path), str(ROOT), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(found)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def give_all(commands: Sequence[str], folder: Path, *path: Path) -> dict[str, dict[str, Any]]:
    """Gives commands in one new process; what came of each."""
    (folder / "commands.json").write_text(json.dumps([line.split() for line in commands]))
    said = python([__file__, "commands.json", "results.json"], folder, *path)
    results = json.loads((folder / "results.json").read_text())
    assert "Traceback" not in said, said
    return dict(zip(commands, results, strict=True))


if __name__ == "__main__":
    InputError.__init__ = _remembered  # type: ignore[method-assign]
    commands = json.loads(Path(sys.argv[1]).read_text())
    results = Path(sys.argv[2])
    results.write_text(json.dumps([give(words) for words in commands], indent=1))
