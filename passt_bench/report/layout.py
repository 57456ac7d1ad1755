"""Finds where a figure's text is drawn, and places labels without collisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import cos, hypot, pi, radians, sin
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from passt_bench.report.theme import INK, MUTED


class Box(NamedTuple):
    """A rectangle in pixels, origin bottom left."""

    x0: float
    y0: float
    x1: float
    y1: float


class _TextRecorder(RendererAgg):
    """Records every line of text that a figure draws, with its box."""

    def __init__(self, figure: Figure) -> None:
        width, height = figure.bbox.size
        super().__init__(width, height, figure.dpi)  # type: ignore[no-untyped-call]
        self.lines: list[tuple[str, Box]] = []

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
        self.lines.append((s, Box(min(xs), min(ys), max(xs), max(ys))))


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


def drawn_text(figure: Figure) -> list[tuple[str, Box]]:
    """The lines of text that the figure draws, each with its box."""
    recorder = _TextRecorder(figure)
    figure.draw(recorder)
    return recorder.lines


def overlaps(figure: Figure, tolerance: float = 0.6) -> list[str]:
    """Descriptions of collisions in the figure's text; empty if there are none.

    Args:
        figure: the figure as it will be written.
        tolerance: pixels by which boxes may overlap or extend over the edge.
    """
    width, height = figure.bbox.size
    problems = []
    lines = drawn_text(figure)
    for text, box in lines:
        if min(box.x0, box.y0, width - box.x1, height - box.y1) < -tolerance:
            problems.append(f"{text!r} leaves the canvas")
    for (one, a), (two, b) in combinations(lines, 2):
        if overlap(a, b, -tolerance / 2) > 0:
            problems.append(f"{one!r} covers {two!r}")
    return problems


def overlap(a: Box, b: Box, grow: float = 0.0) -> float:
    """Area shared by two boxes, both grown by that many pixels on each side."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0) + 2 * grow
    height = min(a.y1, b.y1) - max(a.y0, b.y0) + 2 * grow
    return width * height if width > 0 and height > 0 else 0.0


Point = tuple[float, float]

_RADII = (7, 11, 16, 23, 32, 43, 56, 71, 90, 115)  # distances from the marker's rim, in points
_ANGLES = 16
_FONT_SIZE = 8.0  # points
_AMBIGUOUS = 12.0  # cost of being nearer to another point
_COVERED = 4.0  # cost per covered square point of a marker or error bar


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point.

    Attributes:
        text: text of one or more lines.
        x: x of the point, in data coordinates.
        y: y of the point, in data coordinates.
        rim: radius of the point's marker, in points.
    """

    text: str
    x: float
    y: float
    rim: float = 3.0


def place_labels(axes: Axes, labels: Sequence[Label], obstacles: Sequence[Box] = ()) -> bool:
    """Writes labels beside their points without collisions; distant ones get a leader line.

    Greedy: points in the densest places come first and take the cheapest of some 160 positions;
    no label may touch another label, other text, or the edge of the axes, and it avoids obstacles.

    Args:
        axes: axes of a figure made under `theme.figure_style`, its layout final.
        labels: the labels to write.
        obstacles: boxes to avoid, e.g. markers and error bars.

    Returns:
        Whether every label has a place; if not, none is written.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are on a figure
    occupied = [box for _, box in drawn_text(figure)]
    pixels = [_pixel(axes, label) for label in labels]
    inside = Box(*axes.get_window_extent().extents)
    scale = figure.dpi / 72
    chosen: dict[int, Box] = {}
    for i in sorted(range(len(labels)), key=lambda i: (-_crowding(i, pixels), i)):
        width, height = _text_size(figure, labels[i].text)
        others = [point for j, point in enumerate(pixels) if j != i]
        positions = _positions(pixels[i], others, labels[i].rim * scale, width, height)
        costs = [
            (cost, number, box)
            for number, (box, effort) in enumerate(positions)
            if (cost := _cost(box, effort, inside, occupied, obstacles)) is not None
        ]
        best = min(costs, key=lambda item: item[:2], default=None)
        if best is None:
            return False
        chosen[i] = best[2]
        occupied.append(chosen[i])
    for i, box in chosen.items():
        _write(axes, labels[i], pixels[i], box)
    return True


def _pixel(axes: Axes, label: Label) -> Point:
    x, y = axes.transData.transform((label.x, label.y))
    return float(x), float(y)


def _crowding(i: int, pixels: Sequence[Point]) -> float:
    x, y = pixels[i]
    return sum(1 / (10 + hypot(x - a, y - b)) for j, (a, b) in enumerate(pixels) if j != i)


def _text_size(figure: Figure, text: str) -> tuple[float, float]:
    probe = figure.text(0, 0, text, fontsize=_FONT_SIZE, linespacing=1.15)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    box = probe.get_window_extent(renderer)
    probe.remove()
    return box.width, box.height


def _positions(
    point: Point, others: Sequence[Point], rim: float, width: float, height: float
) -> list[tuple[Box, float]]:
    """Boxes around a point, each with the cost of reading a label there.

    Level with the point costs least; distance and being nearer to another point cost more.
    """
    positions = []
    for radius in _RADII:
        for k in range(_ANGLES):
            turn = 2 * pi * k / _ANGLES
            x = point[0] + (rim + radius - 4) * cos(turn)
            y = point[1] + (rim + radius - 4) * sin(turn)
            # The box's nearest edge or corner faces the point.
            left = x - width * (0.5 - 0.5 * cos(turn))
            bottom = y - height * (0.5 - 0.5 * sin(turn))
            box = Box(left, bottom, left + width, bottom + height)
            own = _distance(box, point)
            nearer = sum(_distance(box, other) < own for other in others)
            positions.append((box, radius + 3 * abs(sin(turn)) + _AMBIGUOUS * nearer))
    return positions


def _distance(box: Box, point: Point) -> float:
    """Distance from a point to the nearest point of a box."""
    x = min(max(point[0], box.x0), box.x1)
    y = min(max(point[1], box.y0), box.y1)
    return hypot(x - point[0], y - point[1])


def _cost(
    box: Box, effort: float, inside: Box, occupied: Sequence[Box], obstacles: Sequence[Box]
) -> float | None:
    if box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1:
        return None
    if any(overlap(box, other, 1.0) for other in occupied):
        return None
    return effort + _COVERED * sum(overlap(box, other) for other in obstacles)


def _write(axes: Axes, label: Label, point: Point, box: Box) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    if _distance(box, point) * 72 / figure.dpi > label.rim + 9:
        near = (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))
        ends = axes.transData.inverted().transform([near, point])
        axes.plot(*ends.T, color=MUTED, linewidth=0.5, zorder=1.5, scalex=False, scaley=False)
    offset = (box.x0 - point[0]) * 72 / figure.dpi, (box.y0 - point[1]) * 72 / figure.dpi
    text = axes.annotate(
        label.text, (label.x, label.y), offset, textcoords="offset points", fontsize=_FONT_SIZE
    )
    text.set(linespacing=1.15, color=INK, ha="left", va="bottom", zorder=5)
