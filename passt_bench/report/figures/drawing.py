"""What every figure is: data, a drawing of it, and a caption that says how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from passt_bench.report.theme import Style

WIDTH = 9.6  # inches; the column of a page
_LEAST_SPAN = 0.03  # of a metric's axis: noise is not to look like an effect


@dataclass(frozen=True)
class Drawing:
    """A figure of a report.

    Attributes:
        name: of its files, ``NAME.svg`` and ``NAME.csv``.
        title: short, for its heading.
        caption: how to read it; where ``figure`` is None, why it is left out.
        data: what is drawn, one row a mark.
        figure: None where there is nothing to draw.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    figure: Figure | None


def left_out(name: str, title: str, why: str) -> Drawing:
    """A figure without data: a sentence in its place."""
    return Drawing(name, title, f"Left out: {why}", pd.DataFrame(), None)


def kind_handles(kinds: Iterable[str], styles: Mapping[str, Style]) -> list[Line2D]:
    """Legend entries for patchout kinds, each once, in the styles' order."""
    present = set(kinds)
    return [
        Line2D([], [], color=style.colour, marker=style.marker, markersize=5, lw=1.4, label=kind)
        for kind, style in styles.items()
        if kind in present
    ]


def columns_and_rows(panels: int, most: int = 4) -> tuple[int, int]:
    """A grid for so many panels, at most ``most`` beside each other and no lonely last one."""
    rows = -(-panels // most)
    return -(-panels // rows), rows


def padded(low: float, high: float) -> tuple[float, float]:
    """The range of a metric's axis, widened around its middle where it is too narrow."""
    spare = max(0.0, _LEAST_SPAN - (high - low)) / 2
    return low - spare, high + spare
