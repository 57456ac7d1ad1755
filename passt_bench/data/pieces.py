"""Pieces of sound that go into a digest: all of two million clips would take hours to read."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO

import numpy as np

_PIECE = 4096  # bytes; another sound of the same size differs in them
_SPREAD = 1024  # clips that are looked at where many lie in one file


def hash_of(content: bytes) -> int:
    """A hash of 64 bits."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def piece_of(file: BinaryIO, start: int = 0, end: int | None = None) -> int:
    """Hash of 4 KiB from the middle of a file, or of all of it where that is less.

    Args:
        file: that can be sought in.
        start: byte at which the part begins that counts as the file.
        end: byte behind that part; None is the file's end.
    """
    end = file.seek(0, os.SEEK_END) if end is None else end
    file.seek(start + max(0, end - start - _PIECE) // 2)
    return hash_of(file.read(min(_PIECE, end - start)))


def spread_over(count: int) -> np.ndarray:
    """Places of up to 1,024 of ``count`` clips, spread evenly from the first to the last."""
    chosen = min(count, _SPREAD)
    places: np.ndarray = np.arange(chosen) * (count - 1) // max(chosen - 1, 1)
    return places
