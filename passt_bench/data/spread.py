"""How values are spread over many clips, in few numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FEW = 5  # different values that are all named


@dataclass(frozen=True)
class Spread:
    """Lengths of clips in seconds.

    Attributes:
        known: clips that were looked at.
        unknown: clips that were not.
        least: the shortest.
        quarters: below which a quarter, a half and three quarters of them lie.
        most: the longest.
        values: lengths rounded to 10 ms → clips, where there are at most five; else empty.
    """

    known: int
    unknown: int
    least: float
    quarters: tuple[float, float, float]
    most: float
    values: dict[str, int]

    def __str__(self) -> str:
        """In words, e.g. ``1 s (12 clips), 2.5 s (3 clips)``."""
        if self.values:
            words = ", ".join(f"{value} s ({count} clips)" for value, count in self.values.items())
        else:
            low, middle, high = self.quarters
            words = (
                f"{self.least:.2f} to {self.most:.2f} s, half of them between {low:.2f} and "
                f"{high:.2f} s, median {middle:.2f} s"
            )
        return words + (f"; of {self.unknown} clips not known" if self.unknown else "")


def spread_of(seconds: np.ndarray) -> Spread | None:
    """The spread of lengths, NaN where nobody looked; None where nobody looked at any."""
    known = seconds[~np.isnan(seconds)].astype(np.float64)
    if not len(known):
        return None
    least, low, middle, high, most = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist()
    values, counts = np.unique(np.round(known, 2), return_counts=True)
    named = dict(zip((f"{value:g}" for value in values), counts.tolist(), strict=True))
    return Spread(
        known=len(known),
        unknown=len(seconds) - len(known),
        least=least,
        quarters=(low, middle, high),
        most=most,
        values=named if len(named) <= _FEW else {},
    )


def counted(values: np.ndarray) -> dict[str, int]:
    """Values as text → clips, the most frequent first; 0 is what nobody looked at."""
    found, counts = np.unique(values[values > 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(found[place]): int(counts[place]) for place in order}
