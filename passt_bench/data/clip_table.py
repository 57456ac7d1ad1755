"""The clip table of a data set: names, splits, files and labels of all clips, in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError

SPLIT_NAMES = ("train", "test", "validation")
TRAIN, TEST, VALIDATION = range(3)
MISSING = "no such file"  # why a clip was skipped


@dataclass(frozen=True, eq=False)
class ClipTable:
    """The clips of a data set that can be used, and those that are listed but cannot.

    ``clips`` has a row per clip with the columns ``split`` (code), ``seconds`` (stored length, NaN
    if not measured), ``rate`` (Hz of the file) and ``channels`` (both 0 if not measured); ``bytes``
    of its file or row, if known; ``file`` (index into ``files``), unless clips are in larger files;
    ``start`` and ``end`` (seconds in the file; NaN is the file's end), unless all are whole files.
    ``skipped`` has ``name``, ``split`` and ``problem`` of each clip that cannot be used.
    """

    root: Path
    splits: tuple[str, ...]  # by code: ``train``, ``test``, ``validation``, or ``fold 1``, …
    expected: tuple[int, ...]  # clips of each split, as published, or else as listed
    names: Sequence[str]  # one per clip, as in `Dataset.ids`
    sources: Sequence[str]  # the recordings that clips were cut from
    clips: pd.DataFrame
    skipped: pd.DataFrame
    skipped_targets: Targets | None = None  # (skipped, classes); None if their labels are unknown
    files: Sequence[str] | None = None  # relative to ``root``; None if clips are in larger files

    def __len__(self) -> int:
        return len(self.names)

    @property
    def split(self) -> np.ndarray:
        """Code of each clip's split, (N,) int8."""
        return self.clips["split"].to_numpy()

    def path(self, index: int) -> Path | None:
        """The file of a clip; None if clips are stored inside larger files."""
        if self.files is None:
            return None
        return self.root / self.files[self.clips["file"].to_numpy()[index]]


def skipped_clips(rows: Iterable[tuple[str, int, str]]) -> pd.DataFrame:
    """Name, split and problem of clips that cannot be used, as in a clip table."""
    table = pd.DataFrame(rows, columns=["name", "split", "problem"])
    return table.astype({"name": object, "split": np.int8, "problem": object})


def stem(name: str) -> str:
    """File name without folder or suffix, e.g. ``Yabc`` for ``07/Yabc.mp3``."""
    last = name.rpartition("/")[2]  # not by pathlib, which takes ten times as long
    return last.rpartition(".")[0] or last


@dataclass(frozen=True, eq=False)
class Listing:
    """The clips that a data set's lists name, before their files are read.

    ``clips`` has a row per clip, with the columns ``name``, ``file`` (index into ``files``) and
    ``split`` (code as in `SPLIT_NAMES`, or index into ``folds``); ``source`` (the recording it was
    cut from), unless that is the clip's name; ``start`` and ``end`` (seconds in the file; NaN is
    the file's end), unless all clips are whole files.
    """

    root: Path  # the folder that files are relative to
    clips: pd.DataFrame
    files: Sequence[str]  # distinct files; an empty name is a missing file
    targets: Targets  # (N, classes)
    folds: tuple[int, ...]  # ascending; empty if splits have names
    classes: tuple[str, ...]
    multi_label: bool  # whether a clip may have several classes
    notes: tuple[str, ...] = ()  # on the lists, for readers of a result
    folder: str | None = None  # its name, of recordings of one's own

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits by code, as in a clip table."""
        return tuple(f"fold {fold}" for fold in self.folds) or SPLIT_NAMES


class ListingBuilder:
    """Builds a `Listing` clip by clip; ``name in builder`` tests whether a clip is listed.

    Without ``classes``, in order, they are those of the clips, sorted by name.
    """

    def __init__(self, classes: Sequence[str] | None = None) -> None:
        self.classes = None if classes is None else dict.fromkeys(classes)
        if classes is not None and len(classes) > len(self.classes or ()):
            twice = next(name for name in classes if classes.count(name) > 1)
            remedy = "Give each class a name of its own."
            raise InputError("named twice", field="classes", value=twice, remedy=remedy)
        self._sources: dict[str, str | None] = {}  # by name of the clip
        self._files: dict[str, int] = {}
        self._label_sets: dict[tuple[str, ...], int] = {}  # few, even for millions of clips
        self._file, self._label_set, self._split = array("i"), array("i"), array("h")
        self._start, self._end = array("d"), array("d")

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    @property
    def wanted(self) -> set[str]:
        """The files as they were added, and without blanks at their ends."""
        return {*self._files, *map(str.strip, self._files)}

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
        """Adds a clip with a unique name, a file relative to the folder, and names of classes.

        ``split`` is a code of `SPLIT_NAMES` or the number of a fold, ``source`` the recording the
        clip was cut from, by default its own name; ``start`` and ``end`` are seconds in the file.
        """
        labels = tuple(labels)
        self._sources[name] = source
        self._file.append(self._files.setdefault(file, len(self._files)))
        self._label_set.append(self._label_sets.setdefault(labels, len(self._label_sets)))
        self._split.append(split)
        self._start.append(start)
        self._end.append(np.nan if end is None else end)

    def listing(
        self,
        root: Path,
        *,
        multi_label: bool | None = None,
        folded: bool = False,
        found: Mapping[str, str] | None = None,
    ) -> Listing:
        """All clips that were added.

        Args:
            root: the folder that files are relative to.
            multi_label: by default True unless every clip has exactly one label.
            folded: whether splits are numbers of folds.
            found: file as it was added → its path, unless files were added by their paths.

        Raises:
            KeyError: a label that is not among the classes.
        """
        used = (label for labels in self._label_sets for label in labels)
        classes = tuple(sorted(set(used)) if self.classes is None else self.classes)
        numbers = {name: number for number, name in enumerate(classes)}
        packed = np.zeros((len(self._label_sets), -(-len(classes) // 8)), dtype=np.uint8)
        for row, labels in zip(packed, self._label_sets, strict=True):
            bits = np.zeros(len(classes), dtype=np.uint8)
            bits[[numbers[label] for label in labels]] = 1
            row[:] = np.packbits(bits)
        split = np.array(self._split, dtype=np.int16)
        folds = np.unique(split) if folded else np.zeros(0, dtype=np.int16)
        clips = pd.DataFrame(
            {
                "name": pd.Series(list(self._sources), dtype=object),
                "file": np.array(self._file, dtype=np.int32),
                "split": (np.searchsorted(folds, split) if folded else split).astype(np.int8),
            }
        )
        if any(source is not None for source in self._sources.values()):
            sources = [name if given is None else given for name, given in self._sources.items()]
            clips["source"] = pd.Series(sources, dtype=object)
        start, end = np.array(self._start), np.array(self._end)
        if start.any() or not np.isnan(end).all():
            clips["start"], clips["end"] = start, end
        if multi_label is None:
            multi_label = any(len(labels) != 1 for labels in self._label_sets)
        return Listing(
            root=root,
            clips=clips,
            files=[
                file if found is None else found.get(file) or found.get(file.strip(), "")
                for file in self._files
            ],
            targets=PackedTargets(packed[np.array(self._label_set)], len(classes)),
            folds=tuple(folds.tolist()),
            classes=classes,
            multi_label=multi_label,
        )
