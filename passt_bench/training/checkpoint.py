"""Checkpoints: the whole state of a training, written atomically, read without running code.

The last two are kept, because one may be truncated: ``checkpoint.pt`` and ``checkpoint-before.pt``.
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
LATEST, PREVIOUS, BEST = "checkpoint.pt", "checkpoint-before.pt", "best.pt"
_UNFINISHED = "checkpoint-next.pt"


def warn(text: str) -> None:
    """Prints a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state of a training into a cell's folder and keeps the previous checkpoint."""
    _write(folder / _UNFINISHED, state)
    if (folder / LATEST).is_file():
        (folder / LATEST).replace(folder / PREVIOUS)
    (folder / _UNFINISHED).replace(folder / LATEST)


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
        folder: folder of the cell.
        identity: key and attempt that the state must belong to.
        warn: called with a sentence for each file that cannot be used.
    """
    for name in (LATEST, PREVIOUS):
        path = folder / name
        if path.is_file():
            state = _read(path, identity, warn)
            if state is not None:
                yield state


def load_best(
    folder: Path, identity: tuple[str, int], warn: Callable[[str], None] = warn
) -> dict[str, Any] | None:
    """The weights of the best epoch so far, or None if they cannot be read."""
    path = folder / BEST
    return _read(path, identity, warn) if path.is_file() else None


def _read(
    path: Path, identity: tuple[str, int], warn: Callable[[str], None]
) -> dict[str, Any] | None:
    label = f"{path.parent.name}/{path.name}"
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            warn(f"{label}: damaged at {damaged}; it is not used")
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise many kinds for a broken file
        warn(f"{label}: not a readable checkpoint ({type(error).__name__}); it is not used")
        return None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        warn(f"{label}: a checkpoint of another version of passt-bench; it is not used")
        return None
    if (state.get("key"), state.get("attempt")) != identity:
        warn(f"{label}: a checkpoint of another run; it is not used")
        return None
    return state


def remove(folder: Path) -> None:
    """Removes the checkpoints of a finished cell."""
    for name in (LATEST, PREVIOUS, BEST, _UNFINISHED):
        (folder / name).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return any((folder / name).is_file() for name in (LATEST, PREVIOUS))
