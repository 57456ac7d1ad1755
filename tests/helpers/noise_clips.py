"""A data set of noise that can be opened anywhere: clips of known samples, some of them longer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passt_bench.data.dataset import Dataset
from passt_bench.records.run import Fingerprint

CLIPS, TRAIN, SAMPLES, RATE, CLASSES = 24, 16, 4000, 8000, 3


@dataclass(frozen=True)
class NoiseClips(Dataset):
    """Clip i is noise of seed i; every third is half a clip longer than the rest."""

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(TRAIN), np.arange(TRAIN, CLIPS)

    def whole(self, index: int) -> np.ndarray:
        samples = SAMPLES * 3 // 2 if index % 3 == 0 else SAMPLES
        return 0.1 * np.random.default_rng(index).standard_normal(samples).astype("f4") + 0.01

    def waveform(self, index: int) -> np.ndarray:
        return self.excerpt(index, 0)

    def length(self, index: int) -> int | None:
        return len(self.whole(index))

    def excerpt(self, index: int, start: int) -> np.ndarray:
        return self.whole(index)[start : start + SAMPLES]


def labels() -> np.ndarray:
    """The targets of all clips, multi-label."""
    targets = (np.random.default_rng(9).random((CLIPS, CLASSES)) < 0.4).astype("f4")
    targets[np.arange(CLIPS), np.arange(CLIPS) % CLASSES] = 1
    return targets


def open_noise(digest: str = "noise") -> NoiseClips:
    """The data set."""
    ids = tuple(str(number) for number in range(CLIPS))
    fingerprint = Fingerprint("noise", digest, None, CLIPS, ("a", "b", "c"), multi_label=True)
    return NoiseClips(fingerprint, ids, labels(), ids, ())
