"""A patchout kind: every other patch is dropped, the white or the black ones of a chess board."""

from __future__ import annotations

import numpy as np

from passt_bench.models.patchout import Resolved
from passt_bench.registry import PATCHOUTS
from passt_bench.spec import Patchout


class Checkerboard:
    """Keeps half of the patches; of an odd number the smaller half."""

    fields: tuple[str, ...] = ()

    def resolve(self, setting: Patchout, grid: tuple[int, int]) -> Resolved:
        return Resolved("checkerboard", grid, grid[0] * grid[1] // 2, *grid)

    def draw(self, resolved: Resolved, random: np.random.Generator) -> np.ndarray:
        colour = np.indices(resolved.grid).sum(axis=0) % 2
        return np.flatnonzero(colour == random.integers(2))[: resolved.kept]


PATCHOUTS.register("checkerboard", version=4, summary="every other patch")(Checkerboard())
