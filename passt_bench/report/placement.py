"""Labels beside points, placed so that nothing collides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, hypot, pi, sin

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from passt_bench.report.layout import Box, drawn_text, overlap
from passt_bench.report.theme import INK, MUTED

Point = tuple[float, float]

_RADII = (7, 11, 16, 23, 32, 43, 56, 71, 90, 115)  # points from the marker's rim
_ANGLES = 16
_SIZE = 8.0  # of the font, in points
_MISLED = 12.0  # cost of standing nearer to another point
_SOFT = 4.0  # cost of covering a square point of a marker or error bar


@dataclass(frozen=True)
class Label:
    """A text that belongs to a point.

    Attributes:
        text: may hold line feeds.
        x: of the point, in data.
        y: of the point, in data.
        rim: radius of the point's marker, in points.
    """

    text: str
    x: float
    y: float
    rim: float = 3.0


def place_labels(axes: Axes, labels: Sequence[Label], obstacles: Sequence[Box] = ()) -> bool:
    """Writes labels beside their points where nothing collides; far ones get a leader line.

    Greedy: points in the densest places come first and take the cheapest of some 160 positions;
    no label may touch another label, other text, or the edge of the axes, and it shuns obstacles.

    Args:
        axes: of a figure made under `theme.look`, its layout final.
        labels: what to write.
        obstacles: boxes to be shunned, e.g. markers and error bars.

    Returns:
        Whether every label found a place; where not, none is written.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None  # axes are on a figure
    taken = [box for _, box in drawn_text(figure)]
    pixels = [_pixel(axes, label) for label in labels]
    inside = Box(*axes.get_window_extent().extents)
    scale = figure.dpi / 72
    chosen: dict[int, Box] = {}
    for i in sorted(range(len(labels)), key=lambda i: (-_crowd(i, pixels), i)):
        width, height = _text_size(figure, labels[i].text)
        others = [point for j, point in enumerate(pixels) if j != i]
        positions = _positions(pixels[i], others, labels[i].rim * scale, width, height)
        costs = [
            (cost, number, box)
            for number, (box, effort) in enumerate(positions)
            if (cost := _cost(box, effort, inside, taken, obstacles)) is not None
        ]
        best = min(costs, key=lambda item: item[:2], default=None)
        if best is None:
            return False
        chosen[i] = best[2]
        taken.append(chosen[i])
    for i, box in chosen.items():
        _write(axes, labels[i], pixels[i], box)
    return True


def _pixel(axes: Axes, label: Label) -> Point:
    x, y = axes.transData.transform((label.x, label.y))
    return float(x), float(y)


def _crowd(i: int, pixels: Sequence[Point]) -> float:
    x, y = pixels[i]
    return sum(1 / (10 + hypot(x - a, y - b)) for j, (a, b) in enumerate(pixels) if j != i)


def _text_size(figure: Figure, text: str) -> tuple[float, float]:
    probe = figure.text(0, 0, text, fontsize=_SIZE, linespacing=1.15)
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    box = probe.get_window_extent(renderer)
    probe.remove()
    return box.width, box.height


def _positions(
    point: Point, others: Sequence[Point], rim: float, width: float, height: float
) -> list[tuple[Box, float]]:
    """Boxes around a point, each with the effort of reading it there.

    Level with the point is easiest, far is harder, and nearer to another point misleads.
    """
    found = []
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
            misled = sum(_distance(box, other) < own for other in others)
            found.append((box, radius + 3 * abs(sin(turn)) + _MISLED * misled))
    return found


def _distance(box: Box, point: Point) -> float:
    """From a point to the nearest point of a box."""
    x = min(max(point[0], box.x0), box.x1)
    y = min(max(point[1], box.y0), box.y1)
    return hypot(x - point[0], y - point[1])


def _cost(
    box: Box, effort: float, inside: Box, taken: Sequence[Box], obstacles: Sequence[Box]
) -> float | None:
    if box.x0 < inside.x0 or box.x1 > inside.x1 or box.y0 < inside.y0 or box.y1 > inside.y1:
        return None
    if any(overlap(box, other, 1.0) for other in taken):
        return None
    return effort + _SOFT * sum(overlap(box, other) for other in obstacles)


def _write(axes: Axes, label: Label, point: Point, box: Box) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    if _distance(box, point) * 72 / figure.dpi > label.rim + 9:
        near = (min(max(point[0], box.x0), box.x1), min(max(point[1], box.y0), box.y1))
        ends = axes.transData.inverted().transform([near, point])
        axes.plot(
            ends[:, 0],
            ends[:, 1],
            color=MUTED,
            linewidth=0.5,
            zorder=1.5,
            scalex=False,
            scaley=False,
        )
    axes.annotate(
        label.text,
        (label.x, label.y),
        xytext=((box.x0 - point[0]) * 72 / figure.dpi, (box.y0 - point[1]) * 72 / figure.dpi),
        textcoords="offset points",
        fontsize=_SIZE,
        linespacing=1.15,
        color=INK,
        ha="left",
        va="bottom",
        zorder=5,
    )
