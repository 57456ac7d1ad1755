"""A patchout kind: squares of one color of a chess board are dropped, white or black."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from passt_bench.errors import InputError
from passt_bench.models.patchout import Resolved
from passt_bench.registry import PATCHOUTS
from passt_bench.spec import Patchout
from passt_bench.spec.codec import own_options


class Checkerboard:
    """Has an amount of its own, ``share``: of the squares of one color, all unless it is given."""

    fields: tuple[str, ...] = ("share",)

    def resolve(self, setting: Patchout, grid: tuple[int, int]) -> Resolved:
        share = own_options(setting).get("share", 1.0)
        if not 0 <= share <= 1:
            raise InputError("no share", field="patchout.share", value=share, remedy="Give 0 to 1.")
        total = grid[0] * grid[1]
        return Resolved("checkerboard", grid, total - round(share * (total // 2)), *grid)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        color = np.indices(resolved.grid).sum(axis=0) % 2
        squares = np.flatnonzero(color == random.integers(2))
        dropped = random.choice(squares, color.size - resolved.kept, replace=False)
        return np.setdiff1d(np.arange(color.size), dropped)

    def scale(self, setting: Patchout, share: float, grid: tuple[int, int]) -> Patchout:
        return replace(setting, share=share * own_options(setting).get("share", 1.0))


PATCHOUTS.register("checkerboard", version=4, summary="one color of a chess board")(Checkerboard())
