"""Plots quality against training speed, with memory as area (the paper's Figure 1)."""

from __future__ import annotations

from collections.abc import Hashable
from math import floor, isfinite, log10
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from passt_bench.registry import FIGURES
from passt_bench.report.layout import Box, Label, freeze_layout, place_labels
from passt_bench.report.text import listed, significant, unit_for, wrapped
from passt_bench.report.theme import (
    BAND,
    INK,
    MUTED,
    WIDTH,
    Drawing,
    axis_range,
    kind_handles,
    kind_styles,
    placeholder,
)
from passt_bench.report.view import StudyView

NAME, TITLE = "quality_against_speed", "Quality against training speed"
_LARGEST = 900.0  # square points of the largest circle
_MAX_LABELS = 14  # with more variants, points have numbers instead of labels


def tradeoff_data(view: StudyView) -> pd.DataFrame:
    """One row per variant: clips per second, metric, and bytes saved for backward per clip."""
    rows = [
        {
            "variant": v.name,
            "kind": v.kind,
            "baseline": v.comparison is None,
            "clips_per_second": v.speed.value,
            "clips_per_second_low": v.speed.low,
            "clips_per_second_high": v.speed.high,
            "metric": view.metric,
            "value": v.value.value,
            "value_low": v.value.low,
            "value_high": v.value.high,
            "saved_bytes_per_clip": v.saved_per_clip,
            "cells": v.cells,
            "cost": v.cost_status,
        }
        for v in view.variants
    ]
    return pd.DataFrame(rows)


@FIGURES.register(NAME, version=1, summary=TITLE)
def tradeoff(view: StudyView) -> Drawing:
    """Main figure: x is training speed, y the metric, area the memory saved for backward."""
    data = tradeoff_data(view)
    measured = data["clips_per_second"].notna()
    if not (measured & data["value"].notna()).any():
        return placeholder(NAME, TITLE, "no variant has both a value and a measured step time yet.")
    up = "Up" if view.better == "greater" else "Down"
    caption = (
        f"{up} and to the right is better: mean {view.metric} against clips per second of a "
        "training step (without front end and data loading). Bars are 95 % intervals on both axes; "
        "area is the memory saved for the backward pass, per clip; the dot is the value."
    )
    unmeasured = list(data.loc[~measured, "variant"])
    if unmeasured:
        caption += f" Not drawn, without a measured step time: {listed(unmeasured)}."
    return Drawing(NAME, TITLE, caption, data, draw_tradeoff(data, view.metric))


def draw_tradeoff(data: pd.DataFrame, metric: str) -> Figure:
    """Draws `tradeoff_data`."""
    shown = data[data["clips_per_second"].notna()].reset_index(drop=True)
    shown["y"], strip = _heights(shown)
    if len(shown) <= _MAX_LABELS:
        figure, axes = _canvas(shown, strip, metric, None)
        names = [wrapped(name, 26) for name in shown["variant"]]
        if place_labels(axes, _labels(shown, names), _obstacles(shown, axes)):
            return figure
    names = [wrapped(name, 32, 2) for name in shown["variant"]]
    numbers = [str(i + 1) for i in range(len(names))]
    figure, axes = _canvas(shown, strip, metric, names)
    place_labels(axes, _labels(shown, numbers), _obstacles(shown, axes))
    return figure


def _heights(shown: pd.DataFrame) -> tuple[pd.Series[float], tuple[float, float, float]]:
    """The y of each variant; variants without a result are in a strip below the data.

    Returns:
        The y values, and the strip's lower edge, its upper edge, and the top of the axes.
    """
    columns = shown[["value", "value_low", "value_high"]]
    low, high = axis_range(float(np.nanmin(columns)), float(np.nanmax(columns)))
    span = high - low
    edge, top = low - 0.12 * span, high + 0.14 * span
    bottom = edge - 0.16 * span if shown["value"].isna().any() else edge
    return shown["value"].fillna((bottom + edge) / 2), (bottom, edge, top)


def _canvas(
    shown: pd.DataFrame, strip: tuple[float, float, float], metric: str, key: list[str] | None
) -> tuple[Figure, Axes]:
    """The figure without its labels; ``key`` lists the variants by number."""
    figure = Figure(figsize=(WIDTH, 5.6), layout="constrained")
    axes = figure.subplots()
    styles = kind_styles(shown["kind"])
    for row, area in zip(shown.to_dict("records"), _areas(shown), strict=True):
        _draw_point(axes, row, styles[row["kind"]].color, area)
    _scale_speed(axes, shown)
    axes.set_xlabel("training speed (clips/s)")
    axes.set_ylabel(metric)
    bottom, edge, top = strip
    axes.set_ylim(bottom, top)
    if bottom < edge:
        axes.axhspan(bottom, edge, color=BAND, zorder=0)
        axes.text(
            0.008, (bottom + edge) / 2, "no result", color=MUTED, fontsize=8, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    legends = _draw_legends(axes, shown, key)
    height = sum(legend.get_window_extent().height for legend in legends) / figure.dpi
    figure.set_figheight(max(5.6, height + 0.9))
    freeze_layout(figure)
    return figure, axes


def _draw_point(axes: Axes, row: dict[Hashable, Any], color: str, area: float) -> None:
    x, y = row["clips_per_second"], row["y"]
    if not isfinite(row["value"]):
        axes.plot(x, y, marker="x", color=INK, markersize=6, linestyle="none")
        return
    xerr, yerr = _error_lengths(row, "clips_per_second"), _error_lengths(row, "value")
    axes.errorbar(x, y, xerr=xerr, yerr=yerr, color=color, linewidth=1.0, zorder=3)
    axes.scatter(x, y, s=area, color=color, alpha=0.22, linewidth=0, zorder=2)
    rim = 1.6 if row["baseline"] else 0.6
    axes.scatter(x, y, s=area, facecolor="none", edgecolor=color, linewidth=rim, zorder=2)
    axes.scatter(x, y, s=18, color=color, edgecolor="white", linewidth=0.6, zorder=4)


def _areas(shown: pd.DataFrame) -> np.ndarray:
    memory = shown["saved_bytes_per_clip"].to_numpy(dtype=float)
    largest = np.nanmax(memory) if np.isfinite(memory).any() else 1.0
    return np.nan_to_num(memory / largest * _LARGEST)


def _error_lengths(row: dict[Hashable, Any], name: str) -> list[list[float]] | None:
    """Lengths of an error bar below and above the value; None if there is no interval."""
    below, above = row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name]
    if not (isfinite(below) and isfinite(above)):
        return None
    return [[max(0.0, below)], [max(0.0, above)]]


def _scale_speed(axes: Axes, shown: pd.DataFrame) -> None:
    """Sets the speed axis, logarithmic if speeds differ more than sixfold."""
    axes.margins(x=0.13)
    low, high = shown["clips_per_second"].min(), shown["clips_per_second"].max()
    if high / low > 6:
        axes.set_xscale("log")
        decades = range(floor(log10(low)) - 1, floor(log10(high)) + 2)
        axes.xaxis.set_major_locator(
            FixedLocator([k * 10.0**d for d in decades for k in (1, 2, 5)])
        )
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: significant(value, 3)))


def _draw_legends(axes: Axes, shown: pd.DataFrame, key: list[str] | None) -> list[Legend]:
    styles = kind_styles(shown["kind"])
    if key is None:
        handles = kind_handles(shown["kind"], styles)
        for handle in handles:
            handle.set(marker="o", linestyle="none")
        title = "patchout"
    else:
        title = "variants, by number"
        handles = [
            Line2D([], [], color=styles[kind].color, marker="o", markersize=5, linestyle="none",
                   label=f"{i + 1}  {name}".replace("\n", "\n    "))
            for i, (name, kind) in enumerate(zip(key, shown["kind"], strict=True))
        ]  # fmt: skip
    first = axes.legend(
        handles=handles, title=title, loc="upper left", bbox_to_anchor=(1.01, 1.0),
        alignment="left", borderaxespad=0.0, title_fontsize=8,
    )  # fmt: skip
    second = _memory_legend(axes, shown)
    if second is None:
        return [first]
    axes.add_artist(first)
    first.set_clip_on(False)  # the layout reserves no space for clipped artists
    return [first, second]


def _memory_legend(axes: Axes, shown: pd.DataFrame) -> Legend | None:
    memory = shown["saved_bytes_per_clip"].dropna()
    if memory.empty:
        return None
    largest = float(memory.max())
    unit = unit_for([largest], "B")
    sizes = [_round_down(largest / share / unit.size) * unit.size for share in (1, 3, 10)]
    handles: list[PathCollection] = [
        axes.scatter([], [], s=size / largest * _LARGEST, facecolor="none", edgecolor=MUTED,
                     label=f"{significant(size / unit.size, 2)} {unit.name}")
        for size in sizes
    ]  # fmt: skip
    return axes.legend(
        handles=handles, title="saved for backward,\nper clip", loc="lower left",
        bbox_to_anchor=(1.01, 0.0), alignment="left", borderaxespad=0.0, labelspacing=1.9,
        handletextpad=1.6, borderpad=1.0, title_fontsize=8,
    )  # fmt: skip


def _round_down(value: float) -> float:
    """Rounds down to 1, 2 or 5 times a power of ten."""
    decade = 10.0 ** floor(log10(value))
    return next(k * decade for k in (5, 2, 1) if k * decade <= value * (1 + 1e-9))


def _labels(shown: pd.DataFrame, texts: list[str]) -> list[Label]:
    """Labels at the rim of the circle, or of the dot if there is no circle."""
    rims = np.maximum(np.sqrt(_areas(shown) / np.pi), 3.0)
    rims[shown["value"].isna()] = 3.0
    points = zip(texts, shown["clips_per_second"], shown["y"], rims, strict=True)
    return [Label(text, float(x), float(y), float(rim)) for text, x, y, rim in points]


def _obstacles(shown: pd.DataFrame, axes: Axes) -> list[Box]:
    """Boxes of circles, dots and error bars, in pixels."""
    boxes = []
    for row, area in zip(shown.to_dict("records"), _areas(shown), strict=True):
        x, y = row["clips_per_second"], row["y"]
        bars = [
            [(row["clips_per_second_low"], y), (row["clips_per_second_high"], y)],
            [(x, row["value_low"]), (x, row["value_high"])],
        ]
        for ends, rim in (
            ([(x, y), (x, y)], max(4.0, 0.45 * area**0.5)),
            *((bar, 1.0) for bar in bars),
        ):
            if np.isfinite(ends).all():
                (x0, y0), (x1, y1) = axes.transData.transform(ends)
                boxes.append(Box(x0 - rim, y0 - rim, x1 + rim, y1 + rim))
    return boxes
