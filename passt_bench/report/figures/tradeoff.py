"""Plots quality against training speed, with memory as area (the paper's Figure 1)."""

from __future__ import annotations

from math import floor, isfinite, log10
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from passt_bench.registry import FIGURES
from passt_bench.report import theme
from passt_bench.report.text import listed, quoted, significant, unit_for, wrapped
from passt_bench.report.view import StudyView

NAME, TITLE = "quality_against_speed", "Quality against training speed"
_LARGEST = 900.0  # square points of the largest circle
_MAX_LABELS = 14  # with more variants, points have numbers instead of labels


def tradeoff_data(view: StudyView) -> pd.DataFrame:
    """One row per variant: clips per second, metric, and bytes saved for backward per clip."""
    rows = [
        (v.name, v.kind, v.comparison is None, *v.speed, view.metric, *v.value, v.saved_per_clip,
         v.cells, v.cost_status)
        for v in view.variants
    ]  # fmt: skip
    columns = ["variant", "kind", "baseline", "clips_per_second", "clips_per_second_low"]
    columns += ["clips_per_second_high", "metric", "value", "value_low", "value_high"]
    return pd.DataFrame(rows, columns=[*columns, "saved_bytes_per_clip", "cells", "cost"])


@FIGURES.register(NAME, version=1, summary=TITLE)
def tradeoff(view: StudyView) -> theme.Drawing:
    """Main figure: x is training speed, y the metric, area the memory saved for backward."""
    data = tradeoff_data(view)
    measured = data["clips_per_second"].notna()
    if not (measured & data["value"].notna()).any():
        return theme.placeholder(
            NAME, TITLE, "no variant has both a value and a measured step time yet."
        )
    up = "Up" if view.better == "greater" else "Down"
    caption = (
        f"{up} and to the right is better: mean {view.metric} against clips per second of a "
        "training step (without front end and data loading). Bars are 95 % intervals on both axes; "
        "area is the memory saved for the backward pass, per clip; the mark in it is the value's."
    )
    unmeasured = list(data.loc[~measured, "variant"])
    if unmeasured:
        caption += f" Not drawn, without a measured step time: {listed(map(quoted, unmeasured))}."
    shown = data[measured].reset_index(drop=True)
    figure, complete = Figure(), False
    if len(shown) <= _MAX_LABELS:
        labels = [wrapped(name, 26) for name in shown["variant"]]
        figure, complete = _draw(shown, view.metric, labels, {})
    if not complete:  # what does not fit beside its point is listed by number
        names = [wrapped(name, 32, 2).replace("\n", "\n    ") for name in shown["variant"]]
        key = {str(number): name for number, name in enumerate(names, 1)}
        figure, _ = _draw(shown, view.metric, list(key), key)
    return theme.Drawing(NAME, TITLE, caption, data, figure)


def _draw(
    shown: pd.DataFrame, metric: str, labels: list[str], key: dict[str, str]
) -> tuple[Figure, bool]:
    """The figure, and whether every label has a place; ``key`` lists the variants by number."""
    figure, axes = theme.one_panel(5.6)
    axes.set_xlabel("training speed (clips/s)")
    axes.set_ylabel(metric)
    shown = shown.assign(y=_scale_quality(axes, shown), area=areas(shown))
    axes.margins(x=0.13)
    if log := shown["clips_per_second"].max() / shown["clips_per_second"].min() > 6:
        axes.set_xscale("log")
    lost = shown["value"].isna()
    x, y = shown["clips_per_second"][lost], shown["y"][lost]
    axes.scatter(x, y, marker="x", color=theme.INK, s=36)
    _draw_points(axes, shown[~lost])
    if log:
        theme.log_ticks(axes.xaxis)
    figure.set_figheight(max(5.6, _draw_legends(axes, shown, key) / 72 + 0.9))
    theme.freeze_layout(figure)
    rims = np.where(lost, 3.0, np.maximum(np.sqrt(shown["area"] / np.pi), 3.0))
    places = zip(labels, shown["clips_per_second"], shown["y"], rims, strict=True)
    return figure, theme.place_labels(
        axes, [theme.Label(*place) for place in places], _obstacles(shown, axes)
    )


def areas(shown: pd.DataFrame) -> np.ndarray:
    """Square points of the circles, in proportion to memory; 0 where that is unknown."""
    memory = shown["saved_bytes_per_clip"].to_numpy(dtype=float)
    return np.nan_to_num(memory / np.nanmax(memory, initial=1.0) * _LARGEST)


def _scale_quality(axes: Axes, shown: pd.DataFrame) -> pd.Series[float]:
    """The y of each variant; variants without a result are in a strip below the data."""
    columns = shown[["value", "value_low", "value_high"]]
    low, high = theme.axis_range(float(np.nanmin(columns)), float(np.nanmax(columns)))
    edge, bottom = low - 0.12 * (high - low), low - 0.28 * (high - low)
    if shown["value"].isna().any():
        axes.axhspan(bottom, edge, color=theme.BAND, zorder=0)
        axes.text(
            0.008, (bottom + edge) / 2, "no result", color=theme.MUTED, fontsize=8, va="center",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip
    else:
        bottom = edge
    axes.set_ylim(bottom, high + 0.14 * (high - low))
    return shown["value"].fillna((bottom + edge) / 2)


def _draw_points(axes: Axes, shown: pd.DataFrame) -> None:
    """Circles, a mark for the kind, and error bars; the baseline has a bold rim."""
    styles = theme.kind_styles(shown["kind"])
    colors, rims = shown["kind"].map(lambda kind: styles[kind].color), shown["baseline"] + 0.6
    point: Any = {"x": "clips_per_second", "y": "y", "data": shown}
    axes.scatter(**point, s="area", c=colors, alpha=0.22, linewidth=0, zorder=2)
    axes.scatter(**point, s="area", c="none", edgecolor=colors, linewidth=rims, zorder=2)
    for row, color in zip(shown.to_dict("records"), colors, strict=True):
        mark: Any = {"marker": styles[row["kind"]].marker, "s": 30, "linewidth": 0.6}
        at = row["clips_per_second"], row["y"]
        axes.scatter(*at, color=color, edgecolor="white", zorder=4, **mark)
        for name, along in (("clips_per_second", "xerr"), ("value", "yerr")):
            ends = (row[name] - row[f"{name}_low"], row[f"{name}_high"] - row[name])
            if np.isfinite(ends).all():
                bar: Any = {along: [[max(0.0, end)] for end in ends]}
                axes.errorbar(*at, color=color, linewidth=1.0, zorder=3, **bar)


def _draw_legends(axes: Axes, shown: pd.DataFrame, key: dict[str, str]) -> float:
    """Kinds or numbered variants above, sizes below; returns their height in points."""
    styles = theme.kind_styles(shown["kind"])
    handles = theme.kind_handles(shown["kind"])
    if key:
        handles = [
            Line2D(
                [],
                [],
                color=styles[kind].color,
                marker=styles[kind].marker,
                markersize=5,
                label=f"{number}  {name}",
            )
            for (number, name), kind in zip(key.items(), shown["kind"], strict=True)
        ]
    for handle in handles:
        handle.set(linestyle="none")
    beside: Any = {"alignment": "left", "borderaxespad": 0.0, "title_fontsize": 8}
    legends = [
        axes.legend(
            handles=handles, title="variants, by number" if key else "patchout", loc="upper left",
            bbox_to_anchor=(1.01, 1.0), **beside,
        )
    ]  # fmt: skip
    largest = shown["saved_bytes_per_clip"].max()
    if isfinite(largest):
        unit = unit_for([largest], "B")
        sizes = [_round_down(largest / share / unit.size) for share in (1, 3, 10)]
        circles = [
            axes.scatter([], [], s=size * unit.size / largest * _LARGEST, facecolor="none",
                         edgecolor=theme.MUTED, label=f"{significant(size, 2)} {unit.name}")
            for size in sizes
        ]  # fmt: skip
        axes.add_artist(legends[0])
        legends[0].set_clip_on(False)  # the layout reserves no space for clipped artists
        legends.append(
            axes.legend(
                handles=circles, title="saved for backward,\nper clip", loc="lower left",
                bbox_to_anchor=(1.01, 0.0), labelspacing=1.9, handletextpad=1.6, borderpad=1.0,
                **beside,
            )
        )  # fmt: skip
    return sum(legend.get_window_extent().height for legend in legends)


def _round_down(value: float) -> float:
    """Rounds down to 1, 2 or 5 times a power of ten."""
    decade = 10.0 ** floor(log10(value))
    return next(k * decade for k in (5, 2, 1) if k * decade <= value * (1 + 1e-9))


def _obstacles(shown: pd.DataFrame, axes: Axes) -> list[Bbox]:
    """Boxes of circles, dots and error bars, in pixels."""
    boxes = []
    for row in shown.to_dict("records"):
        x, y = row["clips_per_second"], row["y"]
        across = [(row["clips_per_second_low"], y), (row["clips_per_second_high"], y)]
        upright = [(x, row["value_low"]), (x, row["value_high"])]
        dot = max(4.0, 0.45 * row["area"] ** 0.5)
        for ends, rim in (([(x, y), (x, y)], dot), (across, 1.0), (upright, 1.0)):
            if np.isfinite(ends).all():
                boxes.append(Bbox(axes.transData.transform(ends)).padded(rim))
    return boxes
