"""Opens data sets whose clips are in HDF5 files of the reference code's layout.

A row is a clip, with the bytes of its mp3 file. Three columns of N rows: ``audio_name``
(fixed-length bytes), ``mp3`` (variable-length uint8) and ``target`` (uint8, packed bits of the
classes; of partly labelled data float32, (N, 2C): likelihood of each class, then a mask of those
that are known). Source: ``audioset/prepare_scripts/create_h5pymp3_dataset.py`` there.

Targets stay packed, so that AudioSet's two million clips take about half a GiB. An empty row is
skipped, counted and named in the fingerprint; if more than one row in twenty is empty, the files
are refused. Nothing is decoded before a clip is requested; a piece of the bytes of some rows is
read for the digest. Columns that are stored in another way (chunks, text of any length) are
refused.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from passt_bench.data.audio import length_at, read_header, read_waveform
from passt_bench.data.clip_table import ClipTable, skipped_clips, stem
from passt_bench.data.dataset import MAX_SKIPPED, Incomplete, StoredDataset, stamps_of
from passt_bench.data.fingerprint import class_notes, digest_of, evenly_spaced, first_few, piece_of
from passt_bench.data.opening import Encoded
from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.files import GROWTH
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import DataSpec

KEYS = {"train": "train", "valid": "validation", "test": "test"}  # key → name in a clip table
NAME, SOUND, TARGET = "audio_name", "mp3", "target"


@dataclass(frozen=True, eq=False)
class Hdf5Dataset(StoredDataset):
    """Clips in HDF5 files, ordered by split."""

    files: tuple[Path, ...]
    file: np.ndarray  # (N,) index of each clip's file
    row: np.ndarray  # (N,) and its row there

    def sound(self, index: int) -> Encoded:
        """The bytes of a clip's audio file."""
        path, row = self.files[self.file[index]], int(self.row[index])
        self.check_unchanged(path, int(self.file[index]))
        source = f"{path} row {row} ({self.ids[index]})"
        try:
            data = _opened(path, os.getpid())[SOUND][row]
        except (OSError, KeyError) as error:
            raise _unreadable(source, error) from None
        return Encoded(data.tobytes(), source)

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
        return read_waveform(self.sound(index), self.sampling_rate)


def open_hdf5(
    spec: DataSpec,
    sampling_rate: int,
    *,
    name: str,
    files: Mapping[str, tuple[Path, ...]],
    classes: Sequence[str],
    masked: bool = False,
    expected: int | None = None,
    source_of: Callable[[str], str] = stem,
) -> Hdf5Dataset:
    """Opens a data set whose clips are in HDF5 files.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all clips are resampled.
        name: name of the data set.
        files: split (``train``, ``valid``, ``test``) → its files, in order.
        classes: names in the order of the targets' bits.
        masked: whether the targets are likelihoods and a mask (OpenMIC).
        expected: expected clips; None means as many as the files have rows.
        source_of: name of a clip → recording that it was cut from.

    Raises:
        InputError: files that cannot be read or do not fit the classes, too many empty rows,
            or fewer clips than the spec asks for.
    """
    splits = tuple(KEYS[key] for key in files)
    paths = [path for some in files.values() for path in some]
    codes = np.repeat(np.arange(len(files), dtype=np.int8), [len(some) for some in files.values()])
    stamps = stamps_of(paths)
    rows, labels, digested = [], [], list[str | np.ndarray]()
    for number, path in enumerate(paths):
        try:  # not the handle that `_opened` keeps: a fork may come after this
            with h5py.File(path, "r", locking=False) as file:
                columns, stored, parts = _columns(file, path, len(classes), masked)
        except OSError as error:
            raise _unreadable(path, error) from None
        rows.append(columns.assign(file=np.int16(number), split=codes[number]))
        labels.append(stored)
        digested += [f"\n{splits[codes[number]]} {len(stored)}\n", *parts]
    listed = pd.concat(rows, ignore_index=True)
    clips, empty = listed[listed["bytes"] > 0], listed[listed["bytes"] == 0]
    names, lacking = clips["name"].tolist(), empty[["name", "split"]].itertuples(index=False)
    table = ClipTable(  # lengths, rates and channels are not measured
        root=paths[0].parent,
        splits=splits,
        expected=tuple(np.bincount(listed["split"], minlength=len(splits)).tolist()),
        names=names,
        sources=[source_of(name) for name in names],
        clips=clips[["split", "bytes"]]
        .reset_index(drop=True)
        .assign(seconds=np.float32(np.nan), rate=np.int32(0), channels=np.int16(0)),
        skipped=skipped_clips([(*clip, "empty, 0 bytes") for clip in lacking]),
    )
    stored = np.concatenate(labels)
    targets: Targets = stored if masked else PackedTargets(stored, len(classes))
    dataset = Hdf5Dataset(
        fingerprint=Fingerprint(
            dataset=name,
            digest=digest_of(("hdf5", name, tuple(classes)), digested),
            expected=expected if expected is not None else sum(table.expected),
            found=len(table),
            classes=tuple(classes),
            multi_label=True,
            notes=_notes(table, targets, classes),
        ),
        ids=names,
        targets=targets,
        sources=table.sources,
        folds=(),
        spec=spec,
        sampling_rate=sampling_rate,
        files=tuple(paths),
        file=clips["file"].to_numpy(),
        row=clips["row"].to_numpy(),
        table=table,
        stamps=stamps,
    )
    for number, path in enumerate(paths):
        sizes = listed["bytes"][listed["file"] == number]
        without = int((sizes == 0).sum())
        if without > MAX_SKIPPED * len(sizes) or without == len(sizes):
            refusal = Incomplete(
                f"{without} of {len(sizes)} rows are empty",
                source=path,
                field=SOUND,
                remedy=f"At most {100 * MAX_SKIPPED:g} % may be empty; write the file again.",
            )
            refusal.dataset = dataset
            raise refusal
    dataset.check_splits()
    return dataset


def _notes(table: ClipTable, targets: Targets, classes: Sequence[str]) -> tuple[str, ...]:
    """Notes on the data for readers of a result."""
    notes, skipped = class_notes(targets, table.split, table.splits, classes), table.skipped
    if isinstance(targets, PackedTargets):
        unlabelled = int((~targets.packed.any(axis=1)).sum())
        notes = [*([f"{unlabelled} clips have no label"] if unlabelled else []), *notes]
    if len(skipped):
        first = first_few(skipped["name"].tolist())
        notes = [f"{len(skipped)} rows without sound, left out: {first}", *notes]
    return tuple(notes)


@lru_cache(maxsize=64)
def _opened(path: Path, process: int) -> h5py.File:
    """The file, opened once per process: a handle must not cross a fork."""
    return h5py.File(path, "r", locking=False)  # nobody writes it, and some disks lack locks


def _columns(
    file: h5py.File, path: Path, classes: int, masked: bool
) -> tuple[pd.DataFrame, np.ndarray, Sequence[str | np.ndarray]]:
    """Row, name and bytes of each clip; of those with sound the targets and parts of the digest.

    The parts are columns, and a piece of the sound of some rows; nothing is decoded.
    """
    for name in (NAME, SOUND, TARGET):
        if name not in file:
            layout = f"{NAME}, {SOUND} and {TARGET} as published, in place of {', '.join(file)}"
            raise _wrong(path, name, "no such column", None, layout)
        # A link or external storage would lead out of the file, and shapes may be of any size.
        kind = file.get(name, getclass=True, getlink=True)
        column: h5py.Dataset = file[name] if kind is h5py.HardLink else None
        own = isinstance(column, h5py.Dataset) and not (column.external or column.is_virtual)
        if not own or column.size * column.dtype.itemsize > GROWTH * path.stat().st_size:
            found = f"{column.dtype} {column.shape}" if own else kind.__name__
            raise _wrong(path, name, "not a column that is stored in this file", found)
    lengths = {name: len(file[name]) for name in (NAME, SOUND, TARGET)}
    if len(set(lengths.values())) != 1:
        raise _wrong(path, NAME, "the columns differ in length", lengths)
    names, text = _names(file[NAME], path)
    targets = (_masked_targets if masked else _packed_targets)(file[TARGET], classes, path)
    sound = file[SOUND]
    sizes = _sizes(sound, path)
    rows = np.flatnonzero(sizes)
    pieces = []
    for row in rows[evenly_spaced(len(rows))].tolist():
        try:
            pieces.append(piece_of(io.BytesIO(sound[row].tobytes())))
        except OSError as error:
            raise _unreadable(f"{path} row {row}", error) from None
    table = {"row": np.arange(len(names), dtype=np.int32), "bytes": sizes}
    names, targets, sizes = names[rows], targets[rows], sizes[rows]
    what = f"{names.dtype.itemsize} {targets.dtype} {targets.shape[1]}\n"
    digested: list[str | np.ndarray] = [what, names, targets, sizes.astype("<i8")]
    digested.append(np.array(pieces, dtype="<u8"))
    return pd.DataFrame(table).assign(name=pd.Series(text, dtype=object)), targets, digested


def _sizes(column: h5py.Dataset, path: Path) -> np.ndarray:
    """Bytes of each clip, (N,) int64, without reading the sound, which may be 150 GB.

    For each row the file has the length (4 bytes), the address of a heap in the file, and a number
    in it, one after the other.
    """
    kind = h5py.check_vlen_dtype(column.dtype)
    if kind != np.uint8 or column.ndim != 1 or column.chunks is not None:
        found = f"{kind or column.dtype}{' in chunks' if column.chunks else ''}"
        wanted = "variable-length uint8, not in chunks"
        raise _wrong(path, SOUND, "not the bytes of audio files", found, wanted)
    offset = column.id.get_offset()
    if offset is None:  # nothing was ever written
        return np.zeros(len(column), dtype=np.int64)
    address, _ = column.file.id.get_create_plist().get_sizes()
    reference = np.dtype([("size", "<u4"), ("heap", f"V{address}"), ("number", "<u4")])
    with path.open("rb") as file:
        references = np.fromfile(file, reference, len(column), offset=offset)
    if len(references) < len(column):
        raise _unreadable(path, EOFError("cut off"))
    return np.asarray(references["size"].astype(np.int64))


def _names(column: h5py.Dataset, path: Path) -> tuple[np.ndarray, list[str]]:
    """Names as they are stored, and as text."""
    if column.dtype.kind != "S" or column.ndim != 1:
        found = f"{column.dtype} {column.shape}"
        raise _wrong(path, NAME, "not names", found, "fixed-length bytes")
    names: np.ndarray = column[:]
    try:
        return names, [name.decode() for name in names.tolist()]
    except UnicodeDecodeError as error:
        raise _wrong(path, NAME, "a name that is not text in UTF-8", error.object) from None


def _packed_targets(column: h5py.Dataset, classes: int, path: Path) -> np.ndarray:
    width = -(-classes // 8)
    if column.dtype != np.uint8 or column.shape[1:] != (width,):
        problem, found = f"not packed bits of {classes} classes", f"{column.dtype} {column.shape}"
        raise _wrong(path, TARGET, problem, found, f"uint8 (N, {width}), from np.packbits")
    targets: np.ndarray = column[:]
    unused = (1 << (8 * width - classes)) - 1  # bits of the last byte
    wrong = np.flatnonzero(targets[:, -1] & unused)
    if len(wrong):
        problem = f"{len(wrong)} rows have labels beyond the last of {classes} classes"
        raise _wrong(path, TARGET, problem, f"row {wrong[0]}", "labels of the given classes")
    return targets


def _masked_targets(column: h5py.Dataset, classes: int, path: Path) -> np.ndarray:
    if column.dtype.kind != "f" or column.shape[1:] != (2 * classes,):
        problem = f"not likelihoods and a mask of {classes} classes"
        found, remedy = f"{column.dtype} {column.shape}", f"float32 (N, {2 * classes})"
        raise _wrong(path, TARGET, problem, found, f"{remedy}: Y_true, then Y_mask")
    likely, known = np.split(column[:].astype(np.float32), 2, axis=1)
    wrong = np.flatnonzero(~((known == 0) | (known == 1)).all(axis=1) | ~np.isfinite(likely).all(1))
    if len(wrong):
        problem = f"{len(wrong)} rows hold NaN, or a mask that is neither 0 nor 1"
        raise _wrong(path, TARGET, problem, f"row {wrong[0]}")
    return np.asarray(np.where(known == 1, likely > 0.5, np.nan).astype(np.float32))


def _unreadable(source: object, error: Exception) -> InputError:
    remedy = "Give the complete file, and the right to read it."
    return InputError(f"not readable as HDF5 ({error})", source=source, remedy=remedy)


def _wrong(
    path: Path, field: str, problem: str, value: object, wanted: str | None = None
) -> InputError:
    remedy = "Write the file again" + (f", with {wanted}." if wanted else ".")
    return InputError(problem, source=path, field=field, value=value, remedy=remedy)
