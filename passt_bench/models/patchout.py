"""Patchout: which patches are kept, as a pure function of the setting, the grid and the seed.

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
import torch

from passt_bench.errors import InputError
from passt_bench.registry import PATCHOUTS
from passt_bench.spec.codec import own_options
from passt_bench.spec.recipe import Pair, Patchout


@dataclass(frozen=True)
class Resolved:
    """A patchout setting on a real grid.

    ``kept`` is the exact number of patches kept. Rows (frequency) and columns (time) are kept whole
    or in part; ``hole`` is the height and width of a rectangle that is dropped from them.
    """

    kind: str
    grid: Pair
    kept: int
    kept_rows: int
    kept_columns: int
    hole: Pair | None = None

    @property
    def rate(self) -> float:
        """Share of the patches that is dropped."""
        return 1 - self.kept / (self.grid[0] * self.grid[1])

    def summary(self) -> dict[str, Any]:
        """Plain values for a record."""
        frequency, time = self.hole or (self.kept_rows, self.kept_columns)
        return {
            "kind": self.kind,
            "kept": self.kept,
            "dropped": self.grid[0] * self.grid[1] - self.kept,
            "rate": self.rate,
            "frequency": frequency,
            "time": time,
        }


class Kind(Protocol):
    """What a registered patchout kind offers; `models.testing.PatchoutContract` tests it.

    ``fields`` names the amounts of `spec.Patchout` that it takes, and amounts of its own: what
    ``Patchout("my_kind", holes=3)`` gives is ``own_options(setting)["holes"]``. A kind whose
    amounts cannot simply be multiplied has ``scale(setting, share, grid)`` as well, see `scaled`.
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
                f"the grid has only {total}",
                field=f"patchout.{field}",
                value=count,
                remedy=f"Drop at most {total - 1}.",
            )
        return count
    return round((rate or 0.0) * total)


class KeepAll:
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
    """Drops whole time columns and frequency rows (PaSST-S), or those of one axis only."""

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
        columns = np.sort(random.choice(resolved.grid[1], resolved.kept_columns, replace=False))
        rows = np.sort(random.choice(resolved.grid[0], resolved.kept_rows, replace=False))
        return (rows[:, None] * resolved.grid[1] + columns).ravel()


class Interleaved(Structured):
    """Keeps evenly spaced time columns and frequency rows, from a random phase on."""

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """Each row and column is kept as often as any other, and gaps differ by one at most."""
        rows, columns = (
            (np.arange(kept) * total + int(random.integers(total))) // kept
            for kept, total in (
                (resolved.kept_rows, resolved.grid[0]),
                (resolved.kept_columns, resolved.grid[1]),
            )
        )
        return (rows[:, None] * resolved.grid[1] + columns).ravel()


class Block:
    """Drops one rectangle of exact area, with an aspect ratio as near to the grid's as possible."""

    fields: tuple[str, ...] = ("rate", "patches")

    def resolve(self, setting: Patchout, grid: Pair) -> Resolved:
        """The hole's height and width.

        A rate is rounded to the nearest area for which a rectangle exists with between half and
        twice the grid's aspect ratio.
        """
        total, exact = grid[0] * grid[1], setting.patches is not None
        wanted = _dropped(setting.patches, setting.rate, total, "patches")
        nearest = sorted(range(total), key=lambda area: (abs(area - wanted), area))
        for area in [wanted] if exact else nearest:
            shape = self._shape(area, grid, exact=exact)
            if shape:
                return Resolved("block", grid, total - area, *grid, hole=shape)
        raise InputError(
            f"no rectangle inside {grid[0]} x {grid[1]} patches has that area",
            field="patchout.patches",
            value=wanted,
            remedy="Give a rate, or a count that factors into height x width.",
        )

    @staticmethod
    def _shape(area: int, grid: Pair, *, exact: bool) -> Pair | None:
        if area == 0:
            return (0, 0)
        heights = [h for h in range(1, grid[0] + 1) if area % h == 0 and area // h <= grid[1]]
        off = {
            (h, area // h): abs(math.log(h / (area // h)) - math.log(grid[0] / grid[1]))
            for h in heights
        }
        best = min(off, key=off.__getitem__, default=None)
        return best if best and (exact or off[best] <= math.log(2)) else None

    def scale(self, setting: Patchout, share: float, grid: Pair) -> Patchout:
        """Scales the rate, because a scaled count need not be the area of a rectangle."""
        full = self.resolve(setting, grid).rate if setting.rate is None else setting.rate
        return replace(setting, rate=share * full, patches=None)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        """Uniform over the positions of the rectangle."""
        (rows, columns), (height, width) = resolved.grid, resolved.hole or (0, 0)
        top = int(random.integers(rows - height + 1))
        left = int(random.integers(columns - width + 1))
        keep = np.ones(resolved.grid, dtype=bool)
        keep[top : top + height, left : left + width] = False
        return np.flatnonzero(keep)


for _name, _kind, _summary in (
    ("none", KeepAll(), "every patch is kept"),
    ("unstructured", Unstructured(), "single patches anywhere"),
    ("time", Structured("time", ("time",)), "whole time columns"),
    ("frequency", Structured("frequency", ("frequency",)), "whole frequency rows"),
    (
        "structured",
        Structured("structured", ("frequency", "time")),
        "time columns and frequency rows",
    ),
    ("block", Block(), "one contiguous rectangle"),
    (
        "interleaved",
        Interleaved("interleaved", ("frequency", "time")),
        "evenly spaced time columns and frequency rows",
    ),
):
    PATCHOUTS.register(_name, version=1, summary=_summary)(_kind)


_STREAM = 0x9A7C  # keeps patchout's random stream apart from others with the same seed


def random_stream(*entropy: int) -> np.random.Generator:
    """The random stream of a tuple of numbers, the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def resolve(setting: Patchout, grid: Pair) -> Resolved:
    """Resolves a setting on a grid (frequency, time); for a schedule, the full amount.

    Raises:
        InputError: no amount, a field that the kind does not use, both a rate and a count, a count
            larger than the grid, a schedule for "none", or a setting that leaves no patches.
    """
    kind: Kind = PATCHOUTS.get(setting.kind).build
    if setting.schedule != "constant" and not kind.fields:
        raise InputError(
            f"kind {setting.kind!r} drops nothing that could rise or fall",
            field="patchout.schedule",
            value=setting.schedule,
            remedy="Use 'constant', or another kind.",
        )
    amounts = _amounts(setting)
    for name, value in amounts.items():
        problem = None
        if name not in kind.fields:
            problem = f"kind {setting.kind!r} does not use it"
            remedy = f"It takes: {', '.join(kind.fields) or 'nothing'}."
        elif name != "rate" and setting.rate is not None:
            problem = "a rate and a count are mutually exclusive"
            remedy = "Give one of them."
        if problem:
            raise InputError(problem, field=f"patchout.{name}", value=value, remedy=remedy)
    resolved = kind.resolve(setting, grid)
    if kind.fields and not amounts and resolved.kept == grid[0] * grid[1]:
        remedy = f"Give one of {', '.join(kind.fields)}."
        raise InputError("no amount given", field="patchout", value=setting.kind, remedy=remedy)
    if resolved.kept < 1:
        values = tuple(amounts.values())
        raise InputError(
            f"leaves no patches of the {grid[0]} x {grid[1]} grid",
            field=", ".join(f"patchout.{name}" for name in amounts),
            value=values[0] if len(values) == 1 else values,
            remedy="Drop less; at least one patch must remain.",
        )
    return resolved


def _amounts(setting: Patchout) -> dict[str, Any]:
    """The amounts that are set, including a plug-in's own fields."""
    names = ("rate", "time", "frequency", "patches", *own_options(setting))
    values = {name: getattr(setting, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def scaled(setting: Patchout, share: float, grid: Pair) -> Patchout:
    """A setting that drops a share of the amount: of the rate, or of each count, rounded."""
    kind: Kind = PATCHOUTS.get(setting.kind).build
    if hasattr(kind, "scale"):
        made: Patchout = kind.scale(setting, share, grid)
        return made
    less: dict[str, Any] = {
        name: round(share * amount) if isinstance(amount, int) else share * amount
        for name, amount in _amounts(setting).items()
        if isinstance(amount, int | float)
    }
    return replace(setting, **less)


def draw_kept(setting: Patchout, grid: Pair, seed: int, step: int, sample: int = 0) -> np.ndarray:
    """Draws the kept patches of one pattern: a pure function of its arguments.

    Flat frequency-major indices, ascending, int64. ``sample`` is the position in the batch if the
    scope is "sample", else 0.
    """
    kind: Kind = PATCHOUTS.get(setting.kind).build
    return kind.draw(resolve(setting, grid), random_stream(_STREAM, seed, step, sample))


def draw_batch(
    setting: Patchout, grid: Pair, seed: int, step: int, batch: int
) -> torch.Tensor | None:
    """Kept indices for a training batch, on the CPU.

    None where every patch is kept, (n,) for one pattern per batch, (batch, n) for one per sample.
    """
    if setting.kind == "none":
        return None
    if setting.scope == "batch":
        return torch.from_numpy(draw_kept(setting, grid, seed, step))
    patterns = [draw_kept(setting, grid, seed, step, sample) for sample in range(batch)]
    return torch.from_numpy(np.stack(patterns))


def draw_plain(setting: Patchout, grid: Pair, batch: int) -> torch.Tensor | None:
    """Draws kept patches from torch's generator, for a model called without ``kept``.

    For other training loops; the suite always passes ``kept``.
    """
    if setting.kind == "none":
        return None
    seed = int(torch.randint(2**62, (1,)))
    return draw_batch(setting, grid, seed, 0, batch)


def gather(x_BNE: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Keeps patches, (B, N, E) → (B, n, E), by indices (n,) or (B, n); None keeps all."""
    if kept is None:
        return x_BNE
    kept = kept.to(x_BNE.device)
    if kept.ndim == 1:
        return x_BNE.index_select(1, kept)
    return x_BNE.gather(1, kept.unsqueeze(-1).expand(-1, -1, x_BNE.shape[2]))
