"""The embedded data set: procedural scenes of `data.scenes`, split and labelled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.dataset import Dataset
from passt_bench.data.scenes import CLASSES, GROUPS, VERSION, draw_classes, render_scene
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

TRAIN_CLIPS, TEST_CLIPS = 1500, 400
_LEAST_SAMPLES = 1000


def _random(seed: int, split: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, split, index))))


@dataclass(frozen=True, eq=False)
class Synthetic(Dataset):
    """Scenes rendered on demand, each from a generator of its own: any subset is the same."""

    seed: int
    train_clips: int
    sampling_rate: int
    samples: int

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """The one fixed split: training clips first."""
        if fold is not None:
            raise InputError(
                "the synthetic scenes have no folds", field="fold", value=fold, remedy="Use None."
            )
        return np.arange(self.train_clips), np.arange(self.train_clips, len(self.ids))

    def waveform(self, index: int) -> np.ndarray:
        """Renders a clip, about a millisecond for a second at 16 kHz."""
        random = _random(self.seed, *self._place(index))
        return render_scene(self.samples, self.sampling_rate, random)

    def _place(self, index: int) -> tuple[int, int]:
        """Split (0 training, 1 evaluation) and number in it."""
        if index < self.train_clips:
            return 0, index
        return 1, index - self.train_clips


def _targets(seed: int, counts: tuple[int, ...]) -> np.ndarray:
    """The labels of all clips, (N, C), split after split."""
    places = [(split, index) for split, count in enumerate(counts) for index in range(count)]
    targets = np.zeros((len(places), len(CLASSES)), dtype=np.float32)
    for row, place in zip(targets, places, strict=True):
        row[draw_classes(_random(seed, *place))] = 1
    return targets


@DATASETS.register(
    "synthetic", version=VERSION, summary="procedural scenes, 16 classes in four designed groups"
)
def open_synthetic(spec: DataSpec, sampling_rate: int, root: Path | None) -> Synthetic:
    """Draws the labels of procedural scenes; the sound follows on demand.

    Args:
        spec: clip length, numbers of clips (default 1500 and 400), seed.
        sampling_rate: Hz.
        root: None, for nothing is read.

    Raises:
        InputError: a folder was given, or clips are too short to hold a scene.
    """
    if root is not None:
        raise InputError(
            "the scenes are procedural and read no folder",
            field="--data synthetic",
            value=str(root),
            remedy="Leave it out.",
        )
    samples = round(spec.seconds * sampling_rate)
    if samples < _LEAST_SAMPLES:
        raise InputError(
            f"{samples} samples at {sampling_rate} Hz hold no scene",
            field="data.seconds",
            value=spec.seconds,
            remedy=f"Give at least {_LEAST_SAMPLES / sampling_rate:g} s.",
        )
    counts = {"train": spec.train_clips or TRAIN_CLIPS, "test": spec.test_clips or TEST_CLIPS}
    total = sum(counts.values())
    ids = tuple(f"{split}-{index:05d}" for split, count in counts.items() for index in range(count))
    targets = _targets(spec.seed, tuple(counts.values()))
    shares = targets.mean(axis=0)
    what = f"synthetic {VERSION} {spec.seed} {counts} {samples} {sampling_rate}"
    return Synthetic(
        fingerprint=Fingerprint(
            dataset="synthetic",
            digest=hashlib.sha256(what.encode()).hexdigest()[:16],
            expected=total,
            found=total,
            classes=CLASSES,
            multi_label=True,
            sampling_rates={str(sampling_rate): total},
            groups=GROUPS,
            notes=(
                f"a class stands in {shares.mean():.1%} of the clips on average, in "
                f"{shares.max():.1%} at most: guessing reaches that average precision",
            ),
        ),
        ids=ids,
        targets=targets,
        sources=ids,
        folds=(),
        seed=spec.seed,
        train_clips=counts["train"],
        sampling_rate=sampling_rate,
        samples=samples,
    )
