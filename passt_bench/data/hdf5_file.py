"""Reads and writes HDF5 files in the layout of the reference code.

A row is a clip, with the bytes of its mp3 file. Three columns of N rows: ``audio_name``
(fixed-length bytes), ``mp3`` (variable-length uint8) and ``target`` (uint8, packed bits of the
classes; of partly labelled data float32, (N, 2C): likelihood of each class, then a mask of those
that are known). Source: ``audioset/prepare_scripts/create_h5pymp3_dataset.py`` there.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import soundfile

from passt_bench.data.audio import Encoded
from passt_bench.data.fingerprint import piece_of
from passt_bench.errors import InputError
from passt_bench.records.files import storing

NAME, SOUND, TARGET = "audio_name", "mp3", "target"
SOURCE = "source"  # fixed-length bytes; not in published files
_ROWS = 1 << 16  # read at a time
_TRIED = 16  # rows whose bytes are counted to verify the stored sizes
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# LAME's level for constant 128 kbit/s from 32 kHz on, as ffmpeg made the published files.
_LEVEL = 2 / 3


@dataclass(frozen=True)
class Columns:
    """The columns of a file, without the sound, of the N rows that are not empty.

    Attributes:
        path: the file.
        rows: (N,) numbers of the rows in the file.
        names: (N,) fixed-length bytes, each valid UTF-8.
        targets: (N, ceil(C / 8)) uint8, packed; with a mask (N, C) float32, NaN where unknown.
        sizes: (N,) bytes of sound; None if the whole file would have to be read.
        sources: (N,) fixed-length bytes, recordings; None if the file has no such column.
        empty: names of the empty rows, as far as ``sizes`` are known.
    """

    path: Path
    rows: np.ndarray
    names: np.ndarray
    targets: np.ndarray
    sizes: np.ndarray | None
    sources: np.ndarray | None
    empty: list[str]


def read_columns(
    path: Path, classes: int, *, masked: bool = False, single: bool = False
) -> Columns:
    """Names, targets and sizes of the rows that are not empty; nothing is decoded.

    Args:
        path: an HDF5 file.
        classes: number of classes that its targets must have.
        masked: whether the targets are probabilities and a mask.
        single: whether each row has exactly one class.

    Raises:
        InputError: the file cannot be read, is cut off, lacks a column, or has targets of another
            width, type or number of classes, or names that are not text.
    """
    with reading(path) as file:
        columns = {name: _column(file, name, path) for name in (NAME, SOUND, TARGET)}
        if SOURCE in file:
            columns[SOURCE] = _column(file, SOURCE, path)
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) != 1:
            raise _wrong(path, NAME, "the columns differ in length", lengths)
        kind = h5py.check_vlen_dtype(columns[SOUND].dtype)
        if kind != np.uint8:
            found, remedy = str(kind or columns[SOUND].dtype), "variable-length uint8"
            raise _wrong(path, SOUND, "not the bytes of audio files", found, remedy)
        names = _names(columns[NAME], path)
        sources = _names(columns[SOURCE], path) if SOURCE in columns else None
        targets = (_masked_targets if masked else _packed_targets)(columns[TARGET], classes, path)
        labels = np.bitwise_count(targets).sum(axis=1) if single else np.ones(1)
        wrong = np.flatnonzero(labels != 1)
        if len(wrong):
            raise InputError(
                f"{len(wrong)} rows do not have exactly one class",
                source=path,
                field=TARGET,
                value=f"row {wrong[0]} has {labels[wrong[0]]}",
                remedy="Write the file again: a clip of this data set has one class.",
            )
        sizes = _sizes(columns[SOUND], path)
    rows, empty = np.arange(len(names)), []
    if sizes is not None and not sizes.all():
        rows, empty = np.flatnonzero(sizes), names[sizes == 0].tolist()
        names, targets, sizes = names[rows], targets[rows], sizes[rows]
        sources = None if sources is None else sources[rows]
    return Columns(path, rows, names, targets, sizes, sources, [name.decode() for name in empty])


def read_sound(path: Path, row: int, name: str) -> Encoded:
    """The bytes of a clip's audio file.

    Raises:
        InputError: the file cannot be read there.
    """
    source = f"{path} row {row} ({name})"
    try:
        data = _opened(path, os.getpid())[SOUND][row]
    except (OSError, KeyError) as error:
        raise _unreadable(source, error) from None
    return Encoded(data.tobytes(), source)


def read_pieces(path: Path, rows: np.ndarray) -> np.ndarray:
    """Hashes of a piece from the middle of each row's sound, see `piece_of`; (rows,) uint64.

    Args:
        path: an HDF5 file.
        rows: numbers of the rows.

    Raises:
        InputError: the file cannot be read there.
    """
    pieces = np.empty(len(rows), dtype=np.uint64)
    with reading(path) as file:  # not the handle that `_opened` keeps: a fork may come after this
        column = file[SOUND]
        for place, row in enumerate(rows.tolist()):
            try:
                data = column[row]
            except OSError as error:
                raise _unreadable(f"{path} row {row}", error) from None
            pieces[place] = piece_of(io.BytesIO(data.tobytes()))
    return pieces


@lru_cache(maxsize=64)
def _opened(path: Path, process: int) -> h5py.File:
    """The file, opened once per process: a handle must not cross a fork."""
    return h5py.File(path, "r", locking=False)  # nobody writes it, and some disks lack locks


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Opens the file for the duration of the block.

    Raises:
        InputError: it is missing, cut off, not an HDF5 file, or may not be read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except OSError as error:
        raise _unreadable(path, error) from None


def _column(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        layout = f"{NAME}, {SOUND} and {TARGET} as published, in place of {', '.join(file) or '-'}"
        raise _wrong(path, name, "no such column", None, layout)
    return found


def _names(column: h5py.Dataset, path: Path) -> np.ndarray:
    field = column.name[1:]
    if column.dtype.kind not in "SO" or column.ndim != 1:  # fixed-length bytes, or text
        found = f"{column.dtype} {column.shape}"
        raise _wrong(path, field, "not names", found, "fixed-length bytes")
    raw = column[:]
    names: np.ndarray = raw if raw.dtype.kind == "S" else np.array(raw.tolist(), dtype=np.bytes_)
    width = max(1, names.dtype.itemsize)
    letters = np.frombuffer(names.tobytes(), dtype=np.uint8).reshape(len(names), width)
    for row in np.flatnonzero((letters >= 128).any(axis=1)):
        try:
            bytes(names[row]).decode()
        except UnicodeDecodeError:
            problem = f"row {row} has a name that is not text in UTF-8"
            raise _wrong(path, field, problem, bytes(names[row])) from None
    return names


def _packed_targets(column: h5py.Dataset, classes: int, path: Path) -> np.ndarray:
    width = -(-classes // 8)
    if column.dtype != np.uint8 or column.shape[1:] != (width,):
        problem, found = f"not packed bits of {classes} classes", f"{column.dtype} {column.shape}"
        raise _wrong(path, TARGET, problem, found, f"uint8 (N, {width}), from np.packbits")
    targets = np.empty(column.shape, dtype=np.uint8)
    for start in range(0, len(targets), _ROWS):
        targets[start : start + _ROWS] = column[start : start + _ROWS]
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
    targets: np.ndarray = np.where(known == 1, likely > 0.5, np.nan).astype(np.float32)
    return targets


def _unreadable(source: object, error: Exception) -> InputError:
    return InputError(
        f"not readable as HDF5 ({error})",
        source=source,
        remedy="Give the complete file, and the right to read it.",
    )


def _wrong(
    path: Path, field: str, problem: str, value: object, wanted: str | None = None
) -> InputError:
    remedy = "Write the file again" + (f", with {wanted}." if wanted else ".")
    return InputError(problem, source=path, field=field, value=value, remedy=remedy)


def _sizes(column: h5py.Dataset, path: Path) -> np.ndarray | None:
    """Bytes of each clip, (N,) int64; None if the whole file would have to be read.

    Two million rows hold 150 GB of sound. The file keeps a reference of 16 bytes for each: the
    length (4 bytes), the address of a heap in the file, and a number in it.
    """
    found = _references(column, path)
    if found is None or len(found) != len(column):
        return None
    sizes = found["size"].astype(np.int64)
    tried = np.linspace(0, len(sizes) - 1, min(_TRIED, len(sizes))).astype(int)
    if any(len(column[int(row)]) != sizes[row] for row in tried):
        return None
    return sizes


def _references(column: h5py.Dataset, path: Path) -> np.ndarray | None:
    """The references of all rows; None if they are compressed or of an unknown form."""
    address, _ = column.file.id.get_create_plist().get_sizes()
    kind = np.dtype([("size", "<u4"), ("heap", f"V{address}"), ("number", "<u4")])
    places = []  # (first row, offset in the file, rows)
    if column.chunks is None:
        offset = column.id.get_offset()
        if offset is None:  # nothing was ever written
            return np.zeros(len(column), dtype=kind)
        places.append((0, offset, len(column)))
    elif column.id.get_create_plist().get_nfilters() == 0:
        for number in range(column.id.get_num_chunks()):
            chunk = column.id.get_chunk_info(number)
            first = chunk.chunk_offset[0]
            places.append((first, chunk.byte_offset, min(column.chunks[0], len(column) - first)))
    else:
        return None
    found = np.zeros(len(column), dtype=kind)
    with path.open("rb") as file:
        for first, offset, rows in places:
            file.seek(offset)
            data = file.read(rows * kind.itemsize)
            if len(data) < rows * kind.itemsize:
                return None
            found[first : first + rows] = np.frombuffer(data, dtype=kind)
    return found


def encode_mp3(wave: np.ndarray, sampling_rate: int) -> bytes:
    """A mono mp3 file: constant bit rate, 128 kbit/s from 32 kHz on, less below.

    Args:
        wave: float32 within ±1.
        sampling_rate: one of `MP3_RATES`.
    """
    file = io.BytesIO()
    soundfile.write(
        file,
        wave,
        sampling_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=_LEVEL,
    )
    return file.getvalue()


def check_mp3_rate(sampling_rate: int) -> None:
    """Refuses a sampling rate that mp3 does not have.

    Raises:
        InputError: mp3 does not have the rate.
    """
    if sampling_rate not in MP3_RATES:
        raise InputError(
            "mp3 has no such sampling rate",
            field="--rate",
            value=sampling_rate,
            remedy=f"Known: {', '.join(map(str, MP3_RATES))}.",
        )


def write_hdf5(
    path: Path,
    names: list[str],
    sources: list[str],
    sounds: Iterable[bytes],
    target: np.ndarray,
) -> None:
    """Writes a file completely or not at all.

    Args:
        path: the file.
        names: names of the clips.
        sources: the recordings they were cut from, a column that published files do not have.
        sounds: the bytes of their mp3 files.
        target: (N, ceil(classes / 8)) uint8, or (N, 2 classes) float32.

    Raises:
        StorageError: the disk is full, or nothing can be written there.
    """
    temporary = path.with_name(f".{path.name}.part")
    with storing(path):
        with h5py.File(temporary, "w") as file:
            file[NAME] = _encoded(names)
            file[SOURCE] = _encoded(sources)
            file[TARGET] = target
            column = file.create_dataset(SOUND, (len(names),), h5py.vlen_dtype(np.uint8))
            for row, sound in enumerate(sounds):
                column[row] = np.frombuffer(sound, dtype=np.uint8)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def masked_target(targets: np.ndarray) -> np.ndarray:
    """(N, 2C) float32 as OpenMIC has it: likelihoods (0.5 where unknown), then the mask."""
    known = ~np.isnan(targets)
    return np.concatenate([np.where(known, targets, 0.5), known], axis=1).astype(np.float32)


def _encoded(texts: list[str]) -> np.ndarray:
    raw = [text.encode() for text in texts]
    return np.array(raw, dtype=f"S{max(20, max(map(len, raw), default=0))}")
