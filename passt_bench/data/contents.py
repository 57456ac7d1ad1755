"""What files hold: which are the same, which sound the same, which are silent or cannot be read.

Files are read in blocks and by several threads (decoding and hashing both leave Python's lock), and
of two million a few bytes each are kept.
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
import soundfile

from passt_bench.data.audio import Sound, blocks_of, check_pages, opened
from passt_bench.data.clip_table import Survey
from passt_bench.data.dataset import Dataset
from passt_bench.data.fingerprint import piece_of
from passt_bench.errors import InputError

_BLOCK = 1 << 16  # samples decoded at a time
_AHEAD = 32  # files a thread that are begun before the first of them is done

Progress = Callable[[float], None]
SoundOf = Callable[[int], Sound]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Heard:
    """What decoding a whole file told.

    Attributes:
        problem: why it cannot be used; empty where it can.
        seconds: of sound.
        rate: Hz.
        channels: of the file.
        silent: whether its channels' mean is zero throughout, in 16 bits.
        digest: of rate and samples (the channels' mean in 16 bits), 16 bytes.
    """

    problem: str = ""
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0
    silent: bool = False
    digest: bytes = b""


def in_threads(
    work: Callable[[int], Result], items: Sequence[int] | np.ndarray, threads: int, tell: Progress
) -> Iterator[tuple[int, Result]]:
    """Pairs of item and result, in the order of the items; stops within moments if interrupted."""
    pool = ThreadPoolExecutor(threads)
    block = _AHEAD * threads
    try:
        for first in range(0, len(items), block):
            part = [int(item) for item in items[first : first + block]]
            yield from zip(part, pool.map(work, part), strict=True)
            tell(min(1.0, (first + block) / len(items)))
    finally:
        pool.shutdown(cancel_futures=True)


def groups_of(values: np.ndarray) -> np.ndarray:
    """Numbers of the groups of equal rows, (N,) int64; -1 for a row that no other equals.

    Args:
        values: (N,) or (N, K) of any type that can be sorted.
    """
    _, number, sizes = np.unique(values, axis=0, return_inverse=True, return_counts=True)
    number = number.reshape(-1)
    return np.where(sizes[number] > 1, number, -1)


def same_bytes(
    sizes: np.ndarray, sound_of: SoundOf, threads: int, tell: Progress, pieces: bool = True
) -> tuple[np.ndarray, dict[int, str]]:
    """Finds files that are identical, byte by byte.

    Only files of one size are opened: of these a piece of the middle is compared, and where that is
    the same, all of it.

    Args:
        sizes: (N,) bytes of each file, or the same number for all where nobody knows.
        sound_of: number → the file.
        threads: that read.
        tell: told the share that is done.
        pieces: whether a piece costs less than the whole file.

    Returns:
        Numbers of groups of identical files, (N,), -1 for those alone; and of files that could not
        be read, why.
    """
    groups = groups_of(sizes)
    wrong: dict[int, str] = {}
    for share, whole in ((0.0, False), (0.5, True)) if pieces else ((0.5, True),):
        members = np.flatnonzero(groups >= 0)
        rows = np.zeros((len(members), 3), dtype=np.int64)  # group, two halves of a digest
        rows[:, 0] = groups[members]
        found = in_threads(
            lambda number, whole=whole: _digest(sound_of(number), whole),  # type: ignore[misc]
            members,
            threads,
            lambda done, share=share: tell(share + done / 2),  # type: ignore[misc]
        )
        for place, (number, digest) in enumerate(found):
            if isinstance(digest, str):
                wrong[number] = digest
                rows[place] = (-1, number, 0)  # alone
            else:
                rows[place, 1:] = np.frombuffer(digest, dtype="<i8")
        groups[members] = groups_of(rows) if len(rows) else groups[members]
    return groups, wrong


def _digest(sound: Sound, whole: bool) -> bytes | str:
    """16 bytes of a file or of its middle; text where it cannot be read."""
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


def hear(sound: Sound) -> Heard:
    """Decodes a whole file, in blocks."""
    try:
        with opened(sound) as file:
            check_pages(file, sound)
            return _listen(file)
    except InputError as error:
        return Heard(error.problem)


def _listen(file: soundfile.SoundFile) -> Heard:
    hasher = hashlib.blake2b(str(file.samplerate).encode(), digest_size=16)
    there, silent = 0, True
    # Not by soundfile's own `blocks`, which goes on with old samples behind a file's early end.
    for block in blocks_of(file, 0, file.frames, _BLOCK):
        if not np.isfinite(block).all():
            return Heard("the file holds NaN or infinity")
        there += len(block)
        heard = np.rint(32768 * block.mean(axis=1)).clip(-32768, 32767).astype("<i2")
        silent = silent and not heard.any()
        hasher.update(heard.tobytes())
    if there < file.frames:
        return Heard(f"cut off: {file.frames} samples are promised, {there} are there")
    seconds = there / file.samplerate
    return Heard("", seconds, file.samplerate, file.channels, silent, hasher.digest())


class Sounds:
    """Files by number, whether they lie in a folder or, as bytes, in other files.

    Attributes:
        of_clip: (N,) number of each clip's file.
        first: (files,) the first clip of each file.
        apart: whether they are files of their own.
    """

    def __init__(self, dataset: Dataset, survey: Survey) -> None:
        self._dataset, self._survey = dataset, survey
        self.apart = survey.file is not None
        self.of_clip = self.first = np.arange(len(survey))
        if survey.file is not None:
            _, self.first, self.of_clip = np.unique(
                survey.file, return_index=True, return_inverse=True
            )

    def __len__(self) -> int:
        return len(self.first)

    def sound(self, number: int) -> Sound:
        """The file of that number, or its bytes."""
        clip = int(self.first[number])
        return self._survey.path(clip) or self._dataset.sound(clip)

    def sizes(self) -> np.ndarray:
        """(files,) bytes of each; -1 of one that is gone, 0 for all where nobody knows."""
        if not self.apart:
            known = self._survey.sizes
            return np.zeros(len(self), dtype=np.int64) if known is None else known
        return np.fromiter(map(self._size, range(len(self))), dtype=np.int64, count=len(self))

    def _size(self, number: int) -> int:
        path = self._survey.path(int(self.first[number]))
        assert path is not None
        try:
            return path.stat().st_size
        except OSError:
            return -1


@dataclass(frozen=True, eq=False)
class Decoded:
    """What decoding told, a row a file.

    Attributes:
        seconds: (files,) float32, NaN of those that could not be decoded.
        rates: (files,) int32, Hz.
        channels: (files,) int16.
        silent: (files,) bool.
        digests: (files, 2) int64, of rate and samples.
        problems: number of a file → why it cannot be used.
    """

    seconds: np.ndarray
    rates: np.ndarray
    channels: np.ndarray
    silent: np.ndarray
    digests: np.ndarray
    problems: dict[int, str]


def decode_all(sounds: Sounds, threads: int, tell: Callable[[float], None]) -> Decoded:
    """Decodes every file to its end.

    Args:
        sounds: the files.
        threads: that decode.
        tell: told the share that is done.
    """
    count = len(sounds)
    told = Decoded(
        seconds=np.full(count, np.nan, dtype=np.float32),
        rates=np.zeros(count, dtype=np.int32),
        channels=np.zeros(count, dtype=np.int16),
        silent=np.zeros(count, dtype=bool),
        digests=np.zeros((count, 2), dtype=np.int64),
        problems={},
    )
    work = in_threads(lambda number: hear(sounds.sound(number)), range(count), threads, tell)
    for number, heard in work:
        if heard.problem:
            told.problems[number] = heard.problem
            continue
        told.seconds[number], told.silent[number] = heard.seconds, heard.silent
        told.rates[number], told.channels[number] = heard.rate, heard.channels
        told.digests[number] = np.frombuffer(heard.digest, dtype="<i8")
    return told
