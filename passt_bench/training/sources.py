"""Waveforms of a data set's clips by index: stored in a file, or read from the data set each time.

Shapes: S samples of a clip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from passt_bench.data.dataset import Dataset


class Streamed:
    """Waveforms that are read from the data set each time, as `numpy.ndarray` gives stored ones.

    Another process opens the data set for itself: what it holds (open files, a million names) is
    not handed over.

    Args:
        opens: the data set; must be picklable where other processes shall read.
        digest: of its fingerprint.
        samples: of a clip.
        dataset: where it is open already.
    """

    def __init__(
        self,
        opens: Callable[[], Dataset],
        digest: str,
        samples: int,
        dataset: Dataset | None = None,
    ) -> None:
        self._opens, self._digest, self._samples, self._dataset = opens, digest, samples, dataset

    @property
    def dataset(self) -> Dataset:
        """The data set, opened when it is first asked for.

        Raises:
            RuntimeError: it is not what it was.
        """
        if self._dataset is None:
            dataset = self._opens()
            if dataset.fingerprint.digest != self._digest:
                raise RuntimeError("the data changed since the study was planned; run it again")
            self._dataset = dataset
        return self._dataset

    @property
    def shape(self) -> tuple[int, int]:
        """(clips, samples)."""
        return len(self.dataset.ids), self._samples

    def __getitem__(self, clips: np.ndarray) -> np.ndarray:
        """Waveforms (clips, S) from their start, float32."""
        return np.stack([self.dataset.waveform(int(clip)) for clip in clips])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_dataset": None}


Waves = np.ndarray | Streamed


def length(waves: Waves, clip: int) -> int:
    """Samples of a whole clip."""
    samples: int = waves.shape[1]
    if isinstance(waves, Streamed):
        whole = waves.dataset.length(clip)
        return samples if whole is None else whole
    return samples


def excerpt(waves: Waves, clip: int, start: int) -> np.ndarray:
    """A waveform (S,) from one of its samples on."""
    if isinstance(waves, Streamed):
        return waves.dataset.excerpt(clip, start)
    if start:
        raise ValueError("stored waveforms begin at the start of their clips")
    stored: np.ndarray = waves[clip]
    return stored
