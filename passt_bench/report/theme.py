"""Style of all figures: a color per patchout kind and per verdict, and reproducible SVG.

Kinds have the Okabe-Ito palette, verdicts darker hues and a mark each; a test checks that both can
be distinguished under protanopia and deuteranopia.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

NO_PATCHES = "no patches"

INK = "#1f2430"
MUTED = "#626a78"
RULE = "#d9dde3"
BAND = "#eceff3"
PAPER = "#ffffff"


@dataclass(frozen=True)
class Style:
    """How one kind or verdict is drawn."""

    color: str
    marker: str
    sign: str = ""


_KINDS = {
    "none": Style("#3d3d3d", "o"),
    "unstructured": Style("#0072b2", "s"),
    "time": Style("#e69f00", "^"),
    "frequency": Style("#009e73", "v"),
    "structured": Style("#cc79a7", "D"),
    "block": Style("#56b4e9", "P"),
    NO_PATCHES: Style("#8a5a00", "X"),
}
_FURTHER = (Style("#a03020", "p"), Style("#6a51a3", "h"), Style("#8f9a00", "*"))

VERDICTS = {
    "better": Style("#00707f", "^", "▲"),
    "worse": Style("#b3124f", "v", "▼"),
    "same": Style("#716c67", "s", "="),
    "undecided": Style("#9a6b00", "o", "?"),
    "not estimable": Style("#716c67", "x", "∅"),
    "failed": Style("#1f1f1f", "x", "×"),
    "missing": Style("#626a78", "x", "…"),
    "baseline": Style("#3d3d3d", "o", "●"),
}

_RC: Any = {  # the names that rcParams knows are a literal type of 300 members
    "figure.dpi": 72,  # as in SVG, so that what is checked is what is written
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "text.hinting": "no_hinting",
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "svg.fonttype": "path",  # independent of the reader's fonts
}


@contextmanager
def figure_style() -> Iterator[None]:
    """A context in which figures are made and written in the project's style."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        yield


def kind_styles(kinds: Iterable[str]) -> dict[str, Style]:
    """A style per kind, the same in every figure; kinds of plug-ins get further ones."""
    unknown = sorted(set(kinds) - set(_KINDS))
    return _KINDS | {kind: _FURTHER[i % len(_FURTHER)] for i, kind in enumerate(unknown)}


def to_svg(figure: Figure, name: str) -> str:
    """The figure as SVG text that depends only on the figure.

    Args:
        figure: a figure made under `figure_style`.
        name: prefix of all ids, so that one HTML page can hold several figures.
    """
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _prefixed(buffer.getvalue().decode(), name)


def inline(svg: str, label: str) -> str:
    """Only the ``<svg>`` element, for an HTML page, with a name for screen readers."""
    body = svg[svg.index("<svg") :].strip()
    label = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _prefixed(svg: str, name: str) -> str:
    """The SVG with ids unique in a page: prefixed, and numbered where matplotlib repeats one."""
    counts: Counter[str] = Counter()

    def unique(match: re.Match[str]) -> str:
        counts[match[1]] += 1
        again = f"-{counts[match[1]]}" if counts[match[1]] > 1 else ""  # e.g. two equal images
        return f'id="{name}-{match[1]}{again}"'

    svg = re.sub(r'\bid="([^"]*)"', unique, svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


WIDTH = 9.6  # inches; the column of a page
_MIN_SPAN = 0.03  # of a metric's axis, so that noise does not look like an effect


@dataclass(frozen=True)
class Drawing:
    """A figure of a report.

    Attributes:
        name: name of its files, ``NAME.svg`` and ``NAME.csv``.
        title: its heading.
        caption: how to read it; if ``figure`` is None, why it is left out.
        data: what is drawn, one row per mark.
        figure: the figure; None if there is nothing to draw.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    figure: Figure | None


def placeholder(name: str, title: str, why: str) -> Drawing:
    """A sentence in place of a figure that has no data."""
    return Drawing(name, title, f"Left out: {why}", pd.DataFrame(), None)


left_out = placeholder  # the name that plug-ins may still import


def kind_handles(kinds: Iterable[str], styles: Mapping[str, Style]) -> list[Line2D]:
    """Legend entries for patchout kinds, each once, in the styles' order."""
    present = set(kinds)
    return [
        Line2D([], [], color=style.color, marker=style.marker, markersize=5, lw=1.4, label=kind)
        for kind, style in styles.items()
        if kind in present
    ]


def columns_and_rows(panels: int, max_columns: int = 4) -> tuple[int, int]:
    """Columns and rows of a grid of panels, avoiding a single panel in the last row."""
    rows = -(-panels // max_columns)
    return -(-panels // rows), rows


def axis_range(low: float, high: float) -> tuple[float, float]:
    """The range of a metric's axis, widened around its middle if it is too narrow."""
    spare = max(0.0, _MIN_SPAN - (high - low)) / 2
    return low - spare, high + spare
