"""A current folder whose Python files have the names of modules, and tell when they are run."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

OWN = ("passt_bench", "ablations")
# The test knows whose file ran, and in which process, by the name and the words of the mark.
_BODY = """import sys
with open({marks!r} + "/" + {name!r}, "a") as file:
    file.write(repr(sys.orig_argv) + "\\n")
raise ImportError("a file of the current folder was run: " + {name!r})
"""


class HostileFolder:
    """A folder with modules that should not be run.

    Args:
        root: where the folder and its marks are made.
        names: of the modules; None is the whole standard library and whatever is installed.
    """

    def __init__(self, root: Path, names: Iterable[str] | None = None) -> None:
        self.path, self._marks = root / "current", root / "marks"
        self.path.mkdir(parents=True)
        self._marks.mkdir()
        if names is None:
            installed = {name for name in packages_distributions() if name.isidentifier()}
            names = sys.stdlib_module_names | installed | set(OWN)
        for name in names:
            package = name in OWN
            if package:
                (self.path / name).mkdir()
            self.write(name, self.path / (f"{name}/__init__.py" if package else f"{name}.py"))

    def write(self, name: str, path: Path) -> None:
        """Writes a file that leaves a mark of that name, and then fails."""
        path.write_text(_BODY.format(marks=str(self._marks), name=name), encoding="utf-8")

    def marks(self) -> dict[str, str]:
        """The names of the files that were run, with the commands of the processes that did it."""
        return {path.name: path.read_text(encoding="utf-8") for path in self._marks.iterdir()}
