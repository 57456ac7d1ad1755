"""Draws differences by class group, or by class if the data set has no groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from passt_bench.analysis.compare import block_tables, judged_cells
from passt_bench.analysis.statistics import contrasts
from passt_bench.registry import FIGURES, METRICS
from passt_bench.report.sentences import has_budgets
from passt_bench.report.text import NAN, quoted, wrapped
from passt_bench.report.theme import MUTED, RULE, Drawing, panel_grid, placeholder
from passt_bench.report.view import StudyView, VariantView, declared_pairs

NAME, TITLE = "quality_by_class", "Differences by class, without verdicts"
_COLOR = "#0072b2"
_MAX_PANELS = 4
_MAX_CLASSES = 50  # of more classes those are drawn in which variants differ most


def class_values(view: StudyView, variant: VariantView) -> dict[str, float]:
    """Class → mean over the variant's runs, without classes that no run scored."""
    scores = pd.DataFrame([_scores(run.per_class, view.metric) for run in variant.ok_runs])
    return {str(name): float(value) for name, value in scores.mean().items()}


def _scores(per_class: Mapping[str, Mapping[str, float]], metric: str) -> Mapping[str, float]:
    if metric in per_class:
        return per_class[metric]
    return per_class[min(per_class)] if per_class else {}


def score_name(view: StudyView) -> str:
    """Name of the per-class metric: the study's metric if runs recorded it by class."""
    names = {name for v in view.variants for run in v.ok_runs for name in run.per_class}
    name = view.metric if view.metric in names or not names else min(names)
    known = {item.name: item.build.per_class_name for item in METRICS.all()}
    return known.get(name) or name


def group_values(view: StudyView, values: Mapping[str, float]) -> dict[str, float]:
    """Class group → mean over its scored classes; class → value if there are no groups."""
    if not view.groups:
        return dict(values)
    scored = {
        group: [values[name] for name in names if name in values]
        for group, names in view.groups.items()
    }
    return {group: float(np.mean(scores)) for group, scores in scored.items() if scores}


def compared(view: StudyView) -> dict[tuple[str, str], str]:
    """Pairs of variants and the names of their differences: with the baseline, or as declared.

    With budgets, a difference to the baseline mostly shows that longer training helps.
    """
    if has_budgets(view) and (pairs := declared_pairs(view)):
        return {(variant, other): f"{variant} − {other}" for variant, other in pairs}
    return {(v.name, view.baseline.name): v.name for v in view.others}


def classes_data(view: StudyView) -> pd.DataFrame:
    """One row per compared variant and class group (or class): the difference by seed.

    ``low`` and ``high`` are its 95 % interval, not adjusted for classes or variants.
    """
    scores = {
        run.key: group_values(view, _scores(run.per_class, view.metric))
        for v in view.variants
        for run in v.ok_runs
    }
    table = pd.DataFrame.from_dict(scores, orient="index").add_prefix("class/")
    joined, pairs = view.results.cells.join(table, on="key"), compared(view)
    cells = judged_cells(view.study, joined)[2]
    weights = [[(v.name == a) - (v.name == b) for v in view.variants] for a, b in pairs]
    rows = []
    for column in map(str, table if pairs else ()):
        y, *folds = (part.to_numpy(float) for part in block_tables(view.study, cells, column))
        group, found = column.removeprefix("class/"), contrasts(y, weights, folds, draws=1)
        for name, c in zip(pairs.values(), found, strict=True):
            # Rounded, else rounding errors decide the order of ties.
            rows.append((name, group, round(c.estimate, 9) + 0.0, *c.single, c.n))
    columns = ["compared", "group", "difference", "low", "high", "blocks"]
    return pd.DataFrame(rows, columns=columns).dropna(subset=["difference"])


@FIGURES.register(NAME, version=2, summary=TITLE)
def classes(view: StudyView) -> Drawing:
    """Differences with intervals: a panel per class group and rows of variants, or the reverse."""
    data = classes_data(view)
    if data.empty:
        return placeholder(NAME, TITLE, "no record holds values by class yet.")
    groups, drawn = data["group"].nunique(), data
    of_groups = groups <= _MAX_PANELS
    other = next((f"to {quoted(b)}" for (a, b), name in compared(view).items() if a == name), "")
    caption = (
        f"Differences {other or 'between variants'} in {score_name(view)}"
        f"{', averaged over the classes of a group' * bool(view.groups)}, with 95 % intervals over "
        "seeds (from three on); those of filled marks exclude zero."
    )
    if not of_groups:
        drawn = _widest(data[data["compared"].isin(data["compared"].unique()[:_MAX_PANELS])])
        caption += (
            f" Drawn are up to {_MAX_PANELS} variants and {min(groups, _MAX_CLASSES)} of {groups} "
            "classes, those that differ most, by the mean of their differences."
        )
    if number := int(drawn["low"].notna().sum()):
        chance = f"of {number}, about {0.05 * number:.2g} exclude zero by chance"
        caption += f" They are not adjusted for their number: {chance}."
    return Drawing(NAME, TITLE, caption, data, draw_classes(drawn, of_groups, score_name(view)))


def _widest(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of the classes in which variants differ most, by the mean of their differences."""
    by_class = data.groupby("group")["difference"]
    kept = by_class.agg(lambda x: x.abs().max()).nlargest(_MAX_CLASSES).index
    data = data[data["group"].isin(kept)]
    return data.iloc[(-data["group"].map(by_class.mean())).argsort(kind="stable")]


def draw_classes(data: pd.DataFrame, of_groups: bool, metric: str) -> Figure:
    """Draws `classes_data`: a panel per group, or per variant."""
    panel, row = ("group", "compared") if of_groups else ("compared", "group")
    titles, rows = (list(dict.fromkeys(data[name])) for name in (panel, row))
    names = [wrapped(str(name), 30, 2 if of_groups else 1) for name in rows]
    height = sum(0.15 + 0.11 * of_groups + 0.13 * name.count("\n") for name in names)
    figure, panels = panel_grid(len(titles), len(titles), height + 0.45, 0.35, shared=True)
    place = {name: y for y, name in enumerate(rows)}
    for axes, title in zip(panels, titles, strict=True):
        _draw_panel(axes, data[data[panel] == title], place, row)
        axes.set_title(wrapped(str(title), 100 // len(titles) - 2, 2), fontsize=8)
    panels[0].set_yticks(range(len(rows)), names, fontsize=8 if of_groups else 7)
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.supxlabel(f"difference in {metric}", fontsize=9)
    return figure


def _draw_panel(axes: Axes, data: pd.DataFrame, place: Mapping[str, int], row: str) -> None:
    axes.grid(visible=False, axis="y")
    guides = {"color": RULE, "linewidth": 0.4, "transform": axes.get_yaxis_transform()}
    _draw_lines(axes, np.zeros(len(place)), np.ones(len(place)), [*place.values()], **guides)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    y, real = data[row].map(place), (data["low"] > 0) | (data["high"] < 0)
    _draw_lines(axes, data["low"], data["high"], y, color=_COLOR, linewidth=1.2)
    for chosen, face in ((real, _COLOR), (~real, "white")):
        look: Any = {"color": _COLOR, "markerfacecolor": face, "markeredgewidth": 0.8}
        axes.plot(data["difference"][chosen], y[chosen], "o", markersize=4, **look)


def _draw_lines(axes: Axes, low: ArrayLike, high: ArrayLike, y: ArrayLike, **look: Any) -> None:
    """Horizontal lines as one path with gaps, which takes a third of the bytes of many paths."""
    x = np.column_stack([low, high, np.full(len(np.asarray(y)), NAN)]).ravel()
    axes.plot(x, np.repeat(np.asarray(y), 3), **look)
