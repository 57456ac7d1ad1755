"""What every data set gives: clips with targets, sources and folds; waveforms on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from passt_bench.record import Fingerprint


@dataclass(frozen=True)
class Dataset(ABC):
    """Clips of one length and sampling rate.

    Attributes:
        fingerprint: what was found; decides the key of every run on it.
        ids: one name a clip.
        targets: (N, C) float32, 0 or 1.
        sources: the recordings that clips were cut from; no inner split divides one.
        folds: numbers of the folds; empty for one fixed split.
    """

    fingerprint: Fingerprint
    ids: tuple[str, ...]
    targets: np.ndarray
    sources: tuple[str, ...]
    folds: tuple[int, ...]

    @abstractmethod
    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training and of the evaluation clips.

        Args:
            fold: the fold held out, or None where there are no folds.
        """

    @abstractmethod
    def waveform(self, index: int) -> np.ndarray:
        """Mono float32 samples of a clip, exactly as long as the data spec says."""
