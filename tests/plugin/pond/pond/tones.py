"""A data set: pure tones in noise, one class an octave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data import Dataset, Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec import DataSpec

CLASSES = ("low", "middle", "high")


@dataclass(frozen=True, eq=False)
class Tones(Dataset):
    train_clips: int
    sampling_rate: int
    samples: int

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        clips = np.arange(len(self.ids))
        return clips[: self.train_clips], clips[self.train_clips :]

    def waveform(self, index: int) -> np.ndarray:
        random = np.random.default_rng(index)
        octave = index % len(CLASSES) + random.random()
        time = np.arange(self.samples) / self.sampling_rate
        tone = np.sin(2 * np.pi * 200 * 2**octave * time) + random.normal(size=self.samples)
        return (0.1 * tone).astype(np.float32)


@DATASETS.register("tones", version=5, summary="pure tones in noise")
def open_tones(spec: DataSpec, sampling_rate: int, root: Path | None) -> Tones:
    """Makes as many clips as the recipe asks for, 60 and 30 by default."""
    train, test = spec.train_clips or 60, spec.test_clips or 30
    ids = tuple(f"tone-{index}" for index in range(train + test))
    samples = round(spec.seconds * sampling_rate)
    digest = f"tones-{train}-{test}-{samples}"
    return Tones(
        fingerprint=Fingerprint("tones", digest, len(ids), len(ids), CLASSES, multi_label=False),
        ids=ids,
        targets=np.eye(len(CLASSES), dtype=np.float32)[np.arange(len(ids)) % len(CLASSES)],
        sources=ids,
        folds=(),
        train_clips=train,
        sampling_rate=sampling_rate,
        samples=samples,
    )
