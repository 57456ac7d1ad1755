"""Which variants nothing else beats in quality and cost at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """A variant on the plane of quality (greater is better) and cost (less is better)."""

    name: str
    quality: float
    quality_low: float
    quality_high: float
    cost: float
    cost_low: float
    cost_high: float


@dataclass(frozen=True)
class Front:
    """Names in order of rising cost, then name.

    Attributes:
        best: non-dominated by the estimates.
        possible: not dominated beyond the intervals: no other point has its whole interval of
            quality above theirs and its whole interval of cost below. Holds ``best``.
    """

    best: tuple[str, ...]
    possible: tuple[str, ...]


def pareto(points: Sequence[Point]) -> Front:
    """The non-dominated set; points without a quality or a cost are left out.

    A missing end of an interval counts as unbounded, so such a point is never clearly dominated
    and never clearly dominates. Equal points do not dominate each other.
    """
    known = [p for p in points if math.isfinite(p.quality) and math.isfinite(p.cost)]
    known.sort(key=lambda p: (p.cost, p.name))
    return Front(
        best=tuple(p.name for p in known if not any(_beats(q, p) for q in known)),
        possible=tuple(p.name for p in known if not any(_clearly_beats(q, p) for q in known)),
    )


def _beats(a: Point, b: Point) -> bool:
    no_worse = a.quality >= b.quality and a.cost <= b.cost
    return no_worse and (a.quality > b.quality or a.cost < b.cost)


def _clearly_beats(a: Point, b: Point) -> bool:
    # Comparisons with NaN are false, which is what an unknown end asks for.
    return a.quality_low > b.quality_high and a.cost_high < b.cost_low
