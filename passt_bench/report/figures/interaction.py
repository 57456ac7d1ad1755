"""Maps two crossed factors: whether the effect of one depends on the level of the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from passt_bench.registry import FIGURES
from passt_bench.report.text import Span, fixed, interval, listed, quoted, wrapped
from passt_bench.report.theme import WIDTH, Drawing, placeholder
from passt_bench.report.view import StudyView, declared_pairs

NAME, TITLE = "interaction", "The effect of one factor at each level of the other"
_MIN_RANGE = 0.02  # minimum end of the color scale, so that small differences stay pale
_MAX_WRITTEN = 7  # maximum columns whose intervals fit into the cells
Level = tuple[str, str]  # of both factors


def levels(view: StudyView) -> dict[str, Level]:
    """Variant → its levels of the two factors that the study declares; empty if it does not.

    Names are ``LEVEL, LEVEL``, see `spec.study.factorial`. Left out are rows that share fewer than
    two columns with the baseline's, and columns of one row. A declared contrast is within the map.
    """
    cut = {v.name: v.name.partition(", ")[::2] for v in view.variants}
    first = cut[view.study.baseline][0]
    columns = [column for row, column in cut.values() if row == first]
    shared = Counter(row for row, column in cut.values() if column in columns)
    rows = [row for row, number in shared.items() if number > 1]
    crossed = {column for row, column in cut.values() if row in rows and row != first}
    found = {n: at for n, at in cut.items() if at[0] in rows and at[1] in crossed & {*columns}}
    declared = (w for family in view.study.contrasts.values() for w in family.values())
    return found if any({*w} <= {*found} for w in declared) else {}


def interaction_data(view: StudyView) -> pd.DataFrame:
    """One row per cell of the map: its mean and difference to the first row of its column.

    ``low`` and ``high`` are the interval that the page has of this difference, if it has one.
    """
    places, known = levels(view), _differences(view)
    means = {v.name: v.value.value for v in view.variants}
    base_row = view.study.baseline.partition(", ")[0]
    references = {column: name for name, (row, column) in places.items() if row == base_row}
    rows = []
    for name, (row, column) in places.items():
        reference = references[column]
        gap = known.get((name, reference), Span(means[name] - means[reference]))
        rows.append((row, column, name, means[name], reference, gap.value, gap.low, gap.high))
    columns = ["row", "column", "variant", "value", "reference", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _differences(view: StudyView) -> dict[tuple[str, str], Span]:
    """(variant, other) → their difference, of declared contrasts, else as with the baseline."""
    found = {(v.name, view.study.baseline): v.difference for v in view.others}
    for (variant, other), c in declared_pairs(view).items():
        found[variant, other] = Span(c.difference, c.low, c.high)
        found[other, variant] = Span(-c.difference, -c.high, -c.low)
    return found


@FIGURES.register(NAME, version=1, summary=TITLE)
def interaction(view: StudyView) -> Drawing:
    """Heat map of a factorial: levels of the first factor down, those of the second across."""
    data = interaction_data(view)
    if data.empty or not data["value"].notna().any():
        return placeholder(NAME, TITLE, "the study declares no two crossed factors.")
    first = data["row"].iloc[0]
    caption = (
        f"Mean {view.metric}, and below it the difference to {quoted(first)} in the same column, "
        "with the interval of the tables above where the page has that contrast. The color is the "
        "difference: teal above zero, brown below. If the effect does not depend on the other "
        f"factor, a row has one color. {_tests(view)}"
    )
    return Drawing(NAME, TITLE, caption, data, draw_interaction(data))


def _tests(view: StudyView) -> str:
    """The declared contrasts that show whether the effect depends on the other factor."""
    places, found = levels(view), []
    for family, items in view.results.declared.items():
        for item in items:
            if _is_interaction(view.study.contrasts.get(family, {}).get(item.variant), places):
                gap = interval(Span(item.difference, item.low, item.high), sign=True)
                found.append(f"{quoted(item.variant)} {gap}")
    if not found:
        return "No declared contrast tests whether it does."
    return f"Whether it does, declared contrasts test: {listed(found)}."


def _is_interaction(weights: Mapping[str, float] | None, places: Mapping[str, Level]) -> bool:
    """Whether weights within the map add up to zero in each of its rows and columns."""
    if not weights or not {*weights} <= {*places}:
        return False
    sums: dict[tuple[int, str], float] = defaultdict(float)
    for name, weight in weights.items():
        for factor, level in enumerate(places[name]):
            sums[factor, level] += weight
    return max(map(abs, sums.values())) < 1e-9


def draw_interaction(data: pd.DataFrame) -> Figure:
    """Draws `interaction_data`."""
    rows, columns = (list(dict.fromkeys(data[name])) for name in ("row", "column"))
    written = len(columns) <= _MAX_WRITTEN
    data = data.assign(text=[_cell(row, written) for row in data.to_dict("records")])
    shape = (data.pivot(index="row", columns="column", values=v) for v in ("difference", "text"))
    difference, text = (table.reindex(index=rows, columns=columns) for table in shape)
    limit = np.nanmax([_MIN_RANGE, *np.abs(difference.to_numpy()).flat])
    figure = Figure(figsize=(WIDTH, 0.66 * len(rows) + 0.7), layout="constrained")
    axes = figure.subplots()
    seaborn.heatmap(
        difference, annot=text.fillna(""), fmt="", annot_kws={"fontsize": 8}, cmap="BrBG",
        vmin=-limit, vmax=limit, linewidths=1.5, ax=axes,
        xticklabels=[wrapped(name, 22, 2) or "alone" for name in columns],
        yticklabels=[wrapped(name, 24, 3) for name in rows],
        cbar_kws={"label": "difference", "pad": 0.02, "aspect": 12},
    )  # fmt: skip
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.tick_params("y", rotation=0)
    axes.set(xlabel=None, ylabel=None)
    return figure


def _cell(row: Mapping[Any, Any], written: bool) -> str:
    """The mean of a cell and, below the first row, its difference with the interval."""
    gap, value = Span(row["difference"], row["low"], row["high"]), fixed(row["value"], 3)
    if row["variant"] == row["reference"] or not gap.known:
        return value
    parts = interval(gap, sign=True).partition(" ")
    return "\n".join(filter(None, (value, parts[0], parts[2] if written else "")))
