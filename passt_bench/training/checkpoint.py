"""Checkpoints: the state of a training run, written atomically, read without unpickling code."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch

from passt_bench.records.files import check_zip, write_atomically

FORMAT = 3  # raise when the state's layout changes: older checkpoints are then not used
LATEST, BEST = "checkpoint.pt", "best.pt"  # to resume from; with the weights of the best epoch


def warn(text: str) -> None:
    """Prints a line on stderr."""
    print(text, file=sys.stderr, flush=True)


def save(folder: Path, state: dict[str, Any], name: str = LATEST) -> None:
    """Writes the state of a training run into a cell's folder, whole or not at all."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(folder / name, buffer.getvalue())


def load(folder: Path, identity: tuple[str, int], name: str = LATEST) -> dict[str, Any] | None:
    """The state in a cell's folder, of that key and attempt; None if there is none to use."""
    path = folder / name
    state, problem = _read(path, identity) if path.is_file() else (None, None)
    if problem:
        warn(f"{folder.name}/{name}: {problem}; it is not used")
    return state


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
    for name in (LATEST, BEST):
        (folder / name).unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    return (folder / LATEST).is_file()
