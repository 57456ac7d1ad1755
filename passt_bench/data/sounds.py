"""The files of a data set, each once, and what decoding all of them tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from passt_bench.data.contents import hear, in_threads
from passt_bench.data.dataset import Dataset
from passt_bench.data.opening import Sound
from passt_bench.data.survey import Survey


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
