"""What was found of a data set, clip by clip, in columns: for `data check` and for fingerprints.

A column costs a few bytes a clip, so that two million clips fit beside their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Lost:
    """Clips that are listed and were left out.

    Attributes:
        names: of the clips, as they are listed.
        split: (lost,) int8, codes of their splits.
        reasons: what is wrong with each, e.g. ``no such file``.
        labels: names of the classes of each; empty where nobody told.
    """

    names: Sequence[str]
    split: np.ndarray
    reasons: Sequence[str]
    labels: Sequence[Sequence[str]] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Survey:
    """The clips of a data set that can be used, and those that cannot.

    Attributes:
        root: folder of the data set.
        splits: names of the splits by code: ``train``, ``test``, ``validation``, or ``fold 1``, ….
        expected: clips that each split shall have: as published, or as listed where nothing is.
        names: one a clip; those of `Dataset.ids`, in their order.
        split: (N,) int8, code of each clip's split.
        sources: the recordings that clips were cut from.
        seconds: (N,) float32, length of each clip as it is stored; NaN where nobody looked.
        rates: (N,) int32, Hz of each file; 0 where nobody looked.
        channels: (N,) int16, of each file; 0 where nobody looked.
        lost: what is listed and was left out.
        files: relative to ``root``, each once; None where clips do not lie in files of their own.
        file: (N,) int32, number of each clip's file in ``files``; None with ``files``.
        start: (N,) float64 seconds, where each clip begins in its file; None where all are whole.
        end: (N,) float64 seconds, where each clip ends; NaN at its file's end; None with ``start``.
        sizes: (N,) int64, bytes of each clip's sound where it has no file of its own; None where
            nobody knows, and with ``files``.
        prepared: whether the clips were made from other data by ``data prepare``.
    """

    root: Path
    splits: tuple[str, ...]
    expected: tuple[int, ...]
    names: Sequence[str]
    split: np.ndarray
    sources: Sequence[str]
    seconds: np.ndarray
    rates: np.ndarray
    channels: np.ndarray
    lost: Lost
    files: Sequence[str] | None = None
    file: np.ndarray | None = None
    start: np.ndarray | None = None
    end: np.ndarray | None = None
    sizes: np.ndarray | None = None
    prepared: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path | None:
        """The file of a clip; None where clips do not lie in files of their own."""
        if self.files is None or self.file is None:
            return None
        return self.root / self.files[self.file[index]]

    def found(self) -> tuple[int, ...]:
        """Usable clips of each split."""
        return tuple(np.bincount(self.split, minlength=len(self.splits)).tolist())
