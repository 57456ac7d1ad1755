"""Finds the audio files of a folder, and reads the header and the last sample of each once.

Threads do it, because most of the time is waiting for a disk or a server. The headers of a big
folder are cached, with size and modification time of each file: when the folder is opened again,
only files in which either differs are read. ``PASST_BENCH_CACHE`` names another folder for the
cache, which can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import pandas as pd
import pooch

from passt_bench.console import plain_console, stage
from passt_bench.data.audio import read_header
from passt_bench.data.clip_table import stem
from passt_bench.data.fingerprint import hash_of, piece_of
from passt_bench.data.opening import SUFFIXES
from passt_bench.errors import InputError, StorageError
from passt_bench.records.files import write_atomically

Share = Callable[[float], None]
Result = TypeVar("Result")
CACHE_VARIABLE = "PASST_BENCH_CACHE"
_VERSION = 11  # of the cache; raise when files are judged differently
_THREADS = 16
_CHUNK = 16  # files per task of a thread
_AHEAD = 32  # tasks per thread that are submitted at a time
_MIN_FILES_TO_CACHE = 500  # reading fewer again is faster than the cache
_ROW = np.dtype(
    [
        ("key", np.uint64),
        ("bytes", np.int64),
        ("changed", np.int64),
        ("frames", np.int64),
        ("rate", np.int32),
        ("channels", np.int16),
        ("piece", np.uint64),
    ]
)


def find_audio(
    root: Path,
    below: Sequence[str],
    wanted: Container[str],
    called: Callable[[str], Iterable[str]] = lambda name: (stem(name),),
) -> dict[str, str]:
    """Finds the audio files of clips: name of a clip → path relative to ``root``.

    Files count at any depth ``below`` folders of the root (``""`` is the root itself), whatever
    their suffix; of several files, the first by path. ``called`` gives possible names of a file's
    clip, of which the first in ``wanted`` counts.
    """
    found: dict[str, str] = {}
    for folder in below:
        for path in audio_below(root, folder, Counter()):
            names = called(path.rpartition("/")[2])
            clip = next((name for name in names if name in wanted), "")
            if clip:
                found.setdefault(clip, path)
    return found


def audio_below(root: Path, folder: str, others: Counter[str]) -> Iterator[str]:
    """Audio files at any depth, by folder, relative to the root; ``others`` counts all other files.

    Links to folders are followed once. ``._*``, in which macOS keeps a file's attributes, is passed
    over; others are counted by their suffix.
    """
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
            if name.startswith("._"):
                continue
            if name.lower().endswith(SUFFIXES):
                yield f"{prefix}/{name}" if prefix else name
            else:
                others[PurePosixPath(name.lower()).suffix] += 1


def in_threads(
    work: Callable[[int], Result], items: Sequence[int], threads: int, update: Share
) -> Iterator[Result]:
    """Results in the order of the items; stops within moments if interrupted."""
    pool = ThreadPoolExecutor(threads)
    block = _AHEAD * threads
    try:
        for first in range(0, len(items), block):
            yield from pool.map(work, items[first : first + block])
            update(min(1.0, (first + block) / len(items)))
    finally:
        pool.shutdown(cancel_futures=True)


def scan_files(root: Path, files: Sequence[str]) -> pd.DataFrame:
    """Reads the header and the last sample of files; an empty name is a file that was not found.

    A row per file: ``bytes``, ``changed`` (modification time in ns), ``frames`` (samples per
    channel), ``rate``, ``channels``, ``piece`` (hash of a piece from the middle), and ``problem``,
    what is wrong with an unusable file, whose numbers are 0; else empty.
    """
    cache = _cache_of(root)
    cached = _cached_rows(cache)
    keys = np.ascontiguousarray(cached["key"])
    rows = np.zeros(len(files), dtype=_ROW)
    problems = np.full(len(files), "", dtype=object)
    opened = 0

    def scan(start: int) -> list[tuple[tuple[int, ...], str, bool]]:
        return [_scan(root, name, keys, cached) for name in files[start : start + _CHUNK]]

    starts = range(0, len(files), _CHUNK)
    with stage(plain_console(stderr=True), f"Reading {len(files):,} files", 3.0) as show:
        chunks = in_threads(scan, starts, _THREADS, lambda share: show(share, ""))
        for start, chunk in zip(starts, chunks, strict=True):
            for number, (row, problem, read) in enumerate(chunk, start):
                rows[number], problems[number] = row, problem
                opened += read
    if opened >= _MIN_FILES_TO_CACHE:
        # Unusable files are read again each time, since they may be replaced.
        content = io.BytesIO()
        np.save(content, np.sort(rows[rows["frames"] > 0], order="key"))
        with suppress(StorageError):  # the next scan reads the files again
            write_atomically(cache, content.getvalue(), sync=False)
    return pd.DataFrame(rows).drop(columns="key").assign(problem=problems)


def _scan(
    root: Path, name: str, keys: np.ndarray, cached: np.ndarray
) -> tuple[tuple[int, ...], str, bool]:
    """A file's row, what is wrong with it, and whether it was opened."""
    opened = False
    try:
        head = (hash_of(name.encode("utf-8", "surrogateescape")), *_size_and_change(root, name))
        place = int(keys.searchsorted(np.uint64(head[0])))
        row: tuple[int, ...] = cached[place].item() if place < len(keys) else ()
        if row[:3] != head:
            opened, row = True, (*head, *_header_and_piece(root / name))
    except InputError as error:
        return (0,) * len(_ROW.names or ()), error.problem, opened
    return row, "", opened


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


def _cache_of(root: Path) -> Path:
    """Where the rows of the usable files of a folder are kept."""
    name = hashlib.sha256(f"{_VERSION} {root.resolve()}".encode()).hexdigest()[:16]
    folder = os.environ.get(CACHE_VARIABLE) or pooch.os_cache("passt_bench")
    return Path(folder) / "headers" / f"{name}.npy"


def _cached_rows(path: Path) -> np.ndarray:
    """The rows of an earlier scan, sorted by hash of the names."""
    try:
        rows: np.ndarray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # missing, or not readable
        return np.zeros(0, dtype=_ROW)
    return rows if rows.dtype == _ROW and rows.ndim == 1 else np.zeros(0, dtype=_ROW)
