"""Data sets in the HDF5 layout of the reference code, see `hdf5_file`.

Targets stay packed and names stay bytes, so that AudioSet's two million clips are open in a second
or two and take 200 MiB, 360 while they are opened. A row without sound is counted and named in the
fingerprint, and is left out; of more than one row in twenty the files are refused. Nothing is
decoded before a clip is asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.dataset import Incomplete
from passt_bench.data.decode import Encoded, length_at, read_header, read_waveform, read_whole
from passt_bench.data.hdf5_file import Columns, read_columns, read_sound
from passt_bench.data.names import Names, stem
from passt_bench.data.survey import Lost, Survey
from passt_bench.data.surveyed import SurveyedDataset
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.record import Fingerprint
from passt_bench.spec.recipe import DataSpec

SPLITS = {"train": "train", "valid": "validation", "test": "test"}  # key → name in a survey
_FOLD = re.compile(r"fold([1-9]\d?)")
_MOST_LOST = 0.05  # share of the rows that may hold no sound


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
        """Like `waveform`, from another sample on; all before it is decoded as well."""
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
    splits = _splits(files)
    paths = tuple(path for key in files for path in files[key])
    columns = [read_columns(path, len(classes), masked) for path in paths]
    for column in columns if not multi_label else ():
        _check_single(column)
    split_of = [code for code, key in enumerate(files) for _ in files[key]]
    kept = [_with_sound(column) for column in columns]
    raw = np.concatenate([_take(c.names, rows) for c, rows in zip(columns, kept, strict=True)])
    targets = np.concatenate(
        [_take(c.targets, rows) for c, rows in zip(columns, kept, strict=True)]
    )
    lengths = [len(rows) for rows in kept]
    names = Names(raw)
    survey = _survey(
        splits, columns, split_of, kept, names, _sources(columns, kept, raw, source_of)
    )
    packed: Targets = targets if masked else PackedTargets(targets, len(classes))
    dataset = Hdf5Dataset(
        fingerprint=Fingerprint(
            dataset=name,
            digest=_digest(name, classes, splits, columns, split_of, kept),
            expected=expected if expected is not None else sum(survey.expected),
            found=len(raw),
            classes=tuple(classes),
            multi_label=multi_label,
            notes=_notes(survey, columns, targets, masked),
        ),
        ids=names,
        targets=packed,
        sources=survey.sources,
        folds=tuple(int(split.split()[1]) for split in splits if split.startswith("fold ")),
        spec=spec,
        sampling_rate=sampling_rate,
        files=paths,
        file=np.repeat(np.arange(len(paths), dtype=np.int16), lengths),
        row=np.concatenate(kept).astype(np.int32),
        found=survey,
    )
    _check_lost(columns, kept, dataset)
    for fold in dataset.folds or (None,):
        dataset.split(fold)  # refuses too few clips now rather than in the midst of a study
    return dataset


def _survey(
    splits: tuple[str, ...],
    columns: list[Columns],
    split_of: list[int],
    kept: list[np.ndarray],
    names: Names,
    sources: Names,
) -> Survey:
    """The clips that have sound; lengths, rates and channels are not looked at."""
    clips = len(names)
    return Survey(
        root=columns[0].path.parent,
        splits=splits,
        expected=_listed(columns, split_of, len(splits)),
        names=names,
        split=np.repeat(np.array(split_of, dtype=np.int8), [len(rows) for rows in kept]),
        sources=sources,
        seconds=np.full(clips, np.nan, dtype=np.float32),
        rates=np.zeros(clips, dtype=np.int32),
        channels=np.zeros(clips, dtype=np.int16),
        lost=_lost(columns, split_of),
        sizes=_sizes(columns, kept),
    )


def _splits(files: Mapping[str, tuple[Path, ...]]) -> tuple[str, ...]:
    """Names of the splits, as a survey has them."""
    folds = [_FOLD.fullmatch(key) for key in files]
    named = all(key in SPLITS for key in files)
    if not any(files.values()) or not (named or all(folds)):
        raise ValueError(f"files of {', '.join(SPLITS)} or fold1, fold2, …, but got {list(files)}")
    return tuple(SPLITS[key] if named else f"fold {key.removeprefix('fold')}" for key in files)


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


def _check_lost(columns: list[Columns], kept: list[np.ndarray], left: Hdf5Dataset) -> None:
    """Refuses files of which too many rows are empty."""
    for column, rows in zip(columns, kept, strict=True):
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


def _sources(
    columns: list[Columns],
    kept: list[np.ndarray],
    raw: np.ndarray,
    source_of: Callable[[str], str],
) -> Names:
    """As the files tell, or from the names."""
    told = [
        _take(column.sources, rows)
        for column, rows in zip(columns, kept, strict=True)
        if column.sources is not None
    ]
    return Names(np.concatenate(told)) if len(told) == len(columns) else Names(raw, source_of)


def _take(part: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows, without a copy where they are all."""
    return part if len(rows) == len(part) else part[rows]


def _listed(columns: list[Columns], split_of: list[int], splits: int) -> tuple[int, ...]:
    rows = [len(column.names) for column in columns]
    return tuple(np.bincount(split_of, rows, minlength=splits).astype(int).tolist())


def _sizes(columns: list[Columns], kept: list[np.ndarray]) -> np.ndarray | None:
    """Bytes of each clip; None where a file does not tell."""
    known = [c.sizes[rows] for c, rows in zip(columns, kept, strict=True) if c.sizes is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def _lost(columns: list[Columns], split_of: list[int]) -> Lost:
    names: list[str] = []
    splits: list[int] = []
    for column, split in zip(columns, split_of, strict=True):
        if column.sizes is not None:
            empty = column.names[column.sizes == 0]
            names += [bytes(name).decode() for name in empty]
            splits += [split] * len(empty)
    return Lost(names, np.array(splits, dtype=np.int8), ["empty, 0 bytes"] * len(names))


def _digest(
    name: str,
    classes: Sequence[str],
    splits: tuple[str, ...],
    columns: list[Columns],
    split_of: list[int],
    kept: list[np.ndarray],
) -> str:
    """Of names, targets and sizes in the order of the files; of what is found, not of its use."""
    hasher = hashlib.sha256(repr(("hdf5", name, tuple(classes))).encode())
    for column, split, rows in zip(columns, split_of, kept, strict=True):
        hasher.update(f"\n{splits[split]} {len(rows)}\n".encode())
        width = column.names.dtype.itemsize
        hasher.update(f"{width} {column.targets.dtype} {column.targets.shape[1]}\n".encode())
        sizes = column.sizes if column.sizes is not None else np.full(len(column.names), -1)
        for part in (column.names, column.targets, sizes.astype("<i8"), column.sources):
            if part is not None:
                hasher.update(np.ascontiguousarray(_take(part, rows)).view(np.uint8).data)
    return hasher.hexdigest()[:16]


def _notes(
    survey: Survey, columns: list[Columns], targets: np.ndarray, masked: bool
) -> tuple[str, ...]:
    lost, unlabelled = survey.lost, 0
    if not masked:
        unlabelled = int((~targets.any(axis=1)).sum())
    some = ", ".join(lost.names[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    blind = [column.path.name for column in columns if column.sizes is None]
    found = (
        (len(lost), f"{len(lost)} rows without sound, left out: {some}"),
        (unlabelled, f"{unlabelled} clips have no label"),
        (len(blind), f"whether rows are empty is not known before reading: {', '.join(blind)}"),
    )
    return tuple(note for count, note in found if count)
