"""Maps two crossed factors: whether the effect of one depends on the level of the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib import colormaps

from passt_bench.registry import FIGURES
from passt_bench.report.text import Span, fixed, interval, listed, quoted, wrapped
from passt_bench.report.theme import Drawing, one_panel, placeholder
from passt_bench.report.view import StudyView, declared_pairs, gap_of
from passt_bench.spec.study import is_interaction

NAME, TITLE = "interaction", "The effect of one factor at each level of the other"
_MIN_RANGE = 0.02  # minimum end of the color scale, so that small differences stay pale
# Of so few colors the bar is drawn as shapes: as an image, dark mode would not turn it like cells.
_COLORS = colormaps["BrBG"].resampled(41)
_MAX_WRITTEN = 7  # maximum columns whose intervals fit into the cells


def interaction_data(view: StudyView) -> pd.DataFrame:
    """One row per cell of the map: its mean and difference to the baseline's row in its column.

    Variants are named ``ROW, COLUMN``, see `spec.study.factorial`. Left out are rows that share
    fewer than two columns with the baseline's, and columns of one row; empty if the study declares
    no contrast within the map. ``low`` and ``high`` are the interval that the page has of this
    difference, if it has one.
    """
    cut = {v.name: v.name.partition(", ")[::2] for v in view.variants}
    first, base = cut[view.study.baseline][0], view.study.baseline
    references = {column: name for name, (row, column) in cut.items() if row == first}
    shared = Counter(row for row, column in cut.values() if column in references)
    kept = {name: at for name, at in cut.items() if shared[at[0]] > 1 and at[1] in references}
    crossed = {column for row, column in kept.values() if row != first}
    known = {(v.name, base): v.difference for v in view.others}
    for (variant, other), c in declared_pairs(view).items():
        known[variant, other] = gap_of(c)
        known[other, variant] = Span(-c.difference, -c.high, -c.low)
    rows, means = [], {v.name: v.value.value for v in view.variants}
    for name, (row, column) in kept.items():
        if column in crossed:
            reference = references[column]
            gap = known.get((name, reference), Span(means[name] - means[reference]))
            rows.append((row, column, name, means[name], reference, *gap))
    columns = ["row", "column", "variant", "value", "reference", "difference", "low", "high"]
    data = pd.DataFrame(rows, columns=columns)
    declared = (w for family in view.study.contrasts.values() for w in family.values())
    return data if any({*w} <= {*data["variant"]} for w in declared) else data.iloc[:0]


@FIGURES.register(NAME, version=1, summary=TITLE)
def interaction(view: StudyView) -> Drawing:
    """Heat map of a factorial: levels of the first factor down, those of the second across."""
    data = interaction_data(view)
    if not data["value"].notna().any():
        return placeholder(NAME, TITLE, "the study declares no two crossed factors.")
    caption = (
        f"Mean {view.metric}, and below it the difference to {quoted(data['row'].iloc[0])} in the "
        "same column, with its interval where the page has that contrast. The color is the "
        "difference: teal above zero, brown below. If the effect does not depend on the other "
        f"factor, a row has one color. {_tests(view, data)}"
    )
    rows, columns = (list(dict.fromkeys(data[name])) for name in ("row", "column"))
    texts = [_cell(row, len(columns) <= _MAX_WRITTEN) for row in data.to_dict("records")]
    places = data.assign(text=texts).set_index(["row", "column"]).unstack("column")
    difference, text = (places[name].loc[rows, columns] for name in ("difference", "text"))
    limit = np.nanmax([_MIN_RANGE, *np.abs(difference.to_numpy()).flat])
    figure, axes = one_panel(0.66 * len(rows) + 0.7)
    seaborn.heatmap(
        difference, annot=text.fillna(""), fmt="", annot_kws={"fontsize": 8}, cmap=_COLORS,
        vmin=-limit, vmax=limit, linewidths=1.5, ax=axes,
        xticklabels=[wrapped(name, 22, 2) or "alone" for name in columns],
        yticklabels=[wrapped(name, 24, 3) for name in rows],
        cbar_kws={"label": "difference", "pad": 0.02, "aspect": 12},
    )  # fmt: skip
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.tick_params("y", rotation=0)
    axes.set(xlabel=None, ylabel=None)
    return Drawing(NAME, TITLE, caption, data, figure)


def _tests(view: StudyView, data: pd.DataFrame) -> str:
    """The declared interactions."""
    found = []
    for family, items in view.results.declared.items():
        for item in items:
            weights = view.study.contrasts.get(family, {}).get(item.variant, {})
            if {*weights} <= {*data["variant"]} and is_interaction(weights):
                found.append(f"{quoted(item.variant)} {interval(gap_of(item), sign=True)}")
    tests = f"declared contrasts test: {listed(found)}." if found else "no declared contrast tests."
    return f"Whether it does, {tests}"


def _cell(row: Mapping[Any, Any], written: bool) -> str:
    """The mean of a cell and, below the first row, its difference with the interval."""
    gap, value = Span(row["difference"], row["low"], row["high"]), fixed(row["value"], 3)
    if row["variant"] == row["reference"] or not gap.known:
        return value
    parts = interval(gap, sign=True).partition(" ")
    return "\n".join(filter(None, (value, parts[0], parts[2] if written else "")))
