"""Finds the audio files of a folder, and looks at each once: is it whole, does it hold sound?

Threads look, for most of the time goes into waiting for a disk or a server. What was found of a big
folder is kept in the user's cache, file by file with size and time of change, so that whoever opens
it again asks for these two alone.
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
from passt_bench.data.audio import read_header
from passt_bench.data.fingerprint import hash_of, piece_of
from passt_bench.errors import InputError, StorageError
from passt_bench.records.files import write_atomically

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"),
)
CACHE_VARIABLE = "PASST_BENCH_CACHE"
_VERSION = 5  # raise when a file is judged in another way
_THREADS = 16
_CHUNK = 256  # files a thread looks at in one go
_WORTH = 500  # files newly looked at; fewer are looked at again sooner than read from an index
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
_READ = ("frames", "rate", "channels", "piece")  # columns that need the file to be opened


def stems(name: str) -> tuple[str, ...]:
    """What a clip may be called by the name of its file: that without its ending."""
    return (PurePosixPath(name).stem,)


def find_audio(
    root: Path,
    below: Sequence[str],
    wanted: Container[str],
    called: Callable[[str], Iterable[str]] = stems,
) -> dict[str, str]:
    """The audio files of clips, found by one walk: endings and folders between do not count.

    Args:
        root: of the data set.
        below: folders relative to it in which the files lie at any depth; ``""`` is all of it.
        wanted: names of the clips.
        called: what a file's clip may be called; the first that is wanted counts.

    Returns:
        Name of a clip → path relative to ``root``; of two files the first by path.
    """
    found: dict[str, str] = {}
    for folder in below:
        for path in _walk(root, folder):
            if path.lower().endswith(SUFFIXES):
                clip = next(
                    (name for name in called(path.rpartition("/")[2]) if name in wanted), ""
                )
                if clip:
                    found.setdefault(clip, path)
    return found


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Files at any depth, sorted, relative to the root; links to folders are followed, once."""
    seen: set[str] = set()
    start = f"{root}/{folder}".rstrip("/")
    for where, inside, files in os.walk(start, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        inside.sort()
        prefix = where[len(str(root)) :].lstrip("/")
        for name in sorted(files):
            yield f"{prefix}/{name}" if prefix else name


def given_folder(data: str, root: Path | None, inside: str) -> Path:
    """The folder of a data set.

    Args:
        data: registered name.
        root: as it was given, or None.
        inside: what must be in it, in words.

    Raises:
        InputError: none was given, or it is no folder.
    """
    if root is None:
        raise InputError(
            "needs the folder of the recordings",
            field="data.name",
            value=data,
            remedy=f"Give --data {data}=DIR with {inside} inside.",
        )
    if not root.is_dir():
        raise InputError(
            "no such folder",
            source=root,
            field=f"--data {data}",
            remedy=f"Give the folder with {inside} inside.",
        )
    return root


def hdf5_files(root: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Those of the HDF5 files that are there, in a folder or in its ``mp3/``."""
    places = [root / folder / name for name in names for folder in ("", "mp3")]
    found = {path.name: path for path in reversed(places) if path.is_file()}
    return tuple(found[name] for name in names if name in found)


@dataclass(frozen=True, eq=False)
class Scan:
    """What was found of files, in columns.

    Attributes:
        sizes: (files,) int64, bytes; 0 for lost ones.
        frames: (files,) int64, samples of each channel; 0 for lost ones.
        rates: (files,) int32, Hz; 0 for lost ones.
        channels: (files,) int16; 0 for lost ones.
        pieces: (files,) uint64, hash of bytes in the middle of each; 0 for lost ones.
        lost: number of a file → what is wrong with it.
    """

    sizes: np.ndarray
    frames: np.ndarray
    rates: np.ndarray
    channels: np.ndarray
    pieces: np.ndarray
    lost: dict[int, str]

    def seconds(self) -> np.ndarray:
        """(files,) float64, length of each; 0 for lost ones."""
        return self.frames / np.maximum(self.rates, 1)


def cache_folder() -> Path:
    """Where indices lie: ``PASST_BENCH_CACHE``, or the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(pooch.os_cache("passt_bench"))


def scan_files(root: Path, files: Sequence[str]) -> Scan:
    """Headers and ends of files.

    Args:
        root: a folder.
        files: relative to it; an empty name is a file that was looked for and not found.
    """
    known = _Index(root)
    rows = np.zeros(len(files), dtype=_ROW)
    lost: dict[int, str] = {}
    looked = 0
    starts = range(0, len(files), _CHUNK)
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        late_stage(f"Looking at {len(files):,} files") as update,
    ):
        parts = pool.map(lambda at: _look_at(root, files[at : at + _CHUNK], known), starts)
        for at, part in zip(starts, parts, strict=True):
            rows[at : at + _CHUNK] = part.rows
            lost |= {at + number: reason for number, reason in part.lost.items()}
            looked += part.looked
            update((at + len(part.rows)) / len(files))
    if looked >= _WORTH:
        known.keep(rows[rows["frames"] > 0])
    return Scan(rows["size"], rows["frames"], rows["rate"], rows["channels"], rows["piece"], lost)


@dataclass(frozen=True, eq=False)
class _Part:
    rows: np.ndarray
    lost: dict[int, str]
    looked: int  # files that were opened


def _look_at(root: Path, files: Sequence[str], known: _Index) -> _Part:
    rows = np.zeros(len(files), dtype=_ROW)
    lost: dict[int, str] = {}
    keys, stats = [], []
    for number, name in enumerate(files):
        keys.append(_key(name))
        try:
            stats.append(_stat(root, name))
        except InputError as error:
            lost[number] = error.problem
            stats.append((0, 0))
    rows["key"] = keys
    rows["size"], rows["changed"] = np.array(stats, dtype=np.int64).T
    same = known.fill(rows)
    looked = 0
    for number in np.flatnonzero(~same).tolist():
        if number in lost:
            rows[number] = np.zeros((), dtype=_ROW)
            continue
        looked += 1
        try:
            header = _header(root / files[number])
        except InputError as error:
            lost[number] = error.problem
            rows[number] = np.zeros((), dtype=_ROW)
        else:
            for column, value in zip(_READ, header, strict=True):
                rows[number][column] = value
    return _Part(rows, lost, looked)


def _stat(root: Path, name: str) -> tuple[int, int]:
    """Size in bytes and time of change in ns."""
    if not name:
        raise InputError("no such file")
    try:
        found = os.stat(f"{root}/{name}")  # noqa: PTH116 - a Path for each of a million is slow
    except FileNotFoundError:
        raise InputError("no such file") from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise InputError("no possible name of a file") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError("a folder, and no file")
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        raise InputError("no regular file")
    return found.st_size, found.st_mtime_ns


def _header(path: Path) -> tuple[int, int, int, int]:
    """Frames, rate, channels and piece of a file whose last sample can be read."""
    try:
        with path.open("rb") as raw:
            piece = piece_of(raw)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})") from None
    header = read_header(path, to_end=True)
    return header.frames, header.rate, header.channels, piece


def _key(name: str) -> int:
    return hash_of(name.encode("utf-8", "surrogateescape"))


class _Index:
    """What was found of the files of a folder before, by the hash of their names.

    Lost files do not stand in it: they are looked at anew, for they may come back.
    """

    def __init__(self, root: Path) -> None:
        name = hashlib.sha256(f"{_VERSION} {root.resolve()}".encode()).hexdigest()[:16]
        self._path = cache_folder() / "headers" / f"{name}.npy"
        try:
            rows = np.load(self._path, allow_pickle=False)
        except (OSError, ValueError, EOFError):  # none there, or none that can be read
            rows = np.zeros(0, dtype=_ROW)
        self._rows = rows if rows.dtype == _ROW and rows.ndim == 1 else np.zeros(0, dtype=_ROW)
        self._keys = np.ascontiguousarray(self._rows["key"])

    def fill(self, rows: np.ndarray) -> np.ndarray:
        """Completes the rows of files that are unchanged, and says which these are."""
        if not len(self._rows):
            return np.zeros(len(rows), dtype=bool)
        at = np.minimum(self._keys.searchsorted(rows["key"]), len(self._rows) - 1)
        found = self._rows[at]
        same: np.ndarray = np.logical_and.reduce(
            [found[column] == rows[column] for column in ("key", "size", "changed")]
        )
        rows[same] = found[same]
        return same

    def keep(self, rows: np.ndarray) -> None:
        """Writes rows in place of those that were there, if the folder takes them."""
        content = io.BytesIO()
        np.save(content, np.sort(rows, order="key"))
        try:
            write_atomically(self._path, content.getvalue(), sync=False)
        except StorageError:
            return  # then the next who opens the data looks again
