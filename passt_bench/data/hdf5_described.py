"""What is told of clips in HDF5 files: a survey, a digest of what was found, and notes in words."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from passt_bench.data.described import lacking_classes, some
from passt_bench.data.hdf5_file import Columns, read_pieces
from passt_bench.data.names import Names
from passt_bench.data.pieces import spread_over
from passt_bench.data.survey import Lost, Survey
from passt_bench.data.targets import PackedTargets, Targets


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a data set's files, in the order in which they count.

    Attributes:
        splits: names of the splits by code, as a survey has them.
        columns: of each file.
        split: code of each file's split.
        kept: numbers of the rows with sound, of each file.
    """

    splits: tuple[str, ...]
    columns: tuple[Columns, ...]
    split: tuple[int, ...]
    kept: tuple[np.ndarray, ...]

    def together(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The rows with sound of all files, of a column of each."""
        return np.concatenate(
            [_take(part, rows) for part, rows in zip(parts, self.kept, strict=True)]
        )

    def repeated(self, values: Iterable[int], dtype: type[np.integer]) -> np.ndarray:
        """One number a file, for each of its rows with sound."""
        return np.repeat(np.array(list(values), dtype=dtype), [len(rows) for rows in self.kept])


def survey_of(found: Rows, source_of: Callable[[str], str]) -> Survey:
    """The clips that have sound; lengths, rates and channels are not looked at.

    Args:
        found: all rows.
        source_of: the recording that a clip of that name was cut from, where the files do not tell.
    """
    raw = found.together([column.names for column in found.columns])
    listed = [len(column.names) for column in found.columns]
    expected = np.bincount(found.split, listed, minlength=len(found.splits))
    return Survey(
        root=found.columns[0].path.parent,
        splits=found.splits,
        expected=tuple(expected.astype(int).tolist()),
        names=Names(raw),
        split=found.repeated(found.split, np.int8),
        sources=_sources(found, raw, source_of),
        seconds=np.full(len(raw), np.nan, dtype=np.float32),
        rates=np.zeros(len(raw), dtype=np.int32),
        channels=np.zeros(len(raw), dtype=np.int16),
        lost=_lost(found),
        sizes=_all_told(found, [column.sizes for column in found.columns]),
    )


def _sources(found: Rows, raw: np.ndarray, source_of: Callable[[str], str]) -> Names:
    """As the files tell, or from the names."""
    told = _all_told(found, [column.sources for column in found.columns])
    return Names(raw, source_of) if told is None else Names(told)


def _all_told(found: Rows, parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """A column that not every file has; None where one lacks it."""
    known = [part for part in parts if part is not None]
    return found.together(known) if len(known) == len(parts) else None


def _lost(found: Rows) -> Lost:
    names: list[str] = []
    splits: list[int] = []
    for column, split in zip(found.columns, found.split, strict=True):
        if column.sizes is not None:
            empty = column.names[column.sizes == 0]
            names += [bytes(name).decode() for name in empty]
            splits += [split] * len(empty)
    return Lost(names, np.array(splits, dtype=np.int8), ["empty, 0 bytes"] * len(names))


def digest_of(name: str, classes: Sequence[str], found: Rows) -> str:
    """Of names, targets, sources and sizes in the order of the files, and of pieces of the sound.

    A piece is from the middle of a row's sound, as `piece_of` takes it; of rows spread evenly over
    each file: those of two million would take an hour to read.

    Args:
        name: of the data set.
        classes: in the order of the targets' bits.
        found: all rows; those without sound do not count.

    Raises:
        InputError: the sound of a row cannot be read from its file.
    """
    hasher = hashlib.sha256(repr(("hdf5", name, tuple(classes))).encode())
    for column, split, rows in zip(found.columns, found.split, found.kept, strict=True):
        hasher.update(f"\n{found.splits[split]} {len(rows)}\n".encode())
        width = column.names.dtype.itemsize
        hasher.update(f"{width} {column.targets.dtype} {column.targets.shape[1]}\n".encode())
        sizes = column.sizes if column.sizes is not None else np.full(len(column.names), -1)
        for part in (column.names, column.targets, sizes.astype("<i8"), column.sources):
            if part is not None:
                hasher.update(np.ascontiguousarray(_take(part, rows)).view(np.uint8).data)
        pieces = read_pieces(column.path, rows[spread_over(len(rows))])
        hasher.update(pieces.astype("<u8").tobytes())
    return hasher.hexdigest()[:16]


def notes_on(
    found: Rows, survey: Survey, targets: Targets, classes: Sequence[str]
) -> tuple[str, ...]:
    """What a reader of a result should know of its data.

    Args:
        found: all rows.
        survey: of those with sound.
        targets: of the same.
        classes: their names.
    """
    lost, unlabelled = survey.lost, 0
    if isinstance(targets, PackedTargets):
        unlabelled = int((~targets.packed.any(axis=1)).sum())
    blind = [column.path.name for column in found.columns if column.sizes is None]
    told = (
        (len(lost), f"{len(lost)} rows without sound, left out: {some(lost.names[:5], lost)}"),
        (unlabelled, f"{unlabelled} clips have no label"),
        (len(blind), f"whether rows are empty is not known before reading: {', '.join(blind)}"),
    )
    return (
        *(note for count, note in told if count),
        *lacking_classes(targets, survey.split, survey.splits, classes),
    )


def _take(part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows, without a copy where they are all."""
    return part if len(rows) == len(part) else part[rows]
