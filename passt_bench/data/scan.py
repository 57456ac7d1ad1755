"""Finds the audio files of a folder, and reads the header and the last sample of each once.

Threads do it, because most of the time is waiting for a disk or a server. The headers of a big
folder are cached by the path of the folder, with size and modification time of each file: when the
folder is opened again, only files in which either differs are read. ``PASST_BENCH_CACHE`` names
another folder for the cache, which can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pooch

from passt_bench.console import late_stage
from passt_bench.data.audio import SUFFIXES, read_header
from passt_bench.data.fingerprint import hash_of, piece_of
from passt_bench.errors import InputError, StorageError
from passt_bench.records.files import write_atomically

CACHE_VARIABLE = "PASST_BENCH_CACHE"
_VERSION = 6  # of the cache; raise when files are judged differently
_THREADS = 16
_CHUNK = 256  # files per task of a thread
_MIN_FILES_TO_CACHE = 500  # reading fewer again is faster than the cache
_ROW = np.dtype(
    [
        ("key", np.uint64),
        ("size", np.int64),
        ("changed", np.int64),
        ("frames", np.int64),
        ("rate", np.int32),
        ("channels", np.int16),
        ("piece", np.uint64),
    ]
)


def stems(name: str) -> tuple[str, ...]:
    """The name of a file's clip: the file name without suffix."""
    return (PurePosixPath(name).stem,)


def find_audio(
    root: Path,
    below: Sequence[str],
    wanted: Container[str],
    called: Callable[[str], Iterable[str]] = stems,
) -> dict[str, str]:
    """Finds the audio files of clips in one walk, whatever their suffixes and subfolders.

    Args:
        root: folder of the data set.
        below: folders relative to it with the files at any depth; ``""`` is the root itself.
        wanted: names of the clips.
        called: gives possible names of a file's clip; the first in ``wanted`` counts.

    Returns:
        Name of a clip → path relative to ``root``; of several files, the first by path.
    """
    found: dict[str, str] = {}
    for folder in below:
        for path in _walk(root, folder):
            if path.lower().endswith(SUFFIXES):
                names = called(path.rpartition("/")[2])
                clip = next((name for name in names if name in wanted), "")
                if clip:
                    found.setdefault(clip, path)
    return found


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Files at any depth, sorted, relative to the root; links to folders are followed once."""
    seen: set[str] = set()
    for where, inside, files in os.walk(f"{root}/{folder}".rstrip("/"), followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        inside.sort()
        prefix = where[len(str(root)) :].lstrip("/")
        for name in sorted(files):
            yield f"{prefix}/{name}" if prefix else name


@dataclass(frozen=True, eq=False)
class Scan:
    """Sizes and headers of files, in columns; zeros for unusable ones.

    Attributes:
        stamps: (files, 2) int64, bytes and modification time in ns.
        frames: (files,) int64, samples per channel.
        rates: (files,) int32, Hz.
        channels: (files,) int16.
        pieces: (files,) uint64, hash of a piece from the middle of each.
        problems: index of an unusable file → what is wrong with it.
    """

    stamps: np.ndarray
    frames: np.ndarray
    rates: np.ndarray
    channels: np.ndarray
    pieces: np.ndarray
    problems: dict[int, str]


def scan_files(root: Path, files: Sequence[str]) -> Scan:
    """Reads the header and the last sample of files.

    Args:
        root: a folder.
        files: relative to it; an empty name is a file that was not found.
    """
    cache = _Cache(root)
    rows = np.zeros(len(files), dtype=_ROW)
    problems: dict[int, str] = {}
    opened = 0
    starts = range(0, len(files), _CHUNK)
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        late_stage(f"Reading {len(files):,} files") as update,
    ):
        chunks = pool.map(lambda at: _scan_chunk(root, files[at : at + _CHUNK], cache), starts)
        for at, (part, wrong, read) in zip(starts, chunks, strict=True):
            rows[at : at + _CHUNK] = part
            problems |= {at + number: reason for number, reason in wrong.items()}
            opened += read
            update((at + len(part)) / len(files))
    if opened >= _MIN_FILES_TO_CACHE:
        cache.save(rows[rows["frames"] > 0])
    stamps = np.stack([rows["size"], rows["changed"]], axis=1)
    return Scan(stamps, rows["frames"], rows["rate"], rows["channels"], rows["piece"], problems)


def _scan_chunk(
    root: Path, files: Sequence[str], cache: _Cache
) -> tuple[np.ndarray, dict[int, str], int]:
    """Rows of some files, index of an unusable one → why, and how many were opened."""
    rows = np.zeros(len(files), dtype=_ROW)
    problems: dict[int, str] = {}
    for number, name in enumerate(files):
        try:
            key = hash_of(name.encode("utf-8", "surrogateescape"))
            rows[number] = (key, *_size_and_change(root, name), 0, 0, 0, 0)
        except InputError as error:
            problems[number] = error.problem
    opened = 0
    for number in np.flatnonzero(~cache.fill(rows)).tolist():
        if number in problems:
            continue
        opened += 1
        try:
            header = _header_and_piece(root / files[number])
        except InputError as error:
            problems[number] = error.problem
            rows[number] = np.zeros((), dtype=_ROW)
        else:
            rows[number] = (*rows[number].item()[:3], *header)
    return rows, problems, opened


def _size_and_change(root: Path, name: str) -> tuple[int, int]:
    """Size in bytes and modification time in ns."""
    if not name:
        raise InputError("no such file")
    try:
        found = os.stat(f"{root}/{name}")  # noqa: PTH116 - a Path for each of a million is slow
    except FileNotFoundError:
        raise InputError("no such file") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError("not a valid file name") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError("a folder, not a file")
    if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait
        raise InputError("not a regular file")
    return found.st_size, found.st_mtime_ns


def _header_and_piece(path: Path) -> tuple[int, int, int, int]:
    """Samples, rate, channels and piece of a file whose last sample can be read."""
    try:
        with path.open("rb") as file:
            piece = piece_of(file)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from None
    header = read_header(path, thorough=True)
    return header.samples, header.rate, header.channels, piece


class _Cache:
    """Rows of the usable files of a folder from an earlier scan, sorted by hash of their names.

    Unusable files are not in it: they are read again each time, since they may be replaced.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(f"{_VERSION} {root.resolve()}".encode()).hexdigest()[:16]
        named = os.environ.get(CACHE_VARIABLE)
        folder = Path(named) if named else Path(pooch.os_cache("passt_bench"))
        self._path = folder / "headers" / f"{name}.npy"
        try:
            rows = np.load(self._path, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # missing, or not readable
            rows = np.zeros(0, dtype=_ROW)
        self._rows = rows if rows.dtype == _ROW and rows.ndim == 1 else np.zeros(0, dtype=_ROW)
        self._keys = np.ascontiguousarray(self._rows["key"])

    def fill(self, rows: np.ndarray) -> np.ndarray:
        """Fills in the rows of unchanged files, and returns which these are."""
        if not len(self._rows):
            return np.zeros(len(rows), dtype=bool)
        at = np.minimum(self._keys.searchsorted(rows["key"]), len(self._rows) - 1)
        cached = self._rows[at]
        same: np.ndarray = np.logical_and.reduce(
            [cached[column] == rows[column] for column in ("key", "size", "changed")]
        )
        rows[same] = cached[same]
        return same

    def save(self, rows: np.ndarray) -> None:
        """Replaces the cached rows, if the folder can be written to."""
        content = io.BytesIO()
        np.save(content, np.sort(rows, order="key"))
        try:
            write_atomically(self._path, content.getvalue(), sync=False)
        except StorageError:
            return  # the next scan reads the files again
