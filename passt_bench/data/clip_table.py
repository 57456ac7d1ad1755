"""Tables of clips: what a list says of them, and what was found of their files; in columns.

A column costs a few bytes a clip, and beside its name a clip costs some fifty, so that lists of
millions fit into memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import overload

import numpy as np

from passt_bench.data.targets import PackedTargets, Targets

SPLITS = ("train", "test", "validation")
TRAIN, TEST, VALIDATION = range(3)
_BLOCK = 1 << 16  # clips whose labels are packed at a time


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


def as_listed(name: str) -> str:
    """The name itself."""
    return name


def stem(name: str) -> str:
    """``Yabc`` of ``07/Yabc.mp3``."""
    return PurePosixPath(name).stem


class Names(Sequence[str]):
    """Names kept as fixed-length bytes, decoded one by one when they are asked for.

    Two million names of 20 bytes take 40 MB instead of 150.

    Args:
        raw: (N,) bytes (dtype ``S``), valid UTF-8.
        change: what is made of a name; a function of a module, so that it can be pickled.
    """

    def __init__(self, raw: np.ndarray, change: Callable[[str], str] = as_listed) -> None:
        self.raw, self._change = raw, change

    def __len__(self) -> int:
        return len(self.raw)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return Names(self.raw[index], self._change)
        return self._change(bytes(self.raw[index]).decode())


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
