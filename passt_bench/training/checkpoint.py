"""Checkpoints: the whole state of a training, written atomically, read without pickles."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from passt_bench.errors import InputError
from passt_bench.record import write_atomically

NAME = "checkpoint.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Writes the state of a training into a cell's folder."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(folder / NAME, buffer.getvalue())


def load(folder: Path, key: str) -> dict[str, Any] | None:
    """The state to go on from, or None.

    Raises:
        InputError: the file cannot be read or belongs to another cell.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise InputError(
            f"not a readable checkpoint ({type(error).__name__})",
            source=path,
            remedy="Remove the file; the cell starts anew.",
        ) from error
    if not isinstance(state, dict) or state.get("key") != key:
        raise InputError(
            "a checkpoint of another cell",
            source=path,
            field="key",
            value=key,
            remedy="Remove the file; the cell starts anew.",
        )
    return state


def remove(folder: Path) -> None:
    """Removes the checkpoint of a finished cell."""
    (folder / NAME).unlink(missing_ok=True)
