"""What the sizes of position encodings tell of stride and length."""

from __future__ import annotations

from collections.abc import Sequence

from passt_bench.spec.recipe import Pair

FRAMES = (998, 2000, 3000, 3200)  # of the published files
_STRIDES = (10, 12, 14, 16)  # of the published files
_OTHERS = tuple(stride for stride in range(16, 0, -1) if stride not in _STRIDES)


def infer(
    rows: int, columns: int, mels: int, frames: Sequence[int] = ()
) -> tuple[Pair, int] | None:
    """Stride and frames of a PaSST from its encodings: ``mels // stride``, ``frames // stride``.

    Published strides and lengths come first, equal strides of both axes before others; where none
    explains the columns, as many frames as they need.

    Args:
        rows: of the frequency encodings.
        columns: of the time encodings.
        mels: of the input.
        frames: lengths to try before the published ones.

    Returns:
        Stride (frequency, time) and frames; None where no stride up to 16 gives the rows.
    """
    lengths = (*frames, *FRAMES)
    possible = [stride for stride in (*_STRIDES, *_OTHERS) if mels // stride == rows]
    for stride in possible:
        for length in lengths:
            if length // stride == columns:
                return (stride, stride), length
    for length in lengths:
        for time in (*_STRIDES, *_OTHERS):
            if possible and length // time == columns:
                return (possible[0], time), length
    return ((possible[0], possible[0]), columns * possible[0]) if possible else None
