"""Plots quality against what a training costs, one line per model and patchout."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from passt_bench.analysis.budgets import group_of, relative_seconds, series_names
from passt_bench.registry import FIGURES
from passt_bench.report import theme
from passt_bench.report.text import unit_for
from passt_bench.report.view import StudyView, mean

NAME, TITLE = "quality_against_cost", "Quality against the cost of the training"
_MARKERS = ("D", "v", "P", "X")  # of further series of a kind
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (1, 3)), (0, (6, 2, 1, 2)))


def budgets_data(view: StudyView) -> pd.DataFrame:
    """One row per variant that was trained: FLOPs, time, seconds, epochs of a training, and value.

    ``time`` is that of its steps as measured in the cost session, divided by the baseline's;
    ``seconds`` is the wall time of the training itself. Variants of one model and patchout are a
    ``series``; empty if no series has two budgets.
    """
    rows, names = [], series_names(view.study)
    times = relative_seconds(view.study, view.results.arms)
    for v in view.variants:
        if not v.record.spent or not v.value.known:
            continue
        seconds = mean(run.clocks.get("train") for run in v.ok_runs)
        spent, time = v.record.spent, times.get(v.name, float("nan"))
        cost = (spent["flops"], time, seconds, spent["epochs"])
        rows.append((names[group_of(v.record)], v.kind, v.name, *cost, view.metric, *v.value))
    columns = ["series", "kind", "variant", "flops", "time", "seconds", "epochs", "metric"]
    data = pd.DataFrame(rows, columns=[*columns, "value", "value_low", "value_high"])
    several = data.groupby("series")["flops"].nunique().max() if len(data) else 0
    return data if several > 1 else data.iloc[:0]


@FIGURES.register(NAME, version=1, summary=TITLE)
def budgets(view: StudyView) -> theme.Drawing:
    """Quality at each budget: x is the FLOPs or time of a training, y the metric."""
    data = budgets_data(view)
    if data.empty:
        return theme.placeholder(
            NAME, TITLE, "no model and patchout was trained with several budgets."
        )
    up = "Higher" if view.better == "greater" else "Lower"
    caption = (
        f"Mean {view.metric} with its 95 % interval against the FLOPs of a training and, where its "
        f"step was measured, its time divided by the baseline's. {up} is better. Each point is a "
        "training of its own, whose learning rate falls to zero."
    )
    figure = Figure(figsize=(theme.WIDTH, 4.6), layout="constrained")
    unit, styles, handles = unit_for(data["flops"], "FLOP"), theme.kind_styles(data["kind"]), []
    costs = {f"FLOPs of a training ({unit.name})": data["flops"] / unit.size}
    if data["time"].notna().all():
        costs["time of a training, divided by the baseline's"] = data["time"]
    panels = list(figure.subplots(1, len(costs), sharey=True, squeeze=False).flat)
    for number, (name, members) in enumerate(data.groupby("series", sort=False)):
        style = styles[members["kind"].iloc[0]]
        alike = data[data["kind"] == members["kind"].iloc[0]]["series"].unique()
        place = list(alike).index(name)
        look: Any = {"color": style.color, "linestyle": _DASHES[place % len(_DASHES)]}
        look["marker"] = (style.marker, *_MARKERS)[place % (1 + len(_MARKERS))]
        own = members.sort_values("flops")
        for axes, cost in zip(panels, costs.values(), strict=True):
            # Moved a little, so that all are visible.
            x = cost[own.index] * 1.012**number
            axes.plot(x, own["value"], markersize=5, linewidth=1.4, **look)
            axes.vlines(x, own["value_low"], own["value_high"], color=style.color, linewidth=1.0)
        handles.append(Line2D([], [], label=str(name), markersize=5, lw=1.4, **look))
    for axes, title in zip(panels, costs, strict=True):
        axes.set_xscale("log")
        theme.log_ticks(axes.xaxis)
        axes.set_xlabel(title)
    theme.limit_quality(panels[0], data)
    panels[0].set_ylabel(view.metric)
    figure.legend(handles=handles, loc="outside upper left", ncols=min(4, len(handles)))
    return theme.Drawing(NAME, TITLE, caption, data, figure)
