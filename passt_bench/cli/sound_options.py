"""Options that say how long clips are, and at what rate; what no sound has is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from passt_bench.cli.options import above_zero
from passt_bench.errors import InputError

if TYPE_CHECKING:
    from passt_bench.data.prepared_files import Index

SECONDS, RATE = 5.0, 32000  # of a check, unless others are given or prepared
_RATES = (1000, 768_000)  # Hz
_DAY = 86_400  # seconds


def possible_rate(found: typer.CallbackParam, value: int | None) -> int | None:
    """Refuses a rate that nobody records at."""
    low, high = _RATES
    if value is not None and not low <= value <= high:
        raise InputError(
            "no sampling rate of sound",
            field=f"--{found.name}",
            value=value,
            remedy=f"Give Hz from {low} to {high}, e.g. {RATE}.",
        )
    return value


def possible_length(found: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses what is no length of a clip."""
    above_zero(found, value)
    if value is not None and value > _DAY:
        raise InputError(
            "longer than a day",
            field=f"--{found.name}",
            value=value,
            remedy="Give the seconds of a clip, e.g. 10, or leave it out.",
        )
    return value


def length_and_rate(
    folder: Path, index: Index | None, seconds: float | None, rate: int | None
) -> tuple[float, int]:
    """Seconds and Hz as they are given, else as the folder's clips are prepared.

    Args:
        folder: of a data set.
        index: of its clips, if they are prepared ones.
        seconds: that were given.
        rate: Hz that were given.

    Raises:
        InputError: the clips are prepared at another rate, or are cut shorter.
    """
    if index is None:
        return seconds or SECONDS, rate or RATE
    cut = index.seconds if index.cut else None
    if index.form == "int16" and rate not in (None, index.sampling_rate):
        raise InputError(
            f"the folder holds clips prepared at {index.sampling_rate} Hz",
            source=folder,
            field="--rate",
            value=rate,
            remedy=f"Leave --rate out, or give --rate {index.sampling_rate}.",
        )
    if cut is not None and seconds is not None and seconds > cut:
        raise InputError(
            f"the folder holds clips of which {index.cut} were cut at {cut:.10g} s",
            source=folder,
            field="--seconds",
            value=seconds,
            remedy=f"Leave --seconds out, or give --seconds {cut:.10g} or less.",
        )
    return seconds or cut or SECONDS, rate or index.sampling_rate
