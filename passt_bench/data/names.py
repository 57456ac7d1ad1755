"""Names of many clips in little memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import overload

import numpy as np


def as_listed(name: str) -> str:
    """The name itself."""
    return name


def stem(name: str) -> str:
    """``Yabc`` of ``07/Yabc.mp3``."""
    return PurePosixPath(name).stem


class Names(Sequence[str]):
    """Names kept as fixed-length bytes, decoded one by one when they are asked for.

    Two million names of 20 bytes take 40 MB instead of 150.

    Args:
        raw: (N,) bytes (dtype ``S``), valid UTF-8.
        change: what is made of a name; a function of a module, so that it can be pickled.
    """

    def __init__(self, raw: np.ndarray, change: Callable[[str], str] = as_listed) -> None:
        self.raw, self._change = raw, change

    def __len__(self) -> int:
        return len(self.raw)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Names: ...
    def __getitem__(self, index: int | slice) -> str | Names:
        if isinstance(index, slice):
            return Names(self.raw[index], self._change)
        return self._change(bytes(self.raw[index]).decode())
