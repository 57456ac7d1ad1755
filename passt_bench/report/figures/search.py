"""Draws a search: history, configurations by parameter, importance of parameters, Pareto front."""

from __future__ import annotations

from math import isnan
from typing import Any

import pandas as pd
import seaborn
from matplotlib import colormaps
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pandas.api.types import is_numeric_dtype

from passt_bench.records.search import SearchRecord
from passt_bench.report.text import NAN, counted
from passt_bench.report.theme import (
    INK,
    MUTED,
    PAPER,
    Drawing,
    balanced_columns,
    draw_cross,
    figure_style,
    kind_handles,
    kind_styles,
    one_panel,
    panel_grid,
    placeholder,
)

NAMES = (
    *("search_history", "search_settings", "search_importance"),
    *("search_front", "search_parallel"),
)
PATCHOUT = {"kind", "rate", "time rate", "frequency rate"}
_NOTHING_YET = "no trial of this search succeeded yet."


def _label(column: str) -> str:
    """A column in words."""
    named = {"tokens": "tokens kept in training", "rate": "share of patches dropped"}
    return named.get(column, column.rpartition(".")[2].replace("_", " "))


def draw_search(search: SearchRecord) -> list[Drawing]:
    """All figures of a search; write them under `theme.figure_style` too."""
    with figure_style():
        drawings = [history(search), influence(search), slices(search)]
        drawings += [front(search)] if search.objectives else []
        drawings += [parallel(search)] if {*search.space} - PATCHOUT else []
        return drawings


def history_data(search: SearchRecord) -> pd.DataFrame:
    """One row per trial: what was suggested, its value, and the best value so far."""
    columns = ["trial", "kind", "rate", "tokens", "status", "value", "best", "repeats"]
    rows = []
    best, sign = NAN, 1 if search.better == "greater" else -1
    for trial in search.trials:
        value = NAN if trial.value is None else trial.value
        best = value if isnan(best) or sign * value > sign * best else best
        setting = (trial.number, trial.patchout.kind, trial.rate, trial.tokens, trial.status)
        rows.append((*setting, value, best, "" if trial.repeats is None else trial.repeats))
    return pd.DataFrame(rows, columns=columns)


def history(search: SearchRecord) -> Drawing:
    """History: x is the number of the trial, y its value and the best so far."""
    name, title = NAMES[0], "History of the search"
    if not search.best:
        return placeholder(name, title, _NOTHING_YET)
    data = history_data(search)
    caption = (
        f"{search.metric} on the validation split by trial; the line is the best so far. A hollow "
        "mark repeats the configuration of an earlier trial and was not trained again."
    )
    if (data["status"] != "ok").any():
        caption += " A cross on the axis is a trial that failed or was pruned."
    figure, axes = one_panel(3.6)
    styles = kind_styles(data["kind"])
    done = data[data["best"].notna()]
    axes.step(done["trial"], done["best"], where="post", color=INK, linewidth=1.2)
    for row in data.to_dict("records"):
        style = styles[row["kind"]]
        if row["status"] != "ok":
            draw_cross(axes, row["trial"], style.color)
            continue
        hollow = row["repeats"] != ""
        axes.plot(
            row["trial"], row["value"], marker=style.marker, color=style.color,
            markersize=4 if hollow else 6, fillstyle="none" if hollow else "full",
        )  # fmt: skip
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{search.metric} on the validation split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles: list[Line2D] = [*kind_handles(data["kind"], styles)]
    for handle in handles:
        handle.set_linestyle("none")
    handles.append(Line2D([], [], color=INK, lw=1.2, label="best so far"))
    if (data["repeats"] != "").any():
        handles.append(
            Line2D([], [], color=MUTED, marker="o", fillstyle="none", ls="none", label="repeated")
        )
    if (data["status"] != "ok").any():
        handles.append(Line2D([], [], color=MUTED, marker="x", ls="none", label="no value"))
    figure.legend(handles=handles, loc="outside upper left", ncols=8)
    return Drawing(name, title, caption, data, figure)


def settings_data(search: SearchRecord) -> pd.DataFrame:
    """One row per configuration: kind, tokens, value, costs, and the parameters as suggested."""
    rows = []
    for trial in search.settings:
        own = {"kind": trial.patchout.kind, "tokens": trial.tokens, "status": trial.status}
        others = {name: v for name, v in trial.params.items() if name not in ("kind", "rate")}
        rows.append({**own, "rate": trial.rate, **others, **trial.costs, "value": trial.value})
    data = pd.DataFrame(rows, columns=None if rows else ["kind", "tokens", "rate", "value"])
    return data.astype({"value": float}).sort_values(["kind", "tokens"], ignore_index=True)


def slices(search: SearchRecord) -> Drawing:
    """Slices: the value of each configuration against each parameter, and the tokens kept."""
    name, title = NAMES[1], "Configurations by parameter"
    if not search.best:
        return placeholder(name, title, _NOTHING_YET)
    caption = (
        f"{search.metric} on the validation split of every configuration by kind, against the "
        "tokens kept in training, the share of patches dropped and each other parameter; with "
        f"{counted(len(search.seeds), 'seed')}, small differences are noise."
    )
    data = settings_data(search)
    hidden = ("kind", "status", "value", *search.objectives)
    shown = [column for column in map(str, data) if column not in hidden]
    styles = kind_styles(data["kind"])
    markers = {kind: style.marker for kind, style in styles.items()}
    colors = {kind: style.color for kind, style in styles.items()}
    look: dict[str, Any] = {"hue": "kind", "style": "kind", "palette": colors, "markers": markers}
    figure, panels = panel_grid(len(shown), balanced_columns(len(shown), 3), 2.6, 0.4)
    for column, axes in zip(shown, panels, strict=True):
        own = data.dropna(subset=[column])
        seaborn.scatterplot(own, x=column, y="value", s=32, legend=False, ax=axes, **look)
        for row in own[own["value"].isna()].to_dict("records"):
            draw_cross(axes, row[column], styles[row["kind"]].color)
        axes.set(xlabel=_label(column), ylabel=search.metric)
        axes.xaxis.set_major_locator(MaxNLocator(4)) if is_numeric_dtype(own[column]) else None
    figure.legend(handles=kind_handles(data["kind"], styles), loc="outside upper left", ncols=7)
    return Drawing(name, title, caption, data, figure)


def front(search: SearchRecord) -> Drawing:
    """Pareto front: x is a cost divided by the baseline's, y the value."""
    name, title = NAMES[3], "Quality against cost"
    if not search.best:
        return placeholder(name, title, _NOTHING_YET)
    caption = (
        f"{search.metric} on the validation split against the cost of a training step per clip, "
        "divided by the baseline's: FLOPs (time) and bytes beyond the weights (memory), both "
        "counted. Filled marks are the Pareto front: no other configuration is better in one and "
        "at least as good in the rest."
    )
    data = settings_data(search)
    best = {trial.keys for trial in search.front}
    styles = kind_styles(data["kind"])
    figure, panels = panel_grid(len(search.objectives), len(search.objectives), 3.2, 0.4)
    for cost, axes in zip(search.objectives, panels, strict=True):
        for trial in search.best:
            style = styles[trial.patchout.kind]
            fill = "full" if trial.keys in best else "none"
            point = trial.costs[cost], trial.value or 0.0
            axes.plot(*point, marker=style.marker, color=style.color, fillstyle=fill)
        axes.set(xlabel=f"{cost} of a training step / baseline", ylabel=search.metric)
    figure.legend(handles=kind_handles(data["kind"], styles), loc="outside upper left", ncols=7)
    return Drawing(name, title, caption, data, figure)


def parallel(search: SearchRecord) -> Drawing:
    """Parallel coordinates: a line per configuration, through its parameters to its value."""
    name, title = NAMES[4], "Configurations in parallel coordinates"
    data = settings_data(search).dropna(subset=["value"])
    whole = [column for column in map(str, data) if data[column].notna().all()]
    names = [column for column in whole if column not in ("status", "tokens", "value")]
    if len(data) < 2 or len(names) < 3:
        return placeholder(name, title, "it takes three parameters that every trial has.")
    caption = (
        "One line per configuration, the darker the better, from its parameters to its value; "
        "each axis goes from the smallest to the largest value that was tried."
    )
    order = [*names, "value"]
    figure, axes = one_panel(3.2)
    places = pd.DataFrame(index=data.index)
    for at, column in enumerate(order):
        numeric = is_numeric_dtype(data[column])
        codes = data[column] if numeric else pd.Series(pd.factorize(data[column], sort=True)[0])
        codes = codes.set_axis(data.index)
        low, high = codes.min(), codes.max()
        places[column] = (codes - low) / (high - low) if high > low else 0.5
        ends = data.loc[[codes.idxmin(), codes.idxmax()], column] if numeric else data[column]
        for place, text in {*zip(places.loc[ends.index, column], ends, strict=True)}:
            label = f"{text:.3g}" if numeric else text
            box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1}
            axes.annotate(
                label, (at, place), (4, 0), textcoords="offset points", fontsize=8, va="center",
                bbox=box,
            )  # fmt: skip
    for row in places.sort_values("value").itertuples(index=False):
        shade = colormaps["viridis_r"](row[-1])
        axes.plot(range(len(order)), row, color=shade, linewidth=1)
    labels = [search.metric if c == "value" else _label(c) for c in order]
    axes.set_xticks(range(len(order)), labels)
    axes.set_yticks([])
    return Drawing(name, title, caption, data, figure)


def influence_data(search: SearchRecord) -> pd.DataFrame:
    """One row per parameter and its importance, the largest first."""
    shares = sorted(search.importance.items(), key=lambda item: (-item[1], item[0]))
    return pd.DataFrame(shares, columns=["parameter", "importance"])


def influence(search: SearchRecord) -> Drawing:
    """Bars of importance: x is the share of variance explained, y the parameter."""
    name, title = NAMES[2], "Importance of parameters"
    if not search.importance:
        return placeholder(name, title, "too few different configurations were tried.")
    caption = (
        f"Share of the variance of {search.metric} over the searched space that a parameter "
        "explains by itself (fANOVA: a random forest on all configurations; shares add up to 1)."
    )
    data = influence_data(search)
    data["parameter"] = data["parameter"].map(_label)
    figure, axes = one_panel(0.7 + 0.42 * len(data))
    color = kind_styles([])["unstructured"].color
    seaborn.barplot(data, x="importance", y="parameter", color=color, saturation=1, ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="%.2f", padding=4)  # type: ignore[arg-type]
    axes.set(xlim=(0, 1.08), ylabel=None)
    axes.grid(visible=False, axis="y")
    return Drawing(name, title, caption, data, figure)
