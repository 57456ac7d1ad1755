"""What a small data set holds: its clips, their classes, and the sounds that were written."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sounds import sound

import passt_bench

LETTERS = "-_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
USED = 6  # classes that clips carry


@dataclass(frozen=True)
class WrittenClip:
    """One clip as it was written.

    Attributes:
        name: as the data set calls it (a file's stem, or what an HDF5 file says).
        split: "balanced", "train", "eval", … or "fold1" for folds.
        labels: numbers of its classes.
        seed: of its sound.
        path: its file; None inside an HDF5 file.
        known: numbers of the classes that are known to hold or not; None for all.
    """

    name: str
    split: str
    labels: tuple[int, ...]
    seed: int
    path: Path | None = None
    known: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Written:
    """A data set as it was written: its folder, names of all classes, clips in listed order."""

    root: Path
    classes: tuple[str, ...]
    clips: tuple[WrittenClip, ...]

    def of(self, split: str) -> list[WrittenClip]:
        """The clips of a split."""
        return [clip for clip in self.clips if clip.split == split]

    def targets(self, split: str | None = None) -> np.ndarray:
        """(N, classes) float32: 0 or 1, NaN where nobody knows."""
        clips = self.clips if split is None else self.of(split)
        table = np.zeros((len(clips), len(self.classes)), dtype=np.float32)
        for row, clip in zip(table, clips, strict=True):
            row[list(clip.labels)] = 1
            if clip.known is not None:
                row[[c for c in range(len(row)) if c not in clip.known]] = np.nan
        return table


def audioset_classes() -> list[tuple[str, str]]:
    """Machine id and name of AudioSet's 527 classes, in official order."""
    root = Path(passt_bench.__file__).parent
    (path, *_) = sorted(root.rglob("audioset_class_labels_indices.csv"))
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["mid"], row["display_name"]) for row in csv.DictReader(file)]


def labels_of(number: int, used: int = USED) -> tuple[int, ...]:
    """Classes of the clip of that number: one to three of the first ``used``."""
    return tuple(sorted({number % used, (number + number // used) % used, (number * 2) % used}))


def video_id(seed: int) -> str:
    """Eleven letters, as YouTube has them; some begin with a dash or an underscore."""
    rng = np.random.default_rng((1611, seed))
    return LETTERS[seed % 3] + "".join(LETTERS[i] for i in rng.integers(len(LETTERS), size=10))


def signal(clip: WrittenClip, seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """The sound of a written clip, as it was before it was encoded."""
    return sound(clip.seed, seconds, rate, channels, pitch=clip.labels[0])


def fsd50k_classes() -> list[tuple[str, str]]:
    """200 names as FSD50K writes them, sorted, with their machine ids (taken from AudioSet's)."""
    names = {
        name.replace(", ", "_and_").replace(" ", "_").replace("-", "_"): mid
        for mid, name in audioset_classes()
    }
    return [(name, names[name]) for name in sorted(names)[:200]]


def openmic_classes() -> tuple[str, ...]:
    """OpenMIC's 20 instruments, in official order."""
    root = Path(passt_bench.__file__).parent
    (path, *_) = sorted(root.rglob("openmic_class_map.json"))
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
    return tuple(sorted(found, key=found.__getitem__))


def openmic_known(number: int) -> tuple[int, ...]:
    """Classes that somebody judged in the clip of that number: its own and a few more."""
    return tuple(sorted({*labels_of(number), (number + 1) % USED, 6 + number % 14}))
