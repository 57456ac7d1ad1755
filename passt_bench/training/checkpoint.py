"""Checkpoints: the whole state of a training, written atomically, read without running code.

The last two are kept, for a disk may cut one off: ``checkpoint.pt`` and ``checkpoint-before.pt``.
``best.pt`` holds the weights of the best epoch where one is chosen.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from passt_bench.records.files import write_atomically

FORMAT = 2  # raise when the state's layout changes: older checkpoints are then not used
NAME, BEFORE, BEST = "checkpoint.pt", "checkpoint-before.pt", "best.pt"
_NEXT = "checkpoint-next.pt"


def warn(text: str) -> None:
    """Prints a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state of a training into a cell's folder; the last one becomes the one before."""
    _write(folder / _NEXT, state)
    if (folder / NAME).is_file():
        (folder / NAME).replace(folder / BEFORE)
    (folder / _NEXT).replace(folder / NAME)


def save_best(folder: Path, state: dict[str, Any]) -> None:
    """Writes the weights of the best epoch so far."""
    _write(folder / BEST, state)


def _write(path: Path, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def states(
    folder: Path, identity: tuple[str, int], warn: Callable[[str], None] = warn
) -> Iterator[dict[str, Any]]:
    """The states to continue from, the newest first; unreadable files are skipped with a warning.

    Args:
        folder: of the cell.
        identity: key and attempt that the state must belong to.
        warn: called with a sentence for each file that cannot be used.
    """
    for name in (NAME, BEFORE):
        path = folder / name
        if path.is_file():
            state = _read(path, identity, warn)
            if state is not None:
                yield state


def load_best(
    folder: Path, identity: tuple[str, int], warn: Callable[[str], None] = warn
) -> dict[str, Any] | None:
    """The weights of the best epoch so far, or None where they cannot be read."""
    path = folder / BEST
    return _read(path, identity, warn) if path.is_file() else None


def _read(
    path: Path, identity: tuple[str, int], warn: Callable[[str], None]
) -> dict[str, Any] | None:
    where = f"{path.parent.name}/{path.name}"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            warn(f"{where}: damaged at {damaged}; it is not used")
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise many kinds for a broken file
        warn(f"{where}: not a readable checkpoint ({type(error).__name__}); it is not used")
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        warn(f"{where}: a checkpoint of another version of passt-bench; it is not used")
        return None
    if (state.get("key"), state.get("attempt")) != identity:
        warn(f"{where}: a checkpoint of another run; it is not used")
        return None
    return state


def remove(folder: Path) -> None:
    """Removes the checkpoints of a finished cell."""
    for name in (NAME, BEFORE, BEST, _NEXT):
        (folder / name).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint, of whatever kind."""
    return any((folder / name).is_file() for name in (NAME, BEFORE))
