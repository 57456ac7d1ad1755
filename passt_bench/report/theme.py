"""Style of all figures, reproducible SVG, and where a figure's text is drawn.

Kinds have the hues of the Okabe-Ito palette, verdicts darker ones, and both a mark each; a test
checks their contrast to paper, and that both can be told apart under protanopia and deuteranopia.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, product
from math import cos, hypot, pi, radians, sin
from types import SimpleNamespace
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator
from matplotlib.transforms import Bbox, IdentityTransform
from scour.scour import scourString

from passt_bench.console import visible

NO_PATCHES = "no patches"

INK = "#1f2430"
MUTED = "#626a78"
RULE = "#d9dde3"
BAND = "#dfe4ec"
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
    "time": Style("#bf8c00", "^"),
    "frequency": Style("#009e73", "v"),
    "structured": Style("#cc79a7", "D"),
    "block": Style("#3d9bd8", "P"),
    "interleaved": Style("#c04a10", "<"),
    NO_PATCHES: Style("#5f3f00", "X"),
}
_FURTHER = (Style("#a03020", "p"), Style("#6a51a3", "h"), Style("#8f9a00", "*"))

VERDICTS = {
    "better": Style("#00707f", "^", "▲"),
    "worse": Style("#b3124f", "v", "▼"),
    "same": Style("#716c67", "s", "="),
    "not worse": Style("#3f6b2a", "D", "≥"),
    "undecided": Style("#9a6b00", "o", "?"),
    "no verdict": Style("#626a78", "o", "–"),
    "not estimable": Style("#716c67", "x", "∅"),
    "failed": Style("#1f1f1f", "x", "×"),
    "missing": Style("#626a78", "x", "…"),
    "baseline": Style("#3d3d3d", "o", "●"),
    "above zero": Style("#1f2430", "^", "↑"),  # like the next two of slopes and interactions
    "below zero": Style("#1f2430", "v", "↓"),
    "unclear": Style("#626a78", "o", "~"),
}

_FURTHER_FONTS = (  # in this order, for letters that DejaVu Sans lacks
    *("Noto Sans CJK JP", "WenQuanYi Micro Hei", "Arial Unicode MS", "Microsoft YaHei"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji"),
)

_RC: Any = {  # the names that rcParams knows are a literal type of 300 members
    "figure.dpi": 72,  # as in SVG, so that what is checked is what is written
    "font.size": 9.0,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8.0),
    "lines.solid_capstyle": "butt",  # the default of SVG, which then need not say it
    "text.hinting": "no_hinting",
    "text.parse_math": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # TrueType, which publishers accept
    "svg.fonttype": "none",  # text: searchable, in any script, and a third of the bytes of outlines
}


@contextmanager
def figure_style() -> Iterator[None]:
    """A context in which figures are made and written in the project's style."""
    fonts = ["DejaVu Sans", *(name for name in _FURTHER_FONTS if name in get_font_names())]
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # SVG has the reader's
        mpl.rcdefaults()
        mpl.rcParams.update(_RC | {"font.family": fonts})
        yield


def kind_styles(kinds: Iterable[str]) -> dict[str, Style]:
    """A style per kind, the same in every figure; kinds of plug-ins get further ones."""
    unknown = sorted(set(kinds) - set(_KINDS))
    return _KINDS | {kind: _FURTHER[i % len(_FURTHER)] for i, kind in enumerate(unknown)}


def to_svg(figure: Figure, name: str) -> str:
    """The figure as SVG text that depends only on the figure, made under `figure_style`.

    All ids begin with the name, so that one HTML page can hold several figures.
    """
    FigureCanvasSVG(figure)
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=nothing)
    return _shorter(visible(buffer.getvalue().decode()), name)  # XML takes no control characters


def to_pdf(figure: Figure) -> tuple[bytes, str]:
    """The figure as PDF with embedded fonts, and the letters that no font here has."""
    buffer = io.BytesIO()
    with figure_style(), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        figure.savefig(buffer, format="pdf", metadata={"CreationDate": None})
    lost = {int(code) for each in told for code in re.findall(r"^Glyph (\d+)", str(each.message))}
    return buffer.getvalue(), "".join(map(chr, sorted(lost)))


def inline(svg: str, label: str) -> str:
    """Only the ``<svg>`` element, for an HTML page, with a name for screen readers."""
    body = svg[svg.index("<svg") :].strip()
    label = visible(label).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return body.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


_SHORTER = {
    "strip_ids": True, "shorten_ids": True, "group_create": True, "indent_type": "none",
    "newlines": False, "strip_xml_prolog": True,
}  # fmt: skip


def _shorter(svg: str, name: str) -> str:
    """The SVG in half of its bytes, with only those ids that something refers to, prefixed."""

    def rounded(match: re.Match[str]) -> str:  # tenths of a point are finer than a screen's dots
        return re.sub(r"\d+\.\d+", lambda number: f"{round(float(number[0]), 1):g}", match[0])

    svg = re.sub(r'\b(?:d|x|y|points)="[^"]*"', rounded, svg)
    # Each text has the reader's fonts, and most are turned by nothing.
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"| font-family: [^;"]*;?', "", svg)
    options = SimpleNamespace(**_SHORTER, shorten_ids_prefix=f"{name}-")
    short: str = scourString(svg, options)
    return short.replace("<svg ", f'<svg font-family="{_READERS_FONTS}" ', 1)


# Layout is computed for the first; the others are as wide or narrower.
_READERS_FONTS = "'DejaVu Sans', Verdana, Arial, sans-serif"
WIDTH = 9.6  # inches; the column of a page
_MIN_SPAN = 0.03  # of a metric's axis, so that noise does not look like an effect


@dataclass(frozen=True)
class Drawing:
    """A figure of a report."""

    name: str  # of its files, NAME.svg and NAME.csv
    title: str
    caption: str  # how to read it; without a figure, why it is left out
    data: pd.DataFrame  # what is drawn, one row per mark
    figure: Figure | None  # None if there is nothing to draw


def placeholder(name: str, title: str, why: str) -> Drawing:
    """A sentence in place of a figure that has no data."""
    return Drawing(name, title, f"Left out: {why}", pd.DataFrame(), None)


def kind_handles(kinds: Iterable[str]) -> list[Line2D]:
    """Legend entries for patchout kinds, each once, in the order of `kind_styles`."""
    present = set(kinds)
    return [
        Line2D([], [], color=style.color, marker=style.marker, markersize=5, lw=1.4, label=kind)
        for kind, style in kind_styles(present).items()
        if kind in present
    ]


def balanced_columns(panels: int, max_columns: int = 4) -> int:
    """Columns of a grid of panels, so that its last row is not much shorter than the others."""
    rows = -(-panels // max_columns)
    return -(-panels // rows)


def panel_grid(
    panels: int, columns: int, height: float, spare: float, *, shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of panels of that height, with spare inches for legends, and their axes."""
    rows = -(-panels // columns)
    figure = Figure(figsize=(WIDTH, height * rows + spare), layout="constrained")
    axes = list(figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False).flat)
    for place in range(panels, len(axes)):
        axes[place].set_axis_off()
        axes[place - columns].tick_params(labelbottom=True)  # the panel below has no axis
    return figure, axes[:panels]


def one_panel(height: float) -> tuple[Figure, Axes]:
    """A figure of that height with one panel."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def draw_cross(axes: Axes, x: float, color: str) -> None:
    """Marks on the x axis what has no value."""
    axes.plot(
        x, 0, marker="x", color=color, markersize=7, clip_on=False,
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip


def axis_range(low: float, high: float) -> tuple[float, float]:
    """The range of a metric's axis, widened around its middle if it is too narrow."""
    spare = max(0.0, _MIN_SPAN - (high - low)) / 2
    return low - spare, high + spare


def limit_quality(axes: Axes, data: pd.DataFrame) -> None:
    """Ends the y axis a little beyond the values and their intervals."""
    ends = data[["value", "value_low", "value_high"]]
    low, high = axis_range(float(np.nanmin(ends)), float(np.nanmax(ends)))
    axes.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low))


def log_ticks(axis: Axis) -> None:
    """Gives a logarithmic axis, of which all is drawn, at least three readable ticks."""
    (low, high), ticks = axis.get_view_interval(), list[float]()
    for locator in (LogLocator(subs=(1.0, 2.0, 5.0)), MaxNLocator(6, steps=[1, 2, 2.5, 5, 10])):
        if len(ticks) < 3:
            ticks = [tick for tick in locator.tick_values(low, high) if low <= tick <= high]
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)


class _TextRecorder(RendererAgg):
    """Records every line of text that a figure draws, with its box in pixels."""

    def __init__(self, figure: Figure) -> None:
        width, height = figure.bbox.size
        super().__init__(width, height, figure.dpi)  # type: ignore[no-untyped-call]
        self.lines: list[tuple[str, Bbox]] = []

    def draw_text(self, gc: Any, x: float, y: float, s: str, *style: Any, **more: Any) -> None:
        """Records the line instead of painting it; (x, y) is its baseline's left end, y down."""
        if not s.strip():
            return
        prop, angle = style
        measure: Any = self.get_text_width_height_descent
        width, height, descent = measure(s, prop, more.get("ismath", False))
        turn = radians(angle)
        corners = [
            (x + u * cos(turn) - v * sin(turn), self.height - y + u * sin(turn) + v * cos(turn))
            for u in (0.0, width)
            for v in (-descent, height - descent)
        ]
        xs, ys = zip(*corners, strict=True)
        self.lines.append((s, Bbox.from_extents(min(xs), min(ys), max(xs), max(ys))))


def freeze_layout(figure: Figure) -> None:
    """Computes the layout and fixes it, so that the figure is written exactly as it was checked.

    The layout solver sums in an order that varies between processes; its results are rounded to
    give the same file, because ids in the file are hashes of such numbers.
    """
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            sides = axes.get_position().bounds
            axes.set_position(Bbox.from_bounds(*(round(side, 5) for side in sides)))


def drawn_text(figure: Figure) -> list[tuple[str, Bbox]]:
    """The lines of text that the figure draws, each with its box in pixels, y up."""
    recorder = _TextRecorder(figure)
    figure.draw(recorder)
    return recorder.lines


def overlaps(figure: Figure, tolerance: float = 0.6) -> list[str]:
    """Descriptions of collisions in the figure's text, beyond a tolerance in pixels."""
    canvas = figure.bbox.padded(tolerance)
    lines = drawn_text(figure)
    problems = [
        f"{text!r} leaves the canvas"
        for text, box in lines
        if Bbox.union([box, canvas]).bounds != canvas.bounds
    ]
    for (one, a), (two, b) in combinations(lines, 2):
        if a.padded(-tolerance / 2).overlaps(b.padded(-tolerance / 2)):
            problems.append(f"{one!r} covers {two!r}")
    return problems


_REACHES = (3, 7, 12, 19, 28, 39, 52, 67, 86, 111)  # distances from the marker's rim, in pixels
_TURNS = tuple(2 * pi * k / 16 for k in range(16))
_FAR = 16  # with a leader line from here on
_COVERED = 4.0  # cost per covered square pixel of a marker or error bar
_AMBIGUOUS = 1e4  # cost of being nearer to another point: only where there is no other place


class Label(NamedTuple):
    """A text at a point, in data coordinates; ``rim`` is the marker's radius."""

    text: str
    x: float
    y: float
    rim: float = 3.0


def place_labels(axes: Axes, labels: Sequence[Label], obstacles: Sequence[Bbox] = ()) -> bool:
    """Writes labels beside their points without collisions; distant ones get a leader line.

    Each label takes the nearest of 160 places where it touches no other text and is inside the
    axes; it avoids the obstacles, boxes in pixels. The figure's layout is final. If a label has no
    such place, none is written and the result is False.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are on a figure
    recorder, occupied = _TextRecorder(figure), [box for _, box in drawn_text(figure)]
    inside = Bbox(axes.get_window_extent().get_points())
    points = [axes.transData.transform((label.x, label.y)) for label in labels]
    written: list[Artist] = []
    for label, point in zip(labels, points, strict=True):
        text = axes.annotate(
            label.text, (label.x, label.y), (0, 0), textcoords="offset points", fontsize=8,
            color=INK, ha="left", va="bottom", linespacing=1.15, zorder=5,
        )  # fmt: skip
        written.append(text)
        size = text.get_window_extent(recorder).size
        places: list[tuple[float, int, int, Bbox]] = []
        for reach, turn in product(_REACHES, _TURNS):
            way = np.array([cos(turn), sin(turn)])
            # The box's nearest edge or corner faces the point.
            corner = point + (label.rim + reach) * way - size * (0.5 - 0.5 * way)
            box = Bbox([corner, corner + size])
            outside = Bbox.union([box, inside]).bounds != inside.bounds
            if outside or box.padded(2).count_overlaps(occupied):
                continue
            shared = (Bbox.intersection(box, other) for other in obstacles)
            covered = sum(part.width * part.height for part in shared if part is not None)
            own = _distance(box, point)
            nearer = sum(_distance(box, other) < own for other in points)
            effort = reach + 3 * abs(way[1]) + _AMBIGUOUS * nearer + _COVERED * covered
            places.append((effort, len(places), reach, box))
        if not places:
            for artist in written:
                artist.remove()
            return False
        _, _, reach, box = min(places)
        occupied.append(box)
        text.set_position((box.x0 - point[0], box.y0 - point[1]))
        if reach >= _FAR:
            ends = np.array([np.clip(point, box.min, box.max), point]).T
            line = Line2D(*ends, color=MUTED, linewidth=0.5, zorder=1.5)
            line.set_transform(IdentityTransform())
            written.append(axes.add_artist(line))
    return True


def _distance(box: Bbox, point: np.ndarray) -> float:
    """Distance from a point to the nearest point of a box."""
    x, y = point
    return hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
