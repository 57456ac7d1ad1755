"""The kinds of patchout: what is dropped together.

A kind is a class with two methods: ``resolve`` turns a rate or counts into exact counts on the
real grid, ``draw`` chooses the kept patches from a random generator. Indices are flat and
frequency-major: patch (f, t) of an (F, T) grid is f * T + t. Paper section 2.2; the counts are
those of ``models/passt.py`` in the reference code (exact numbers, not probabilities).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from passt_bench.errors import InputError
from passt_bench.registry import PATCHOUTS
from passt_bench.spec.recipe import Pair, Patchout


@dataclass(frozen=True)
class Resolved:
    """A patchout setting on a real grid.

    ``frequency`` and ``time`` are the rows and columns kept (the size of the hole for a block);
    ``kept`` is the exact number of patches that a draw returns.
    """

    kind: str
    grid: Pair
    kept: int
    frequency: int
    time: int

    @property
    def rate(self) -> float:
        """Share of the patches that is dropped."""
        return 1 - self.kept / (self.grid[0] * self.grid[1])

    def summary(self) -> dict[str, Any]:
        """Plain values for a record."""
        return {
            "kind": self.kind,
            "kept": self.kept,
            "dropped": self.grid[0] * self.grid[1] - self.kept,
            "rate": self.rate,
            "frequency": self.frequency,
            "time": self.time,
        }


class Kind(Protocol):
    """What a registered patchout kind offers.

    A kind whose counts cannot simply be multiplied has ``scale(setting, share, grid)`` as well,
    see `patchout.scaled`.
    """

    fields: tuple[str, ...]

    def resolve(self, setting: Patchout, grid: Pair) -> Resolved:
        """Exact counts on a grid (frequency, time)."""

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """Kept flat indices, ascending, int64, shape (resolved.kept,)."""


def _dropped(count: int | None, rate: float | None, total: int, field: str) -> int:
    if count is not None:
        if count > total:
            raise InputError(
                f"more than the {total} there are",
                field=f"patchout.{field}",
                value=count,
                remedy=f"Drop at most {total - 1}.",
            )
        return count
    return round((rate or 0.0) * total)


class Everything:
    """Keeps every patch."""

    fields: tuple[str, ...] = ()

    def resolve(self, setting: Patchout, grid: Pair) -> Resolved:
        """All patches."""
        return Resolved("none", grid, grid[0] * grid[1], *grid)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """All indices; takes nothing from the generator."""
        return np.arange(resolved.kept)


class Unstructured:
    """Drops single patches anywhere (PaSST-U)."""

    fields: tuple[str, ...] = ("rate", "patches")

    def resolve(self, setting: Patchout, grid: Pair) -> Resolved:
        """The count of kept patches."""
        total = grid[0] * grid[1]
        kept = total - _dropped(setting.patches, setting.rate, total, "patches")
        return Resolved("unstructured", grid, kept, *grid)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """Uniform over all sets of that size."""
        total = resolved.grid[0] * resolved.grid[1]
        return np.sort(random.choice(total, resolved.kept, replace=False))


class Structured:
    """Drops whole time columns and frequency rows (PaSST-S); with one axis alone, just those."""

    def __init__(self, kind: str, axes: tuple[str, ...]) -> None:
        self.kind, self.axes = kind, axes
        self.fields: tuple[str, ...] = ("rate", *axes)

    def resolve(self, setting: Patchout, grid: Pair) -> Resolved:
        """Rows and columns kept; a rate r keeps sqrt(1 - r) of each axis where both are dropped."""
        share = 1 - (setting.rate or 0.0)
        per_axis = 1 - (math.sqrt(share) if len(self.axes) == 2 else share)
        keep = {"frequency": grid[0], "time": grid[1]}
        for axis in self.axes:
            count = getattr(setting, axis)
            keep[axis] -= _dropped(count, per_axis, keep[axis], axis)
        f, t = keep["frequency"], keep["time"]
        return Resolved(self.kind, grid, f * t, f, t)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """Uniform over all choices of rows and columns, independently."""
        columns = np.sort(random.choice(resolved.grid[1], resolved.time, replace=False))
        rows = np.sort(random.choice(resolved.grid[0], resolved.frequency, replace=False))
        return (rows[:, None] * resolved.grid[1] + columns).ravel()


class Block:
    """Drops one contiguous rectangle of exact area, nearest to the grid's aspect."""

    fields: tuple[str, ...] = ("rate", "patches")

    def resolve(self, setting: Patchout, grid: Pair) -> Resolved:
        """The hole's height and width; a rate takes the nearest area that a rectangle can have."""
        total = grid[0] * grid[1]
        wanted = _dropped(setting.patches, setting.rate, total, "patches")
        areas = (
            [wanted]
            if setting.patches is not None
            else sorted(range(total), key=lambda area: (abs(area - wanted), area))
        )
        for area in areas:
            shape = self._shape(area, grid, exact=setting.patches is not None)
            if shape:
                return Resolved("block", grid, total - shape[0] * shape[1], *shape)
        raise InputError(
            f"no rectangle inside {grid[0]} x {grid[1]} patches has that area",
            field="patchout.patches",
            value=wanted,
            remedy="Give a rate, or a product of two sides.",
        )

    @staticmethod
    def _shape(area: int, grid: Pair, *, exact: bool) -> Pair | None:
        if area == 0:
            return (0, 0)
        shapes = [
            (height, area // height)
            for height in range(1, grid[0] + 1)
            if area % height == 0 and area // height <= grid[1]
        ]
        aspect = math.log(grid[0] / grid[1])
        shapes.sort(key=lambda s: abs(math.log(s[0] / s[1]) - aspect))
        if not shapes:
            return None
        off = abs(math.log(shapes[0][0] / shapes[0][1]) - aspect)
        return shapes[0] if exact or off <= math.log(2) else None

    def scale(self, setting: Patchout, share: float, grid: Pair) -> Patchout:
        """As a rate: a share of a rectangle's area need not be the area of another."""
        full = self.resolve(setting, grid).rate if setting.rate is None else setting.rate
        return replace(setting, rate=share * full, patches=None)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """Uniform over the positions of the rectangle."""
        rows, columns = resolved.grid
        top = int(random.integers(rows - resolved.frequency + 1))
        left = int(random.integers(columns - resolved.time + 1))
        keep = np.ones(resolved.grid, dtype=bool)
        keep[top : top + resolved.frequency, left : left + resolved.time] = False
        return np.flatnonzero(keep)


for _kind, _name, _summary in (
    (Everything(), "none", "every patch is kept"),
    (Unstructured(), "unstructured", "single patches anywhere"),
    (Structured("time", ("time",)), "time", "whole time columns"),
    (Structured("frequency", ("frequency",)), "frequency", "whole frequency rows"),
    (
        Structured("structured", ("frequency", "time")),
        "structured",
        "time columns and frequency rows",
    ),
    (Block(), "block", "one contiguous rectangle"),
):
    PATCHOUTS.register(_name, version=1, summary=_summary)(_kind)
