"""Plots step time and memory against tokens, and step time against clip length or batch."""

from __future__ import annotations

from math import isfinite

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from passt_bench.registry import FIGURES
from passt_bench.report.text import Span, unit_for
from passt_bench.report.theme import (
    NO_PATCHES,
    Drawing,
    Style,
    kind_handles,
    kind_styles,
    panel_grid,
    placeholder,
)
from passt_bench.report.view import TRAIN_STEP, StudyView, setting_of

NAME, TITLE = "cost_against_tokens", "Step time and memory against tokens"
SWEEP, _SWEEP_TITLE = "time_by_setting", "Time of training by clip length or batch"
_LINES = ("#3d3d3d", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#a03020", "#6a51a3")
_SHIFT = 0.016  # share of the axis between variants of equal tokens, to keep them visible

# quantity in the data: title, base unit
_PANELS = {
    "train_step": ("training step", "s"),
    "inference_batch": ("inference, training batch size", "s"),
    "saved_for_backward": ("saved for backward, per step", "B"),
    "train_rise": ("rise of memory per step", "B"),
}


def scaling_data(view: StudyView) -> pd.DataFrame:
    """One row per variant and measured quantity: seconds or bytes per step."""
    rows = []
    for v in view.variants:
        known = {name: cost.seconds for name, cost in v.costs.items()}
        known |= {name: Span(value, value, value) for name, value in v.memory.items()}
        for quantity in _PANELS:
            if quantity in known:
                variant = (v.name, v.kind, v.record.tokens, v.batch)
                rows.append((*variant, quantity, *known[quantity]))
    columns = ["variant", "kind", "tokens", "batch", "quantity", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


@FIGURES.register(NAME, version=1, summary=TITLE)
def scaling(view: StudyView) -> Drawing:
    """Costs, one panel per quantity: x is the tokens kept in training, y seconds or bytes."""
    data = scaling_data(view)
    if data.empty:
        return placeholder(NAME, TITLE, "no cost session measured this study.")
    if len(view.variants) > 1 and data["tokens"].nunique() == 1:
        return placeholder(NAME, TITLE, "every variant keeps as many tokens in training.")
    clips = sorted({int(batch) for batch in data["batch"] if isfinite(batch)})
    caption = (
        f"One step of {' or '.join(map(str, clips))} clips against the tokens that training keeps, "
        "class tokens included; medians with 95 % intervals. "
        "Patchout acts only in training: at inference all patches are kept, so that time is "
        "constant. The rise is the peak of memory minus its level before the step; memory saved "
        "for backward is the part that patchout reduces. Variants of equal tokens are shifted to "
        "stay visible."
    )
    if (data["tokens"] == 0).any():
        caption += " A dotted line is a model without tokens."
    present = [quantity for quantity in _PANELS if (data["quantity"] == quantity).any()]
    figure, panels = panel_grid(len(present), min(2, len(present)), 2.7, 0.7)
    styles = kind_styles(data["kind"])
    for axes, quantity in zip(panels, present, strict=True):
        _draw_panel(axes, data[data["quantity"] == quantity], quantity, styles)
    handles = kind_handles(data["kind"], styles)
    for handle in handles:
        dotted = handle.get_label() == NO_PATCHES
        handle.set(
            linestyle=":" if dotted else "none", marker="" if dotted else handle.get_marker()
        )
    figure.legend(handles=handles, loc="outside upper left", ncols=min(7, len(handles)))
    return Drawing(NAME, TITLE, caption, data, figure)


def _draw_panel(axes: Axes, data: pd.DataFrame, quantity: str, styles: dict[str, Style]) -> None:
    title, base = _PANELS[quantity]
    unit = unit_for(data["value"], base)
    step = _SHIFT * data["tokens"].max()
    equal = data.groupby("tokens")["variant"]
    shifts = (equal.cumcount() - (equal.transform("size") - 1) / 2) * step
    for row, shift in zip(data.to_dict("records"), shifts, strict=True):
        style = styles[row["kind"]]
        value, low, high = (row[name] / unit.size for name in ("value", "low", "high"))
        if row["tokens"] == 0:
            axes.axhline(value, color=style.color, linestyle=":", linewidth=1.3)
            continue
        x = row["tokens"] + shift
        axes.plot([x, x], [low, high], color=style.color, linewidth=1.2)
        axes.plot(
            x, value, marker=style.marker, color=style.color, markersize=6,
            markeredgecolor="white", markeredgewidth=0.5, linestyle="none",
        )  # fmt: skip
    axes.set_title(title)
    axes.set_ylabel(unit.name)
    axes.set_xlabel("tokens kept in training")
    axes.margins(x=0.06)
    axes.set_xlim(left=0)
    axes.set_ylim(0, max(data["high"].max(), data["value"].max()) / unit.size * 1.1)


def sweep_data(view: StudyView) -> pd.DataFrame:
    """One row per variant: seconds per clip of training at a clip length or batch (``x``)."""
    rows = []
    for v in view.variants:
        patchout = v.record.recipe.patchout.kind
        line = v.record.recipe.model.name + (f", {patchout}" if patchout != "none" else "")
        seconds = v.cost(TRAIN_STEP).seconds / v.batch
        rows.append((v.name, line, setting_of(view)[1](v), *seconds))
    return pd.DataFrame(rows, columns=["variant", "line", "x", "value", "low", "high"])


def sweep(view: StudyView) -> Drawing:
    """A line per model and patchout: x is clip length or batch, y seconds per clip, both log."""
    data, title = sweep_data(view).dropna(), setting_of(view)[0]
    if title == "engine" or data.empty:
        return placeholder(SWEEP, _SWEEP_TITLE, "clip length and batch are the same throughout.")
    figure, (axes,) = panel_grid(1, 1, 3.4, 0.5)
    for color, (line, part) in zip(_LINES, data.groupby("line", sort=False), strict=False):
        ordered = part.sort_values("x")
        axes.fill_between(ordered["x"], ordered["low"], ordered["high"], color=color, alpha=0.22)
        axes.plot(ordered["x"], ordered["value"], color=color, marker="o", label=line)
    axes.set(xscale="log", yscale="log", xlabel=title, ylabel="seconds per clip")
    ticks = sorted(set(data["x"]))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside upper left", ncols=4)
    caption = f"Time of a training step per clip by {title}; bands are 95 % intervals."
    return Drawing(SWEEP, _SWEEP_TITLE, caption, data, figure)
