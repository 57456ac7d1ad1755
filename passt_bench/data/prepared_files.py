"""Reads and writes the files of a folder of prepared clips, see `prepared`."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from passt_bench.data.targets import PackedTargets, Targets
from passt_bench.errors import InputError
from passt_bench.records.files import read_bytes, write_atomically
from passt_bench.records.run import Fingerprint
from passt_bench.spec.codec import from_json, to_plain

INDEX, WAVEFORMS, CLIPS = "prepared.json", "waveforms.i16", "clips.npz"
SPLITS = ("train", "test", "validation")
SCHEMA = 1
_BLOCK = 1 << 22  # bytes read at a time
_COLUMNS = ("offsets", "names", "sources", "split", "targets")


@dataclass(frozen=True)
class Index:
    """The contents of a prepared folder.

    Attributes:
        form: 16-bit samples, or HDF5 files with mp3 inside.
        source: fingerprint of the data that it was made from.
        sampling_rate: Hz of the stored clips.
        resampler: resampler for files of another rate.
        seconds: length that longer clips were cut to; None if none was cut.
        cut: number of clips that were cut.
        clips: number of clips.
        samples: number of samples.
        splits: names of the splits by code: as in `SPLITS`, or ``fold 1``, ….
        expected: clips of each split before any was skipped.
        clipped: samples beyond ±1, which are stored as ±1.
        clipped_clips: names of the clips with such samples.
        lost: clips that could not be decoded and were skipped: name, code of the split, reason.
        checksum: SHA-256 of the stored samples, or of the mp3 files one after the other.
        masked: whether some labels are unknown.
        files: split → names of its HDF5 files; empty in the other form.
    """

    form: Literal["int16", "hdf5"]
    source: Fingerprint
    sampling_rate: int
    resampler: str
    seconds: float | None
    cut: int
    clips: int
    samples: int
    splits: tuple[str, ...]
    expected: tuple[int, ...]
    clipped: int
    clipped_clips: tuple[str, ...]
    lost: tuple[tuple[str, int, str], ...]
    checksum: str
    masked: bool = False
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    schema: int = SCHEMA


def write_clips(
    folder: Path,
    offsets: np.ndarray,
    names: list[str],
    sources: list[str],
    split: np.ndarray,
    targets: Targets,
) -> None:
    """Writes the columns; the same columns give the same bytes."""
    columns = {
        "offsets": offsets.astype("<i8"),
        "names": _encoded(names),
        "sources": _encoded(sources),
        "split": split.astype(np.int8),
        "targets": targets.packed if isinstance(targets, PackedTargets) else targets,
    }
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, column in columns.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, np.ascontiguousarray(column), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), part.getvalue())  # dated 1980
    write_atomically(folder / CLIPS, content.getvalue())


def _encoded(texts: list[str]) -> np.ndarray:
    return np.array([text.encode() for text in texts], dtype=np.bytes_)


def write_index(folder: Path, index: Index) -> None:
    """Writes the index, which makes a folder a prepared one."""
    plain = to_plain(index)
    text = json.dumps(plain, sort_keys=True, allow_nan=False, indent=1)
    write_atomically(folder / INDEX, f"{text}\n".encode())


def read_index(folder: Path) -> Index:
    """Reads the index of a prepared folder.

    Raises:
        InputError: it cannot be read, or has a newer schema.
    """
    path = folder / INDEX
    try:
        index = from_json(Index, read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise broken(path, f"not an index of prepared clips ({first['msg']})") from None
    if index.schema > SCHEMA:
        raise broken(path, f"written by a newer version (schema {index.schema})")
    return index


def read_clips(folder: Path, index: Index) -> dict[str, np.ndarray]:
    """The columns that `write_clips` wrote.

    Raises:
        InputError: they cannot be read, or do not fit the index or the samples.
    """
    path = folder / CLIPS
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            columns = {name: archive[name] for name in _COLUMNS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise broken(path, f"not readable ({error})") from None
    offsets = columns["offsets"]
    rows = [len(columns[name]) for name in _COLUMNS[1:]]
    if rows != [index.clips] * len(rows) or len(offsets) != index.clips + 1:
        raise broken(path, f"{rows[0]} clips, but the index states {index.clips}")
    try:
        size = (folder / WAVEFORMS).stat().st_size
    except OSError as error:
        raise broken(folder / WAVEFORMS, f"cannot be read ({error.strerror})") from None
    if size != 2 * index.samples or offsets[-1] != index.samples:
        raise broken(folder / WAVEFORMS, f"{size} bytes, but the index states {2 * index.samples}")
    if offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise broken(path, "clips that end before they begin")
    return columns


def check_samples(folder: Path, index: Index, progress: Callable[[float], None]) -> None:
    """Compares the checksum of all samples with the index.

    Args:
        folder: folder with 16-bit samples.
        index: its index.
        progress: called with the share done.

    Raises:
        InputError: they differ, or cannot be read.
    """
    path, hasher, done = folder / WAVEFORMS, hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while data := file.read(_BLOCK):
                hasher.update(data)
                done += len(data)
                progress(min(1.0, done / max(1, 2 * index.samples)))
    except OSError as error:
        raise broken(path, f"cannot be read ({error.strerror})") from None
    if hasher.hexdigest() != index.checksum:
        raise broken(path, "the checksum differs: the samples were changed")


def broken(path: Path, problem: str) -> InputError:
    """The error that names a file of a prepared folder, its problem and the remedy."""
    remedy = "Remove the folder, and prepare the data set again."
    return InputError(problem, source=path, remedy=remedy)
