"""Draws a search: its history, the configurations tried, and the importance of parameters."""

from __future__ import annotations

from math import isnan

import pandas as pd
import seaborn
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from passt_bench.records.search import SearchRecord
from passt_bench.report.text import NAN, counted
from passt_bench.report.theme import (
    INK,
    MUTED,
    Drawing,
    draw_cross,
    figure_style,
    kind_handles,
    kind_styles,
    one_panel,
    placeholder,
)

NAMES = ("search_history", "search_settings", "search_importance")
_NOTHING_YET = "no trial of this search succeeded yet."


def draw_search(search: SearchRecord) -> list[Drawing]:
    """All figures of a search; write them under `theme.figure_style` too."""
    with figure_style():
        return [history(search), landscape(search), influence(search)]


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
        caption += " A cross on the axis is a trial that failed."
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
        handles.append(Line2D([], [], color=MUTED, marker="x", ls="none", label="failed"))
    figure.legend(handles=handles, loc="outside upper left", ncols=8)
    return Drawing(name, title, caption, data, figure)


def landscape_data(search: SearchRecord) -> pd.DataFrame:
    """One row per configuration: its kind, tokens and value."""
    rows = [(t.patchout.kind, t.tokens, t.status, t.value) for t in search.settings]
    data = pd.DataFrame(rows, columns=["kind", "tokens", "status", "value"])
    data["value"] = data["value"].astype(float)
    return data.sort_values(["kind", "tokens"], ignore_index=True)


def landscape(search: SearchRecord) -> Drawing:
    """Configurations by kind: x is the tokens kept in training, y the value."""
    name, title = NAMES[1], "Configurations tried"
    if not search.best:
        return placeholder(name, title, _NOTHING_YET)
    caption = (
        f"{search.metric} on the validation split against the tokens kept in training, one line "
        f"per kind; with {counted(len(search.seeds), 'seed')}, small differences are noise."
    )
    data = landscape_data(search)
    figure, axes = one_panel(3.6)
    styles = kind_styles(data["kind"])
    look = {
        "x": "tokens", "y": "value", "hue": "kind", "legend": False, "ax": axes,
        "palette": {kind: style.color for kind, style in styles.items()},
    }  # fmt: skip
    origin = data[data["kind"] == "none"]  # every line begins where nothing is dropped
    kinds = sorted(set(data["kind"]) - {"none"})
    lines = pd.concat([data, *(origin.assign(kind=k) for k in kinds)], ignore_index=True)
    seaborn.lineplot(lines, errorbar=None, linewidth=1.2, **look)
    markers = {kind: style.marker for kind, style in styles.items()}
    seaborn.scatterplot(data, style="kind", markers=markers, s=36, zorder=3, **look)
    for row in data[data["value"].isna()].to_dict("records"):
        draw_cross(axes, row["tokens"], styles[row["kind"]].color)
    axes.set_xlabel("tokens kept in training")
    axes.set_ylabel(f"{search.metric} on the validation split")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(handles=kind_handles(data["kind"], styles), loc="outside upper left", ncols=7)
    return Drawing(name, title, caption, data, figure)


def influence_data(search: SearchRecord) -> pd.DataFrame:
    """One row per parameter and its importance, the largest first."""
    shares = sorted(search.importance.items(), key=lambda item: (-item[1], item[0]))
    return pd.DataFrame(shares, columns=["parameter", "importance"])


def influence(search: SearchRecord) -> Drawing:
    """Bars of importance: x is the share of variance explained, y the parameter (kind, rate)."""
    name, title = NAMES[2], "Importance of kind and rate"
    if not search.importance:
        return placeholder(name, title, "too few different configurations were tried.")
    caption = (
        f"Share of the variance of {search.metric} over the searched space that a parameter "
        "explains by itself (fANOVA: a random forest on all configurations; shares add up to 1)."
    )
    data = influence_data(search)
    figure, axes = one_panel(0.7 + 0.42 * len(data))
    color = kind_styles([])["unstructured"].color
    seaborn.barplot(data, x="importance", y="parameter", color=color, saturation=1, ax=axes)
    for bars in axes.containers:
        axes.bar_label(bars, fmt="%.2f", padding=4)  # type: ignore[arg-type]
    axes.set(xlim=(0, 1.08), ylabel=None)
    axes.grid(visible=False, axis="y")
    return Drawing(name, title, caption, data, figure)
