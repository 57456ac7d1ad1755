"""Draws quality by class group, or by class if the data set has no groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from passt_bench.registry import FIGURES, METRICS
from passt_bench.report.text import NAN, quoted, wrapped
from passt_bench.report.theme import WIDTH, Drawing, placeholder
from passt_bench.report.view import StudyView, VariantView

NAME, TITLE = "quality_by_class", "Quality by class"
_MAX_COLUMNS = 40  # of more classes those are drawn in which variants differ most
_MIN_RANGE = 0.25  # minimum end of the color scale, so that small differences stay pale
_MAX_WRITTEN = 12  # maximum columns with a number written in each cell


def class_values(view: StudyView, variant: VariantView) -> dict[str, float]:
    """Class → mean over the variant's runs, without classes that no run scored."""
    per_run = [_scores(run.per_class, view.metric) for run in variant.ok_runs]
    names = dict.fromkeys(name for scores in per_run for name in scores)
    return {
        name: float(np.mean([scores[name] for scores in per_run if name in scores]))
        for name in names
    }


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


def classes_data(view: StudyView) -> pd.DataFrame:
    """One row per variant and class group (or class): its mean and difference to the baseline."""
    base = group_values(view, class_values(view, view.baseline))
    rows = []
    for v in view.variants:
        for group, value in group_values(view, class_values(view, v)).items():
            number, difference = len(view.groups.get(group, (group,))), value - base.get(group, NAN)
            rows.append((v.name, group, number, value, difference, len(v.ok_runs)))
    columns = ["variant", "group", "classes", "value", "difference", "runs"]
    return pd.DataFrame(rows, columns=columns)


@FIGURES.register(NAME, version=1, summary=TITLE)
def classes(view: StudyView) -> Drawing:
    """Heat map: x is the class group or class, y the variant, color the difference."""
    data = classes_data(view)
    if data.empty:
        return placeholder(NAME, TITLE, "no record holds values by class yet.")
    across = data["group"].nunique()
    what = "class groups" if view.groups else "classes"
    caption = (
        f"Mean {score_name(view)} over {'the classes of a group and over ' * bool(view.groups)}"
        f"seeds and folds, variants down and {what} across. The color is the difference to "
        f"{quoted(view.baseline.name)}: teal above it, brown below, white the same."
    )
    if across <= _MAX_WRITTEN:
        caption += " The number is the value itself."
    if across > _MAX_COLUMNS:
        caption += (
            f" Drawn are the {_MAX_COLUMNS} of {across} classes in which variants differ most."
        )
    return Drawing(NAME, TITLE, caption, data, draw_classes(data))


def draw_classes(data: pd.DataFrame) -> Figure:
    """Draws `classes_data`."""
    order = list(dict.fromkeys(data["variant"]))
    value = data.pivot(index="variant", columns="group", values="value").loc[order]
    value = value[_columns(data, value)]
    difference = data.pivot(index="variant", columns="group", values="difference").loc[order]
    difference = difference[list(value.columns)]
    written = value.shape[1] <= _MAX_WRITTEN
    names = [wrapped(name, 30, 2) for name in order]
    height = sum(0.16 * name.count("\n") + 0.27 for name in names) + (0.9 if written else 1.9)
    figure = Figure(figsize=(WIDTH, max(2.4, height)), layout="constrained")
    axes = figure.subplots()
    limit = np.nanmax([_MIN_RANGE, *np.abs(difference.to_numpy()).flat])
    seaborn.heatmap(
        # What differs from a baseline without a result has no color, but its number.
        difference.fillna(0.0).where(value.notna()),
        annot=value if written else None, fmt=".2f", annot_kws={"fontsize": 8},
        cmap="BrBG", vmin=-limit, vmax=limit, ax=axes,
        xticklabels=[wrapped(str(name), 18, 2) for name in value.columns], yticklabels=names,
        cbar_kws={"label": "difference to the baseline", "shrink": 0.8, "pad": 0.02, "aspect": 24},
    )  # fmt: skip
    axes.tick_params(length=0, labeltop=written, labelbottom=not written)
    axes.tick_params("x", rotation=0 if written else 90)
    axes.tick_params("y", rotation=0)
    axes.set(xlabel=None, ylabel=None)
    return figure


def _columns(data: pd.DataFrame, value: pd.DataFrame) -> list[str]:
    """At most `_MAX_COLUMNS` groups, those in which variants differ most, in their own order."""
    order = list(dict.fromkeys(data["group"]))
    if len(order) <= _MAX_COLUMNS:
        return order
    spread = (value.max() - value.min()).sort_index().sort_values(ascending=False, kind="stable")
    widest = set(spread.index[:_MAX_COLUMNS])
    return [name for name in order if name in widest]
