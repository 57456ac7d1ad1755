"""Plots quality against the share of patches dropped, one line per kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import isclose, isfinite

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from passt_bench.registry import FIGURES
from passt_bench.report import theme
from passt_bench.report.text import quoted, wrapped
from passt_bench.report.view import StudyView, VariantView
from passt_bench.spec import MeasurementSpec, Patchout, Recipe

NAME, TITLE = "quality_against_rate", "Quality against the share of patches dropped"
_SHIFT = 0.006  # between kinds of equal rate, so that all are visible
_ONE_RATE = 0.05  # kinds of one rate differ by less, because they drop whole rows and columns
_LINES: tuple[tuple[str, LineStyleType, str], ...] = (
    ("rising", ":", "rising over the training (mean share)"),
    ("falling", "-.", "falling over the training (mean share)"),
    ("sample", "--", "drawn per sample"),
)


def rates_data(view: StudyView) -> pd.DataFrame:
    """One row per variant, in groups that differ only in patchout (same model, stride, training).

    In a study with equal budgets a group has the FLOPs, or the epochs, of one of its variants, and
    of one that drops nothing if it can.
    Groups with a single rate, beside that of nothing dropped, are omitted: it is no axis.
    """
    groups: dict[Recipe, list[VariantView]] = {}
    budgets = view.study.shared != "epochs"
    for v in view.variants:
        if v.rate is not None:
            alike = replace(v.record.recipe, patchout=Patchout(), measurement=MeasurementSpec())
            if budgets:
                alike = replace(alike, training=replace(alike.training, steps=None))
            groups.setdefault(alike, []).append(v)
    panels: dict[str, list[VariantView]] = {}
    for members in groups.values():
        grid = members[0].record.grid
        assert grid is not None  # a rate needs one
        patches = f"{grid[0]} × {grid[1]} patches"
        if not budgets:
            panels[f"{patches} ({members[0].name})"] = members
        whole = [v for v in members if v.kind == "none"]
        for base, unit in product(whole or members, ("FLOPs", "epochs") if budgets else ()):
            cost = base.record.spent.get(unit.lower(), 0.0)
            costs = ((v, v.record.spent.get(unit.lower(), 0.0)) for v in members)
            own = [v for v, other in costs if isclose(other, cost, rel_tol=0.01)]
            if own not in panels.values():
                panels[f"{patches}, {unit} of {quoted(base.name)}"] = own
    rows = []
    for group, members in panels.items():
        dropped = [v.rate or 0.0 for v in members if v.kind != "none"]
        if not dropped or max(dropped) - min(dropped) < _ONE_RATE:
            continue
        for v in members:
            setting = (v.kind, _scope(v.record.recipe.patchout), v.rate, v.record.tokens)
            rows.append((group, v.name, *setting, view.metric, *v.value))
    columns = ["group", "variant", "kind", "scope", "rate", "tokens", "metric"]
    return pd.DataFrame(rows, columns=[*columns, "value", "value_low", "value_high"])


@FIGURES.register(NAME, version=1, summary=TITLE)
def rates(view: StudyView) -> theme.Drawing:
    """Quality by kind: x is the share of patches dropped, y the metric with its interval."""
    data = rates_data(view)
    if data.empty or not data["value"].notna().any():
        return theme.placeholder(
            NAME, TITLE, "no two variants with a result differ only in the rate of patchout."
        )
    caption = (
        f"Mean {view.metric} with its 95 % interval against the share of the patch grid that "
        "training drops; the variants of a panel differ only in patchout, and where they share a "
        "budget in the number of steps. Kinds are shifted by at most 0.012 to stay visible."
    )
    groups = list(dict.fromkeys(data["group"]))
    columns = min(2, len(groups))
    figure, panels = theme.panel_grid(len(groups), columns, 3.1, 1.0, shared=True)
    styles = theme.kind_styles(data["kind"])
    for axes, group in zip(panels, groups, strict=True):
        _draw_panel(axes, data[data["group"] == group], styles)
        axes.set_title(wrapped(group, 100 // columns - 8, 2))
        axes.set_xlabel("share of patches dropped")
        axes.set_ylabel(view.metric)
        axes.label_outer()
    theme.limit_quality(panels[0], data)
    handles = theme.kind_handles(data["kind"])
    if data["value"].isna().any():  # a cross on the axis
        handles.append(
            Line2D([], [], color=theme.INK, marker="x", linestyle="none", label="no result")
        )
    for word, style, label in _LINES:
        if data["scope"].str.contains(word).any():
            handles.append(Line2D([], [], color=theme.INK, linestyle=style, label=label))
    figure.legend(handles=handles, loc="outside upper left", ncols=min(6, len(handles)))
    return theme.Drawing(NAME, TITLE, caption, data, figure)


def _scope(setting: Patchout) -> str:
    """``batch`` or ``sample``, and the schedule if not constant; empty without patchout."""
    if setting.kind == "none":
        return ""
    constant = setting.schedule == "constant"
    return setting.scope if constant else f"{setting.scope}, {setting.schedule}"


def _draw_panel(axes: Axes, data: pd.DataFrame, styles: dict[str, theme.Style]) -> None:
    origin = data[data["kind"] == "none"]
    series = list(data.groupby(["kind", "scope"], sort=True))
    for number, ((kind, scope), members) in enumerate(series):
        style = styles[str(kind)]
        shift = _SHIFT * (number - (len(series) - 1) / 2)
        line = members if kind == "none" else pd.concat([origin, members])
        line = line[line["value"].notna()].sort_values("rate")
        x = line["rate"] + shift * (line["kind"] != "none")
        axes.plot(
            x, line["value"], color=style.color, linewidth=1.2,
            linestyle=next((dashes for word, dashes, _ in _LINES if word in str(scope)), "-"),
        )  # fmt: skip
        for row in members.to_dict("records"):
            x = row["rate"] + shift * (kind != "none")
            if not isfinite(row["value"]):
                theme.draw_cross(axes, x, style.color)
                continue
            axes.plot(x, row["value"], marker=style.marker, color=style.color, markersize=5)
            axes.plot([x, x], [row["value_low"], row["value_high"]], color=style.color, lw=1.0)
    axes.set_xlim(-0.04, 1.0)
