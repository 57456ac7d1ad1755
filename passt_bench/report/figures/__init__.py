"""All figures of a study's page, one file per figure; each is data first, then a drawing of it.

A figure is a function of a `view.StudyView` that returns a `theme.Drawing`, registered in
`registry.FIGURES` under the drawing's name. Figures of other packages follow those of this one.
`report.testing.FigureContract` tests the rules for figures.
"""

from __future__ import annotations

from passt_bench.registry import FIGURES
from passt_bench.report.figures import (
    budgets,
    classes,
    curves,
    forest,
    interaction,
    patches,
    rates,
    scaling,
    tradeoff,
)
from passt_bench.report.theme import Drawing, figure_style, freeze_layout, placeholder
from passt_bench.report.view import StudyView

_OWN = (
    *(tradeoff.NAME, forest.NAME, forest.CONTRASTS, interaction.NAME, budgets.NAME, rates.NAME),
    *(scaling.NAME, classes.NAME, curves.NAME, curves.VALIDATION, patches.NAME),
)
# Figures that only some studies can have, so that pages do not say that they are left out.
_OF_SOME = (forest.CONTRASTS, curves.VALIDATION, interaction.NAME, budgets.NAME)


def figure_names() -> list[str]:
    """All registered figures in the order of the page, the main one first."""
    others = [figure.name for figure in FIGURES.all() if figure.name not in _OWN]
    return [*_OWN, *others]


def draw_all(view: StudyView) -> list[Drawing]:
    """Every figure in the order of the page; write them under `theme.figure_style` too."""
    with figure_style():
        names = figure_names() if view.study.seeds else [scaling.NAME]
        if len({v.record.recipe.measurement.batch_size for v in view.variants}) > 1:
            names.remove(scaling.NAME)  # it shows whole steps, not clips
        if view.study.shared != "epochs":
            names.sort(key=lambda name: name != budgets.NAME)
        drawings = [] if view.study.seeds else [scaling.costs(view.variants), scaling.sweep(view)]
        drawings += [_draw(name, view) for name in names]
        drawings = [d for d in drawings if d.figure is not None or d.name not in _OF_SOME]
        for drawing in drawings:
            if drawing.figure is not None:
                freeze_layout(drawing.figure)
        return drawings


def _draw(name: str, view: StudyView) -> Drawing:
    figure = FIGURES.get(name)
    try:
        drawing: Drawing = figure.build(view)
    except Exception as error:  # an error in a plug-in must not prevent the page
        if name in _OWN:
            raise
        why = f"the figure of a plug-in failed ({type(error).__name__}: {error})."
        return placeholder(name, figure.summary, why)
    return drawing
