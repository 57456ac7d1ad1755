"""All figures of a study, one file a topic; each is data first, then a drawing of it."""

from __future__ import annotations

from passt_bench.report.figures.classes import classes
from passt_bench.report.figures.curves import curves
from passt_bench.report.figures.forest import forest
from passt_bench.report.figures.patches import patches
from passt_bench.report.figures.rates import rates
from passt_bench.report.figures.scaling import scaling
from passt_bench.report.figures.tradeoff import tradeoff
from passt_bench.report.layout import settle
from passt_bench.report.theme import Drawing, look
from passt_bench.report.view import StudyView

__all__ = ["NAMES", "Drawing", "draw_all"]

NAMES = (
    "quality_against_speed",
    "differences",
    "quality_against_rate",
    "cost_against_tokens",
    "quality_by_class",
    "learning_curves",
    "kept_patches",
)


def draw_all(view: StudyView) -> list[Drawing]:
    """Every figure in the order of the page, the main one first.

    Write them under `theme.look` too, see `theme.to_svg`.
    """
    with look():
        topics = (tradeoff, forest, rates, scaling, classes, curves, patches)
        drawings = [topic(view) for topic in topics]
        for drawing in drawings:
            if drawing.figure is not None:
                settle(drawing.figure)
        return drawings
