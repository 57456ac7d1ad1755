"""Data sets in the HDF5 layout of the reference code, see `hdf5_file`.

Targets stay packed and names stay bytes, so that AudioSet's two million clips are open in a second
or two and take 210 MiB, 430 while they are opened. A row without sound is counted and named in the
fingerprint, and is left out; of more than one row in twenty the files are refused. Nothing is
decoded before a clip is asked for; of some rows a piece of the bytes is read for the digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.audio import Encoded, length_at, read_header, read_waveform, read_whole
from passt_bench.data.clip_table import Lost, Names, Survey, stem
from passt_bench.data.dataset import Incomplete, SurveyedDataset
from passt_bench.data.fingerprint import digest_of, lacking_classes, some, spread_over
from passt_bench.data.hdf5_file import Columns, read_columns, read_pieces, read_sound
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

SPLITS = {"train": "train", "valid": "validation", "test": "test"}  # key → name in a survey
_FOLD = re.compile(r"fold([1-9]\d?)")
_MOST_LOST = 0.05  # share of the rows that may hold no sound


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


@dataclass(frozen=True, eq=False)
class Hdf5Dataset(SurveyedDataset):
    """Clips in HDF5 files; those of a split stand together, split after split."""

    files: tuple[Path, ...]
    file: np.ndarray  # (N,) number of each clip's file
    row: np.ndarray  # (N,) and its row there

    def sound(self, index: int) -> Encoded:
        """The bytes of a clip's audio file."""
        return read_sound(self.files[self.file[index]], int(self.row[index]), self.ids[index])

    def waveform(self, index: int) -> np.ndarray:
        """Decoded, mixed down, resampled, cut or padded to the spec's length."""
        return self.excerpt(index, 0)

    def length(self, index: int) -> int:
        """Samples of the whole clip at the sampling rate, as its header says."""
        return length_at(read_header(self.sound(index)), self.sampling_rate)

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, from another sample on.

        All before it is decoded as well: begun later, a decoder and a resampler round the last bit
        of a sample in another way.
        """
        samples = round(self.spec.seconds * self.sampling_rate)
        return read_waveform(self.sound(index), self.sampling_rate, start + samples)[start:]

    def whole(self, index: int) -> np.ndarray:
        """All samples of a clip."""
        return read_whole(self.sound(index), self.sampling_rate)


def open_hdf5(
    spec: DataSpec,
    sampling_rate: int,
    *,
    name: str,
    files: Mapping[str, tuple[Path, ...]],
    classes: Sequence[str],
    masked: bool = False,
    multi_label: bool = True,
    expected: int | None = None,
    source_of: Callable[[str], str] = stem,
) -> Hdf5Dataset:
    """Opens a data set whose clips lie in HDF5 files.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        name: of the data set.
        files: split (``train``, ``valid``, ``test``; or ``fold1``, ``fold2``, …) → its files, in
            the order in which they count.
        classes: in the order of the targets' bits.
        masked: whether the targets are likelihoods and a mask (OpenMIC).
        multi_label: whether a clip may have several classes, or none; else it has exactly one.
        expected: how many clips there should be; None is as many as the files list.
        source_of: the recording that a clip of that name was cut from, where the files do not tell.

    Raises:
        InputError: files that cannot be read or do not fit the classes, too many rows without
            sound, or more clips asked for than there are.
    """
    found = _read(files, len(classes), masked, single=not multi_label)
    survey = _survey(found, source_of)
    stored = found.together([column.targets for column in found.columns])
    targets: Targets = stored if masked else PackedTargets(stored, len(classes))
    dataset = Hdf5Dataset(
        fingerprint=Fingerprint(
            dataset=name,
            digest=digest_of(("hdf5", name, tuple(classes)), _digested(found)),
            expected=expected if expected is not None else sum(survey.expected),
            found=len(survey),
            classes=tuple(classes),
            multi_label=multi_label,
            notes=_notes(found, survey, targets, classes),
        ),
        ids=survey.names,
        targets=targets,
        sources=survey.sources,
        folds=tuple(int(name.split()[1]) for name in found.splits if name.startswith("fold ")),
        spec=spec,
        sampling_rate=sampling_rate,
        files=tuple(column.path for column in found.columns),
        file=found.repeated(range(len(found.columns)), np.int16),
        row=np.concatenate(found.kept).astype(np.int32),
        found=survey,
    )
    _check_lost(found, dataset)
    for fold in dataset.folds or (None,):
        dataset.split(fold)  # refuses too few clips now rather than in the midst of a study
    return dataset


def _read(files: Mapping[str, tuple[Path, ...]], classes: int, masked: bool, single: bool) -> Rows:
    """What the files say of their rows, in their order."""
    splits = _splits(files)
    columns = tuple(read_columns(path, classes, masked) for key in files for path in files[key])
    for column in columns if single else ():
        _check_single(column)
    split = tuple(code for code, key in enumerate(files) for _ in files[key])
    return Rows(splits, columns, split, tuple(_with_sound(column) for column in columns))


def _splits(files: Mapping[str, tuple[Path, ...]]) -> tuple[str, ...]:
    """Names of the splits, as a survey has them."""
    folds = [_FOLD.fullmatch(key) for key in files]
    named = all(key in SPLITS for key in files)
    if not any(files.values()) or not (named or all(folds)):
        raise ValueError(f"files of {', '.join(SPLITS)} or fold1, fold2, …, but got {list(files)}")
    return tuple(SPLITS[key] if named else f"fold {key.removeprefix('fold')}" for key in files)


def _survey(found: Rows, source_of: Callable[[str], str]) -> Survey:
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


def _digested(found: Rows) -> Iterator[str | np.ndarray]:
    """What the digest covers: columns in the order of the files, and pieces of the sound.

    A piece is from the middle of a row's sound, as `piece_of` takes it; of rows spread evenly over
    each file: those of two million would take an hour to read.

    Args:
        found: all rows; those without sound do not count.

    Raises:
        InputError: the sound of a row cannot be read from its file.
    """
    for column, split, rows in zip(found.columns, found.split, found.kept, strict=True):
        yield f"\n{found.splits[split]} {len(rows)}\n"
        width = column.names.dtype.itemsize
        yield f"{width} {column.targets.dtype} {column.targets.shape[1]}\n"
        sizes = column.sizes if column.sizes is not None else np.full(len(column.names), -1)
        for part in (column.names, column.targets, sizes.astype("<i8"), column.sources):
            if part is not None:
                yield _take(part, rows)
        yield read_pieces(column.path, rows[spread_over(len(rows))]).astype("<u8")


def _notes(
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


def _check_single(column: Columns) -> None:
    labels = np.bitwise_count(column.targets).sum(axis=1)
    wrong = np.flatnonzero(labels != 1)
    if len(wrong):
        raise InputError(
            f"{len(wrong)} rows have not exactly one class",
            source=column.path,
            field="target",
            value=f"row {wrong[0]} has {labels[wrong[0]]}",
            remedy="Write the file anew: a clip of this data set has one class.",
        )


def _with_sound(column: Columns) -> np.ndarray:
    if column.sizes is None:
        return np.arange(len(column.names))
    return np.flatnonzero(column.sizes)


def _check_lost(found: Rows, left: Hdf5Dataset) -> None:
    """Refuses files of which too many rows are empty."""
    for column, rows in zip(found.columns, found.kept, strict=True):
        empty = len(column.names) - len(rows)
        if empty > _MOST_LOST * len(column.names) or not len(rows):
            refusal = Incomplete(
                f"{empty} of {len(column.names)} rows hold no sound",
                source=column.path,
                field="mp3",
                remedy=f"At most {100 * _MOST_LOST:g} % may be empty; write the file anew.",
            )
            refusal.dataset = left
            raise refusal
