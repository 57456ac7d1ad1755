"""Stores the labels of many clips in little memory, and counts them."""

from __future__ import annotations

import numpy as np

_ROWS = 1 << 16  # unpacked at a time


class PackedTargets:
    """Multi-label targets as packed bits; indexing gives rows as float32.

    Two million clips of 527 classes take 132 MB instead of 4 GB. Code that indexes an array of
    targets by an array of clips works with both.

    ``packed`` is (N, ceil(classes / 8)) uint8, as ``np.packbits`` makes it (AudioSet's published
    layout): the first class is the highest bit of the first byte.
    """

    def __init__(self, packed: np.ndarray, classes: int) -> None:
        self.packed, self.shape = packed, (len(packed), classes)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, clips: int | slice | np.ndarray) -> np.ndarray:
        """Rows (…, classes) of float32, 0 or 1."""
        bits = np.unpackbits(self.packed[clips], axis=-1, count=self.shape[1])
        return bits.astype(np.float32)


Targets = np.ndarray | PackedTargets


def select(targets: Targets, clips: np.ndarray) -> Targets:
    """The targets of some clips, in the same storage."""
    if isinstance(targets, PackedTargets):
        return PackedTargets(targets.packed[clips], targets.shape[1])
    return np.asarray(targets[clips])


def class_counts(targets: Targets, clips: np.ndarray) -> np.ndarray:
    """Positives of each class among the clips, (classes,) int64; NaN does not count."""
    counts = np.zeros(targets.shape[1], dtype=np.int64)
    for start in range(0, len(clips), _ROWS):
        counts += (targets[clips[start : start + _ROWS]] > 0.5).sum(axis=0)
    return counts
