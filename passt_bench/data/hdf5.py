"""Opens data sets whose clips are in HDF5 files of the reference code's layout, see `hdf5_file`.

Targets stay packed and names stay bytes, so that AudioSet's two million clips open in a second
or two and take 210 MiB, 430 while they are opened. An empty row is skipped, counted and named in
the fingerprint; if more than one row in twenty is empty, the files are refused. Nothing is decoded
before a clip is requested; a piece of the bytes of some rows is read for the digest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from passt_bench.data.audio import Encoded, length_at, read_header, read_waveform, read_whole
from passt_bench.data.clip_table import ClipTable, Names, SkippedClips, stem
from passt_bench.data.dataset import MAX_SKIPPED, Incomplete, StoredDataset, stamps_of
from passt_bench.data.fingerprint import digest_of, lacking_classes, some, spread_over
from passt_bench.data.hdf5_file import Columns, read_columns, read_pieces, read_sound
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

SPLITS = {"train": "train", "valid": "validation", "test": "test"}  # key → name in a clip table
_FOLD = re.compile(r"fold([1-9]\d?)")


@dataclass(frozen=True, eq=False)
class Hdf5Dataset(StoredDataset):
    """Clips in HDF5 files, ordered by split."""

    files: tuple[Path, ...]
    file: np.ndarray  # (N,) index of each clip's file
    row: np.ndarray  # (N,) and its row there

    def sound(self, index: int) -> Encoded:
        """The bytes of a clip's audio file."""
        file = int(self.file[index])
        self.check_unchanged(self.files[file], file)
        return read_sound(self.files[file], int(self.row[index]), self.ids[index])

    def length(self, index: int) -> int:
        """Samples of the whole clip at the sampling rate, according to its header."""
        return length_at(read_header(self.sound(index)), self.sampling_rate)

    def excerpt(self, index: int, start: int) -> np.ndarray:
        """Like `waveform`, but beginning at sample ``start``.

        Everything before it is decoded as well: otherwise decoder and resampler would round the
        last bit of a sample differently.
        """
        end = start + self.samples
        return read_waveform(self.sound(index), self.sampling_rate, end)[start:]

    def whole(self, index: int) -> np.ndarray:
        """Mono float32 samples of the whole clip."""
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
    """Opens a data set whose clips are in HDF5 files.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        name: name of the data set.
        files: split (``train``, ``valid``, ``test``; or ``fold1``, ``fold2``, …) → its files, in
            order.
        classes: names in the order of the targets' bits.
        masked: whether the targets are likelihoods and a mask (OpenMIC).
        multi_label: whether a clip may have several classes, or none; else it has exactly one.
        expected: expected clips; None means as many as the files have rows.
        source_of: name of a clip → recording that it was cut from, if the files do not state it.

    Raises:
        InputError: files that cannot be read or do not fit the classes, too many empty rows,
            or fewer clips than the spec asks for.
    """
    splits = _split_names(files)
    paths = [path for some in files.values() for path in some]
    codes = np.repeat(np.arange(len(files), dtype=np.int8), [len(some) for some in files.values()])
    stamps = stamps_of(paths)
    single = not multi_label
    parts = [read_columns(path, len(classes), masked=masked, single=single) for path in paths]
    table = _clip_table(splits, codes, parts, source_of)
    stored = np.concatenate([part.targets for part in parts])
    targets: Targets = stored if masked else PackedTargets(stored, len(classes))
    counts = [len(part.rows) for part in parts]
    dataset = Hdf5Dataset(
        fingerprint=Fingerprint(
            dataset=name,
            digest=digest_of(("hdf5", name, tuple(classes)), _digested(splits, codes, parts)),
            expected=expected if expected is not None else sum(table.expected),
            found=len(table),
            classes=tuple(classes),
            multi_label=multi_label,
            notes=_notes(parts, table, targets, classes),
        ),
        ids=table.names,
        targets=targets,
        sources=table.sources,
        folds=tuple(int(name.split()[1]) for name in splits if name.startswith("fold ")),
        spec=spec,
        sampling_rate=sampling_rate,
        files=tuple(paths),
        file=np.repeat(np.arange(len(parts), dtype=np.int16), counts),
        row=np.concatenate([part.rows for part in parts]).astype(np.int32),
        table=table,
        stamps=stamps,
    )
    _check_skipped(parts, dataset)
    dataset.check_splits()
    return dataset


def _split_names(files: Mapping[str, tuple[Path, ...]]) -> tuple[str, ...]:
    """Names of the splits, as in a clip table."""
    folds = [_FOLD.fullmatch(key) for key in files]
    named = all(key in SPLITS for key in files)
    if not any(files.values()) or not (named or all(folds)):
        raise ValueError(f"files of {', '.join(SPLITS)} or fold1, fold2, …, but got {list(files)}")
    return tuple(SPLITS[key] if named else f"fold {key.removeprefix('fold')}" for key in files)


def _joined(columns: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """A column of all files; None if a file does not have it."""
    known = [column for column in columns if column is not None]
    return np.concatenate(known) if len(known) == len(columns) else None


def _clip_table(
    splits: tuple[str, ...],
    codes: np.ndarray,
    parts: Sequence[Columns],
    source_of: Callable[[str], str],
) -> ClipTable:
    """The rows that are not empty; lengths, rates and channels are not measured."""
    raw = np.concatenate([part.names for part in parts])
    sources = _joined([part.sources for part in parts])
    skipped = [name for part in parts for name in part.empty]
    usable = [len(part.rows) for part in parts]
    empty = [len(part.empty) for part in parts]
    listed = np.bincount(codes, np.add(usable, empty), minlength=len(splits)).astype(int)
    return ClipTable(
        root=parts[0].path.parent,
        splits=splits,
        expected=tuple(listed.tolist()),
        names=Names(raw),
        split=np.repeat(codes, usable),
        sources=Names(raw, source_of) if sources is None else Names(sources),
        seconds=np.full(len(raw), np.nan, dtype=np.float32),
        rates=np.zeros(len(raw), dtype=np.int32),
        channels=np.zeros(len(raw), dtype=np.int16),
        skipped=SkippedClips(skipped, np.repeat(codes, empty), ["empty, 0 bytes"] * len(skipped)),
        sizes=_joined([part.sizes for part in parts]),
    )


def _digested(
    splits: Sequence[str], codes: np.ndarray, parts: Sequence[Columns]
) -> Iterator[str | np.ndarray]:
    """The parts of the digest: columns, and a piece of the sound of some rows of each file."""
    for code, part in zip(codes, parts, strict=True):
        count = len(part.rows)
        yield f"\n{splits[code]} {count}\n"
        yield f"{part.names.dtype.itemsize} {part.targets.dtype} {part.targets.shape[1]}\n"
        sizes = np.full(count, -1) if part.sizes is None else part.sizes
        yield from (part.names, part.targets, sizes.astype("<i8"))
        if part.sources is not None:
            yield part.sources
        yield read_pieces(part.path, part.rows[spread_over(count)]).astype("<u8")


def _notes(
    parts: Sequence[Columns], table: ClipTable, targets: Targets, classes: Sequence[str]
) -> tuple[str, ...]:
    """Notes on the data for readers of a result."""
    skipped, unlabelled = table.skipped, 0
    if isinstance(targets, PackedTargets):
        unlabelled = int((~targets.packed.any(axis=1)).sum())
    unsized = [part.path.name for part in parts if part.sizes is None]
    first = some(skipped.names[:5], skipped)
    notes = (
        (len(skipped), f"{len(skipped)} rows without sound, left out: {first}"),
        (unlabelled, f"{unlabelled} clips have no label"),
        (len(unsized), f"whether rows are empty is not known before reading: {', '.join(unsized)}"),
    )
    return (
        *(note for count, note in notes if count),
        *lacking_classes(targets, table.split, table.splits, classes),
    )


def _check_skipped(parts: Sequence[Columns], usable: Hdf5Dataset) -> None:
    """Refuses files in which too many rows are empty."""
    for part in parts:
        rows = len(part.rows) + len(part.empty)
        if len(part.empty) > MAX_SKIPPED * rows or not len(part.rows):
            refusal = Incomplete(
                f"{len(part.empty)} of {rows} rows are empty",
                source=part.path,
                field="mp3",
                remedy=f"At most {100 * MAX_SKIPPED:g} % may be empty; write the file again.",
            )
            refusal.dataset = usable
            raise refusal
