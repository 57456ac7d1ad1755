"""The interface of every data set: clips with targets, sources and folds; waveforms on demand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.clip_table import ClipTable
from passt_bench.data.opening import AudioFile
from passt_bench.data.splits import limited
from passt_bench.data.targets import Targets
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

SCALE = 32768  # 16-bit samples divided by it are within ±1
MAX_SKIPPED = 0.05  # share of the clips that may be missing or broken


class Incomplete(InputError):
    """Too many clips of a data set are missing or broken to run anything on it."""

    dataset: Dataset  # the clips that can be used, for a check


class FileChanged(InputError):
    """A file of a data set has changed since the data set was opened."""


def stamps_of(paths: Iterable[Path]) -> np.ndarray:
    """Bytes and modification time in ns of files, (files, 2) int64; zeros if missing."""
    return np.array([_stamp(path) for path in paths], dtype=np.int64)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Dataset(ABC):
    """Clips of one length and sampling rate."""

    fingerprint: Fingerprint  # its digest is a part of the key of every run on the data
    ids: Sequence[str]  # one name per clip
    targets: Targets  # (N, C), 0 or 1, NaN if unknown (OpenMIC's partial labels)
    sources: Sequence[str]  # recording of each clip; clips of one stay in one split
    folds: tuple[int, ...]  # numbers of the folds; empty for one fixed split

    @abstractmethod
    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the training clips and of the test clips: the ``fold`` held out, if any."""

    @abstractmethod
    def waveform(self, index: int) -> np.ndarray:
        """Mono float32 samples of a clip, exactly of the length in the data spec."""

    def stored_waveform(self, index: int) -> np.ndarray:
        """Like `waveform`; int16, and `SCALE` times as large, if clips are stored so."""
        return self.waveform(index)

    def validation(self) -> np.ndarray | None:
        """Indices of the authors' validation clips, which are in neither part of `split`.

        None if there are none; a validation split is then cut from the training clips.
        """
        return None

    def clip_table(self) -> ClipTable | None:
        """The clip table; None for procedural data."""
        return None

    def sound(self, index: int) -> AudioFile:
        """The audio file of a clip, or its bytes if it is inside another file."""
        raise ValueError("the clips of this data set are not stored")

    def length(self, index: int) -> int | None:
        """Samples of the whole clip at the sampling rate; None if `waveform` gives all of it."""
        return None

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, but beginning at sample ``start``; zeros beyond the clip's end.

        Raises:
            ValueError: the data set only reads clips from their beginning.
        """
        if start:
            raise ValueError("the clips of this data set are only read from their beginning")
        return self.waveform(index)

    def whole(self, index: int) -> np.ndarray:
        """Mono float32 samples of the whole clip, or `waveform` if `length` is None."""
        return self.waveform(index)


@dataclass(frozen=True, eq=False)
class StoredDataset(Dataset):
    """A data set whose clips are stored and listed in a clip table."""

    spec: DataSpec  # clip length; numbers of clips of each split
    sampling_rate: int  # Hz of the waveforms
    table: ClipTable
    stamps: np.ndarray  # `stamps_of` the files with the clips when the data set was opened

    @property
    def samples(self) -> int:
        """Samples of a waveform."""
        return round(self.spec.seconds * self.sampling_rate)

    def waveform(self, index: int) -> np.ndarray:
        """Decoded, mixed to mono, resampled, cut or padded to the spec's length."""
        return self.excerpt(index, 0)

    def check_unchanged(self, path: Path, file: int) -> None:
        """Refuses a file, by its index in ``stamps``, that changed after its header was read.

        Raises:
            FileChanged: it has another size or modification time; a missing file is reported when
                it is read.
        """
        stamp = _stamp(path)
        if stamp not in ((0, 0), tuple(self.stamps[file].tolist())):
            raise FileChanged(
                "has changed since the data set was opened",
                source=path,
                field="size, modification time",
                value=stamp,
                remedy="Give the same command again: it opens the data as they are now.",
            )

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Training and test clips; with folds, all other folds and the fold held out.

        Limited to the numbers in the spec.

        Raises:
            InputError: no such fold, or fewer clips than the spec asks for.
        """
        if fold is None and not self.folds:
            train, test = self._is_in("train"), self._is_in("test")
        elif fold in self.folds:
            test = self._is_in(f"fold {fold}")
            train = ~test
        else:
            raise InputError(
                "no such fold",
                field="fold",
                value=fold,
                remedy=f"There are {self.folds}." if self.folds else "There are none; use None.",
            )
        spec = self.spec
        return (
            limited(np.flatnonzero(train), self.targets, spec.train_clips, "data.train_clips"),
            limited(np.flatnonzero(test), self.targets, spec.test_clips, "data.test_clips"),
        )

    def check_splits(self) -> None:
        """Splits once, so that too few clips are refused before a study instead of during it."""
        for fold in self.folds or (None,):
            self.split(fold)

    def validation(self) -> np.ndarray | None:
        """Indices of the authors' validation clips; None if there are none."""
        clips = np.flatnonzero(self._is_in("validation"))
        return clips if len(clips) else None

    def clip_table(self) -> ClipTable:
        """The clip table."""
        return self.table

    def _is_in(self, split: str) -> np.ndarray:
        splits = self.table.splits
        code = splits.index(split) if split in splits else -1
        return np.asarray(self.table.split == code)
