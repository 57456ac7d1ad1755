"""Clips as a list names them: file, labels, split, source, stretch; in columns.

Beside its name a clip costs some fifty bytes, so that lists of millions fit into memory. No file
has been looked at yet; `clips.open_listing` does that.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from passt_bench.data.targets import PackedTargets, Targets

SPLITS = ("train", "test", "validation")
TRAIN, TEST, VALIDATION = range(3)
_BLOCK = 1 << 16  # clips whose labels are packed at a time


@dataclass(frozen=True, eq=False)
class Listing:
    """What a list says.

    Attributes:
        root: the folder that files are relative to.
        names: one a clip.
        files: each once; an empty name stands for a file that was looked for and not found.
        file: (N,) int32, number of each clip's file.
        targets: (N, classes).
        split: (N,) int8; codes as in `SPLITS`, or the places of folds in ``folds``.
        folds: their numbers, ascending; empty where splits have names.
        sources: the recordings that clips were cut from.
        start: (N,) float64 seconds, where each clip begins in its file; None where all are whole.
        end: (N,) float64 seconds, where each clip ends; NaN at its file's end; None with ``start``.
        classes: their names.
        multi_label: whether a clip may have several classes.
    """

    root: Path
    names: Sequence[str]
    files: Sequence[str]
    file: np.ndarray
    targets: Targets
    split: np.ndarray
    folds: tuple[int, ...]
    sources: Sequence[str]
    start: np.ndarray | None
    end: np.ndarray | None
    classes: tuple[str, ...]
    multi_label: bool

    def __len__(self) -> int:
        return len(self.names)

    def split_names(self) -> tuple[str, ...]:
        """Names of the splits by code, as a survey has them."""
        return tuple(f"fold {fold}" for fold in self.folds) or SPLITS

    def labels(self, clips: Sequence[int]) -> list[tuple[str, ...]]:
        """Names of the classes of some clips; clips of the same classes share them."""
        known: dict[bytes, tuple[str, ...]] = {}
        found = []
        for at in range(0, len(clips), _BLOCK):
            held = self.targets[np.array(clips[at : at + _BLOCK], dtype=np.int64)] > 0.5
            for row, packed in zip(held, np.packbits(held, axis=1), strict=True):
                key = packed.tobytes()
                if key not in known:
                    known[key] = tuple(self.classes[label] for label in np.flatnonzero(row))
                found.append(known[key])
        return found

    def chosen(self, clips: np.ndarray) -> Listing:
        """The clips of those numbers, in that order; files stay as they are."""
        picked = clips.tolist()
        targets: Targets
        if isinstance(self.targets, PackedTargets):
            targets = PackedTargets(self.targets.packed[clips], len(self.classes))
        else:
            targets = self.targets[clips]
        same = self.sources is self.names
        names = [self.names[clip] for clip in picked]
        return replace(
            self,
            names=names,
            file=self.file[clips],
            targets=targets,
            split=self.split[clips],
            sources=names if same else [self.sources[clip] for clip in picked],
            start=None if self.start is None else self.start[clips],
            end=None if self.end is None else self.end[clips],
        )


class Lister:
    """Gathers a listing clip by clip.

    Args:
        classes: in their order; None where they are not known before: then they are those that
            are met, sorted by name.
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self._fixed = classes is not None
        self.classes: dict[str, int] = {name: at for at, name in enumerate(classes or ())}
        self.names: list[str] = []
        self._sources: list[str] = []
        self._files: dict[str, int] = {}
        self._file, self._split = array("i"), array("h")
        self._labels, self._counts = array("i"), array("h")
        self._start, self._end = array("d"), array("d")
        self._stretched = self._sourced = False

    def __len__(self) -> int:
        return len(self.names)

    def add(
        self,
        name: str,
        file: str,
        labels: Iterable[str],
        split: int,
        *,
        source: str | None = None,
        start: float = 0.0,
        end: float | None = None,
    ) -> None:
        """Adds a clip.

        Args:
            name: of the clip, unlike all others.
            file: relative to the folder.
            labels: names of its classes.
            split: a code of `SPLITS`, or the number of a fold.
            source: the recording that it was cut from; None is its name.
            start: seconds, where it begins in the file.
            end: seconds, where it ends; None at the file's end.

        Raises:
            KeyError: a label that the classes lack.
        """
        numbers = [self._number(label) for label in labels]
        self.names.append(name)
        self._sources.append(name if source is None else source)
        self._sourced |= source is not None
        self._file.append(self._files.setdefault(file, len(self._files)))
        self._split.append(split)
        self._labels.extend(numbers)
        self._counts.append(len(numbers))
        self._start.append(start)
        self._end.append(np.nan if end is None else end)
        self._stretched |= start > 0 or end is not None

    def _number(self, label: str) -> int:
        if self._fixed:
            return self.classes[label]
        return self.classes.setdefault(label, len(self.classes))

    def listing(
        self,
        root: Path,
        *,
        multi_label: bool | None = None,
        folded: bool = False,
        found: Mapping[str, str] | None = None,
    ) -> Listing:
        """All that was added.

        Args:
            root: the folder that files are relative to.
            multi_label: None is told by whether every clip has exactly one label.
            folded: whether splits are the numbers of folds.
            found: file as it was added → where it lies; those that are not in it are lost. None
                where files lie where the list says.
        """
        order = list(self.classes) if self._fixed else sorted(self.classes)
        places = np.zeros(len(order), dtype=np.int32)
        places[[self.classes[name] for name in order]] = np.arange(len(order))
        counts = np.frombuffer(self._counts, dtype=np.int16)
        split = np.frombuffer(self._split, dtype=np.int16)
        folds = np.unique(split) if folded else np.zeros(0, dtype=np.int16)
        packed = _pack(places[np.frombuffer(self._labels, dtype=np.int32)], counts, len(order))
        files = list(self._files)
        return Listing(
            root=root,
            names=self.names,
            files=files if found is None else [found.get(file, "") for file in files],
            file=np.frombuffer(self._file, dtype=np.int32),
            targets=PackedTargets(packed, len(order)),
            split=(np.searchsorted(folds, split) if folded else split).astype(np.int8),
            folds=tuple(folds.tolist()),
            sources=self._sources if self._sourced else self.names,
            start=np.frombuffer(self._start) if self._stretched else None,
            end=np.frombuffer(self._end) if self._stretched else None,
            classes=tuple(order),
            multi_label=bool((counts != 1).any()) if multi_label is None else multi_label,
        )


def _pack(labels: np.ndarray, counts: np.ndarray, classes: int) -> np.ndarray:
    """Packed bits (clips, ceil(classes / 8)) of labels that follow each other, clip after clip."""
    packed = np.zeros((len(counts), -(-classes // 8)), dtype=np.uint8)
    ends = np.cumsum(counts, dtype=np.int64)
    for at in range(0, len(counts), _BLOCK):
        some = counts[at : at + _BLOCK]
        last = int(ends[at + len(some) - 1])
        bits = np.zeros((len(some), classes), dtype=np.uint8)
        bits[np.repeat(np.arange(len(some)), some), labels[last - int(some.sum()) : last]] = 1
        packed[at : at + len(some)] = np.packbits(bits, axis=1)
    return packed
