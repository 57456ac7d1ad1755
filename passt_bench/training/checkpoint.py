"""Checkpoints: the state of a training run, written atomically, read without unpickling code.

The last two are kept, because one may be truncated: ``checkpoint.pt`` and ``checkpoint-before.pt``.
``best.pt`` holds the weights of the best epoch where one is chosen.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from passt_bench.records.files import check_zip, write_atomically

FORMAT = 3  # raise when the state's layout changes: older checkpoints are then not used
LATEST, PREVIOUS, BEST = "checkpoint.pt", "checkpoint-before.pt", "best.pt"
_UNFINISHED = "checkpoint-next.pt"


def warn(text: str) -> None:
    """Prints a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state of a training run into a cell's folder and keeps the previous checkpoint."""
    write(folder / _UNFINISHED, state)
    if (folder / LATEST).is_file():
        (folder / LATEST).replace(folder / PREVIOUS)
    (folder / _UNFINISHED).replace(folder / LATEST)


def write(path: Path, state: dict[str, Any]) -> None:
    """Writes a checkpoint whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def states(
    folder: Path,
    identity: tuple[str, int],
    names: Sequence[str] = (LATEST, PREVIOUS),
) -> Iterator[dict[str, Any]]:
    """The states that can be used, by default those to continue from, the newest first.

    Args:
        folder: folder of the cell.
        identity: key and attempt that the state must belong to.
        names: names of the files.
    """
    for path in (folder / name for name in names):
        state, problem = _read(path, identity) if path.is_file() else (None, None)
        if problem:
            warn(f"{folder.name}/{path.name}: {problem}; it is not used")
        elif state is not None:
            yield state


def _read(path: Path, identity: tuple[str, int]) -> tuple[Any, str | None]:
    """The state in a file, and why it cannot be used."""
    try:
        check_zip(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is not None:
            return None, f"damaged at {damaged}"
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile and torch raise many kinds for a broken file
        why = getattr(error, "problem", type(error).__name__)
        return None, f"not a readable checkpoint ({why})"
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return None, "a checkpoint of another version of passt-bench"
    if (state.get("key"), state.get("attempt")) != identity:
        return None, "a checkpoint of another run"
    return state, None


def remove(folder: Path) -> None:
    """Removes the checkpoints of a finished cell."""
    for name in (LATEST, PREVIOUS, BEST, _UNFINISHED):
        (folder / name).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return any((folder / name).is_file() for name in (LATEST, PREVIOUS))
