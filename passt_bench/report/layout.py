"""Text on figures: where it is really drawn, and whether it collides."""

from __future__ import annotations

from itertools import combinations
from math import cos, radians, sin
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox


class Box(NamedTuple):
    """A rectangle in pixels, origin bottom left."""

    x0: float
    y0: float
    x1: float
    y1: float


class _TextRecorder(RendererAgg):
    """Notes every line of text that a figure draws, with the box that it fills."""

    def __init__(self, figure: Figure) -> None:
        width, height = figure.bbox.size
        super().__init__(width, height, figure.dpi)  # type: ignore[no-untyped-call]
        self.lines: list[tuple[str, Box]] = []

    def draw_text(
        self,
        gc: Any,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        """Notes the line instead of painting it; (x, y) is its baseline's left end, y down."""
        if not s.strip():
            return
        extent = self.get_text_width_height_descent(s, prop, ismath)  # type: ignore[no-untyped-call]
        width, height, descent = extent
        turn = radians(angle)
        corners = [
            (x + u * cos(turn) - v * sin(turn), self.height - y + u * sin(turn) + v * cos(turn))
            for u in (0.0, width)
            for v in (-descent, height - descent)
        ]
        xs, ys = zip(*corners, strict=True)
        self.lines.append((s, Box(min(xs), min(ys), max(xs), max(ys))))


def settle(figure: Figure) -> None:
    """Lays the figure out once and for all: what is checked and written later is the same.

    The solver of the layout sums in an order that varies from process to process; rounded, its
    answers give the same file, whose ids are hashes of such numbers.
    """
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for axes in figure.axes:
            sides = axes.get_position().bounds
            axes.set_position(Bbox.from_bounds(*(round(side, 5) for side in sides)))


def drawn_text(figure: Figure) -> list[tuple[str, Box]]:
    """Every line of text that the figure draws, with its box."""
    recorder = _TextRecorder(figure)
    figure.draw(recorder)
    return recorder.lines


def overlaps(figure: Figure, tolerance: float = 0.6) -> list[str]:
    """What is wrong with the figure's text, in words; empty where all is well.

    Args:
        figure: as it will be written.
        tolerance: pixels by which boxes may run into each other or over the edge.
    """
    width, height = figure.bbox.size
    found = []
    lines = drawn_text(figure)
    for text, box in lines:
        if min(box.x0, box.y0, width - box.x1, height - box.y1) < -tolerance:
            found.append(f"{text!r} leaves the canvas")
    for (one, a), (two, b) in combinations(lines, 2):
        if overlap(a, b, -tolerance / 2) > 0:
            found.append(f"{one!r} covers {two!r}")
    return found


def overlap(a: Box, b: Box, grow: float = 0.0) -> float:
    """Area shared by two boxes, both grown by that many pixels on each side."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0) + 2 * grow
    height = min(a.y1, b.y1) - max(a.y0, b.y0) + 2 * grow
    return width * height if width > 0 and height > 0 else 0.0
