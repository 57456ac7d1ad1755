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
from passt_bench.report.figures.costs import costs
from passt_bench.report.theme import Drawing, figure_style, freeze_layout, placeholder
from passt_bench.report.view import StudyView

_OWN = (
    *(tradeoff.NAME, forest.NAME, forest.CONTRASTS, interaction.NAME, budgets.NAME, rates.NAME),
    *(scaling.NAME, classes.NAME, curves.NAME, curves.VALIDATION, patches.NAME),
)


def figure_names() -> list[str]:
    """All registered figures in the order of the page, the main one first."""
    others = [figure.name for figure in FIGURES.all() if figure.name not in _OWN]
    return [*_OWN, *others]


def draw_all(view: StudyView) -> list[Drawing]:
    """Every figure in the order of the page; write them under `theme.figure_style` too."""
    with figure_style():
        names = figure_names() if view.study.seeds else [scaling.NAME]
        if len({v.record.recipe.measurement.batch_size for v in view.variants}) > 1:
            names = [name for name in names if name != scaling.NAME]  # whole steps, not clips
        absent = set() if view.results.declared else {forest.CONTRASTS}
        absent |= set() if curves.validation_curve(view) else {curves.VALIDATION}
        absent |= {interaction.NAME} if interaction.interaction_data(view).empty else set()
        if budgets.budgets_data(view).empty:
            absent.add(budgets.NAME)
        elif view.study.shared != "epochs":
            names = [budgets.NAME, *(name for name in names if name != budgets.NAME)]
        names = [name for name in names if name not in absent]
        drawings = [] if view.study.seeds else [costs(view.variants), scaling.sweep(view)]
        drawings += [_draw(name, view) for name in names]
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
