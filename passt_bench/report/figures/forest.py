"""Draws differences to the baseline with intervals, margin and verdicts (a forest plot)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from passt_bench.analysis.compare import Comparison
from passt_bench.registry import FIGURES
from passt_bench.report.text import Span, interval, quoted, wrapped
from passt_bench.report.theme import BAND, INK, MUTED, VERDICTS, Drawing, one_panel, placeholder
from passt_bench.report.view import StudyView, finding, gap_of

NAME, TITLE = "differences", "Differences to the baseline"
CONTRASTS, CONTRASTS_TITLE = "contrasts", "Contrasts between variants"


def forest_data(items: Iterable[tuple[Comparison, str, str]], last: str) -> pd.DataFrame:
    """One row per comparison, with its verdict; ``last`` names what is third of each item."""
    rows = [(c.variant, *gap_of(c), verdict, c.n, c.margin, end) for c, verdict, end in items]
    columns = ["variant", "difference", "low", "high", "verdict", "blocks", "margin", last]
    return pd.DataFrame(rows, columns=columns)


@FIGURES.register(CONTRASTS, version=1, summary=CONTRASTS_TITLE)
def contrasts(view: StudyView) -> Drawing:
    """Forest plot of the contrasts that the study declares."""
    declared = view.results.declared.items()
    found = ((c, finding(c), family) for family, items in declared for c in items)
    data = forest_data(found, "family")
    if not data["difference"].notna().any():
        return placeholder(CONTRASTS, CONTRASTS_TITLE, "the study declares none.")
    caption = (
        f"Each row is a sum of means of {view.metric} with its interval; those of a family cover "
        f"together with {view.coverage}. Inside the shaded band (±{view.margin:g}) a difference "
        "of two means is the same."
    )
    figure = draw_forest(data, f"contrast in {view.metric}")
    return Drawing(CONTRASTS, CONTRASTS_TITLE, caption, data, figure)


@FIGURES.register(NAME, version=1, summary=TITLE)
def forest(view: StudyView) -> Drawing:
    """Forest plot: x is the difference to the baseline with its interval, y the variant."""
    found = ((v.comparison, v.verdict, v.cells) for v in view.others if v.comparison)
    data = forest_data(found, "cells")
    if not data["difference"].notna().any():
        return placeholder(NAME, TITLE, "nothing can be compared with the baseline yet.")
    side = "Right" if view.better == "greater" else "Left"
    caption = (
        f"Each row is a variant's {view.metric} minus that of {quoted(view.baseline.name)}, with "
        f"its interval; they cover {view.together}. {side} of zero is better; "
        f"a difference is the same if its interval is inside the shaded band (±{view.margin:g})."
    )
    figure = draw_forest(data, f"difference in {view.metric} to the baseline")
    return Drawing(NAME, TITLE, caption, data, figure)


def draw_forest(data: pd.DataFrame, label: str) -> Figure:
    """Draws `forest_data`, the first variant on top, contrasts below their families."""
    names = [wrapped(name, 30) for name in data["variant"]]
    lines = np.array([name.count("\n") + 1 for name in names], dtype=float)
    own = np.maximum(0.26, 0.155 * lines + 0.06)  # inches
    family = data["family"] if "family" in data else pd.Series("", index=data.index)
    first = (family.ne(family.shift()) & family.ne("")).to_numpy()
    heights = own + 0.28 * first
    centres = np.cumsum(heights) - own / 2
    figure, axes = one_panel(heights.sum() + 1.0)
    margin = float(data["margin"].max())
    axes.axvspan(-margin, margin, color=BAND, zorder=0)
    for end, width in ((0.0, 0.9), (-margin, 0.4), (margin, 0.4)):
        axes.axvline(end, color=MUTED, linewidth=width, zorder=1)
    for row, y in zip(data.to_dict("records"), centres, strict=True):
        span = Span(row["difference"], row["low"], row["high"])
        _draw_row(axes, span, float(y), row["verdict"], str(row.get("cells", "")))
    for name, y in zip(family[first], (centres - own / 2 - 0.12)[first], strict=True):
        style: Any = {"fontweight": "bold", "color": INK, "va": "center", "fontsize": 8}
        axes.text(0.0, y, name, transform=axes.get_yaxis_transform(), **style)
    axes.set_ylim(heights.sum(), 0)
    axes.set_yticks(centres, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.04)
    axes.set_xlabel(label)
    return figure


def _draw_row(axes: Axes, span: Span, y: float, verdict: str, cells: str) -> None:
    style = VERDICTS[verdict]
    if not span.known:
        what = verdict if verdict == "not estimable" else "no result"
        _write_beside(axes, y, 10, f"{style.sign} {what}: {cells}", color=INK)
        return
    if span.has_interval:
        axes.plot([span.low, span.high], [y, y], color=style.color, linewidth=1.6, zorder=2)
    axes.plot(span.value, y, marker=style.marker, color=style.color, markersize=6, zorder=3)
    text = f"{style.sign} {verdict}"
    _write_beside(axes, y, 10, text, color=style.color, fontweight="bold")
    _write_beside(axes, y, 84, interval(span, sign=True), color=INK)


def _write_beside(axes: Axes, y: float, points: float, text: str, **style: Any) -> None:
    """Text to the right of the axes, level with a row."""
    style |= {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate(text, (1.0, y), (points, 0), va="center", fontsize=8, **style)
