"""Reads and decodes whole files, to find identical, silent and broken ones.

Threads read the files in blocks (decoding and hashing release Python's lock); only a few bytes per
file are kept.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import soundfile

from passt_bench.data.audio import AudioFile, blocks_of, opened
from passt_bench.data.clip_table import ClipTable
from passt_bench.data.dataset import Dataset
from passt_bench.data.fingerprint import piece_of
from passt_bench.errors import InputError

_BLOCK = 1 << 16  # samples decoded at a time
_AHEAD = 32  # files per thread that are submitted at a time
_DECODED = np.dtype(
    [
        ("seconds", np.float32),
        ("rate", np.int32),
        ("channels", np.int16),
        ("silent", np.bool_),
        ("digest", "<i8", (2,)),
    ]
)

Progress = Callable[[float], None]
Result = TypeVar("Result")


def in_threads(
    work: Callable[[int], Result], items: Sequence[int] | np.ndarray, threads: int, update: Progress
) -> Iterator[tuple[int, Result]]:
    """Pairs of item and result, in the order of the items; stops within moments if interrupted."""
    pool = ThreadPoolExecutor(threads)
    block = _AHEAD * threads
    try:
        for first in range(0, len(items), block):
            part = [int(item) for item in items[first : first + block]]
            yield from zip(part, pool.map(work, part), strict=True)
            update(min(1.0, (first + block) / len(items)))
    finally:
        pool.shutdown(cancel_futures=True)


class Files:
    """The files of a data set, in a folder or, as bytes, in other files.

    Attributes:
        of_clip: (N,) index of each clip's file.
        first: (files,) index of the first clip of each file.
        separate: whether each is a file on disk.
    """

    def __init__(self, dataset: Dataset, table: ClipTable) -> None:
        self._dataset, self._table = dataset, table
        self.separate = table.file is not None
        self.of_clip = self.first = np.arange(len(table))
        if table.file is not None:
            _, self.first, self.of_clip = np.unique(
                table.file, return_index=True, return_inverse=True
            )

    def __len__(self) -> int:
        return len(self.first)

    def sound(self, number: int) -> AudioFile:
        """A file, or its bytes."""
        clip = int(self.first[number])
        return self._table.path(clip) or self._dataset.sound(clip)

    def sizes(self) -> np.ndarray:
        """(files,) bytes of each file; -1 if it is missing, 0 for all if unknown."""
        if not self.separate:
            known = self._table.sizes
            return np.zeros(len(self), dtype=np.int64) if known is None else known
        return np.fromiter(map(self._size, self.first.tolist()), dtype=np.int64, count=len(self))

    def _size(self, clip: int) -> int:
        path = self._table.path(clip)
        try:
            return -1 if path is None else path.stat().st_size
        except OSError:
            return -1


def identical(
    sizes: np.ndarray,
    sound_of: Callable[[int], AudioFile],
    threads: int,
    update: Progress,
    pieces: bool = True,
) -> tuple[np.ndarray, dict[int, str]]:
    """Finds files that are identical, byte by byte.

    Only files of the same size are opened: a piece from the middle of each is compared, and if that
    is the same, the whole file.

    Args:
        sizes: (N,) bytes of each file, or the same number for all if unknown.
        sound_of: index → the file.
        threads: number of threads.
        update: called with the share that is done.
        pieces: whether reading a piece is cheaper than reading the whole file.

    Returns:
        (N,) each file's group of identical files, -1 if no other is identical; and index of a file
        that could not be read → why.
    """
    alike = pd.DataFrame({"size": sizes})
    wrong: dict[int, str] = {}
    for whole in (False, True) if pieces else (True,):
        alike = alike[alike.duplicated(keep=False)]
        digests = np.zeros((len(alike), 2), dtype="<i8")

        def digest(number: int, whole: bool = whole) -> bytes | str:
            return _digest(sound_of(number), whole)

        def advance(share: float, whole: bool = whole) -> None:
            update(whole / 2 + share / 2)

        results = in_threads(digest, alike.index.to_numpy(), threads, advance)
        for place, (number, digested) in enumerate(results):
            if isinstance(digested, str):
                wrong[number] = digested
            else:
                digests[place] = np.frombuffer(digested, dtype="<i8")
        alike = alike.assign(**{f"{whole} {half}": digests[:, half] for half in (0, 1)})
        alike = alike.drop(index=list(wrong), errors="ignore")
    alike = alike[alike.duplicated(keep=False)]
    groups = np.full(len(sizes), -1, dtype=np.int64)
    groups[alike.index] = alike.groupby(list(alike), sort=False).ngroup()
    return groups, wrong


def _digest(sound: AudioFile, whole: bool) -> bytes | str:
    """Hash of a file or of its middle, 16 bytes; or why it cannot be read."""
    hasher = hashlib.blake2b(digest_size=16)
    try:
        with sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound.data) as file:
            if not whole:
                return piece_of(file).to_bytes(16, "little")
            while data := file.read(1 << 20):
                hasher.update(data)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return hasher.digest()


@dataclass(frozen=True)
class Decoded:
    """The result of decoding a whole file.

    Attributes:
        problem: why it cannot be used; empty if it can.
        seconds: length.
        rate: Hz.
        channels: number of channels.
        silent: whether the mean of its channels is zero throughout, in 16 bits.
        digest: hash of rate and samples (mean of channels in 16 bits), 16 bytes.
    """

    problem: str = ""
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    silent: bool = False
    digest: bytes = b""


def decode_file(sound: AudioFile) -> Decoded:
    """Decodes a whole file, in blocks."""
    try:
        with opened(sound, thorough=True) as file:
            return _decode(file)
    except InputError as error:
        return Decoded(error.problem)


def _decode(file: soundfile.SoundFile) -> Decoded:
    hasher = hashlib.blake2b(str(file.samplerate).encode(), digest_size=16)
    count, silent = 0, True
    # Not with soundfile's `blocks`, which repeats old samples if a file ends early.
    for block in blocks_of(file, 0, file.frames, _BLOCK):
        if not np.isfinite(block).all():
            return Decoded("the file holds NaN or infinity")
        count += len(block)
        mono = np.rint(32768 * block.mean(axis=1)).clip(-32768, 32767).astype("<i2")
        silent = silent and not mono.any()
        hasher.update(mono.tobytes())
    if count < file.frames:
        return Decoded(f"cut off: {file.frames} samples expected, {count} found")
    seconds = count / file.samplerate
    return Decoded("", seconds, file.samplerate, file.channels, silent, hasher.digest())


def decode_all(files: Files, threads: int, update: Progress) -> tuple[np.ndarray, dict[int, str]]:
    """Decodes every file to its end.

    Args:
        files: files to decode.
        threads: number of threads.
        update: called with the share that is done.

    Returns:
        (files,) fields of `Decoded`, with ``seconds`` NaN if a file could not be decoded; and
        index of such a file → why.
    """
    decoded = np.zeros(len(files), dtype=_DECODED)
    problems: dict[int, str] = {}
    work = in_threads(
        lambda number: decode_file(files.sound(number)), range(len(files)), threads, update
    )
    for number, result in work:
        if result.problem:
            problems[number] = result.problem
            decoded["seconds"][number] = np.nan
        else:
            digest = np.frombuffer(result.digest, dtype="<i8")
            row = (result.seconds, result.rate, result.channels, result.silent, digest)
            decoded[number] = row
    return decoded, problems
