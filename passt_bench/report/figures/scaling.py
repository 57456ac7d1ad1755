"""Plots step time and memory by model, against tokens, and against clip length or batch."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from passt_bench.registry import FIGURES
from passt_bench.report import theme
from passt_bench.report.text import Span, significant, unit_for, wrapped
from passt_bench.report.view import TRAIN_STEP, StudyView, VariantView, setting_of

NAME, TITLE = "cost_against_tokens", "Step time and memory against tokens"
SWEEP, _SWEEP_TITLE = "time_by_setting", "Time of training by clip length or batch"
_SHIFT = 0.016  # share of the axis between variants of equal tokens, to keep them visible

COSTS, _COSTS_TITLE = "costs", "Cost per clip"
_STEP = {"forward": "#0072b2", "backward": "#bf8c00", "optimizer": "#5f3f00"}
_STEP |= {"replay": "#3d9bd8", "chunks": "#3d9bd8"}  # of a whole step, which is not divided
_INFERENCE = {"inference_1": "#009e73", "inference_batch": "#3d3d3d"}
_WORDS = {
    "replay": "one graph",
    "chunks": "all chunks",
    "inference_1": "inference, batch of one",
    "inference_batch": "inference, training batch size",
}
_SAVED = "saved_for_backward"
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
def scaling(view: StudyView) -> theme.Drawing:
    """Costs, one panel per quantity: x is the tokens kept in training, y seconds or bytes."""
    data = scaling_data(view)
    if data.empty:
        return theme.placeholder(NAME, TITLE, "no cost session measured this study.")
    if len(view.variants) > 1 and data["tokens"].nunique() == 1:
        return theme.placeholder(NAME, TITLE, "every variant keeps as many tokens in training.")
    clips = sorted({int(batch) for batch in data["batch"] if isfinite(batch)})
    caption = (
        f"One step of {' or '.join(map(str, clips))} clips against the tokens that training keeps, "
        "class tokens included; medians with 95 % intervals. At inference all patches are kept. "
        "The rise is the peak of memory minus its level before the step. Variants of equal tokens "
        "are shifted to stay visible."
    )
    if (data["tokens"] == 0).any():
        caption += " A dotted line is a model without tokens."
    present = [quantity for quantity in _PANELS if (data["quantity"] == quantity).any()]
    figure, panels = theme.panel_grid(len(present), min(2, len(present)), 2.7, 0.7)
    styles = theme.kind_styles(data["kind"])
    for axes, quantity in zip(panels, present, strict=True):
        _draw_panel(axes, data[data["quantity"] == quantity], quantity, styles)
    handles = theme.kind_handles(data["kind"])
    for handle in handles:
        dotted = handle.get_label() == theme.NO_PATCHES
        handle.set(
            linestyle=":" if dotted else "none", marker="" if dotted else handle.get_marker()
        )
    figure.legend(handles=handles, loc="outside upper left", ncols=min(7, len(handles)))
    return theme.Drawing(NAME, TITLE, caption, data, figure)


def _draw_panel(
    axes: Axes, data: pd.DataFrame, quantity: str, styles: dict[str, theme.Style]
) -> None:
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


def sweep(view: StudyView) -> theme.Drawing:
    """A line per model and patchout: x is clip length or batch, y seconds per clip, both log."""
    data, title = sweep_data(view).dropna(), setting_of(view)[0]
    if title == "engine" or data.empty:
        return theme.placeholder(
            SWEEP, _SWEEP_TITLE, "clip length and batch are the same throughout."
        )
    figure, (axes,) = theme.panel_grid(1, 1, 3.4, 0.5)
    styles = theme.kind_styles(()).values()
    for style, (line, part) in zip(styles, data.groupby("line", sort=False), strict=False):
        ordered, color = part.sort_values("x"), style.color
        axes.fill_between(ordered["x"], ordered["low"], ordered["high"], color=color, alpha=0.22)
        axes.plot(ordered["x"], ordered["value"], color=color, marker=style.marker, label=line)
    axes.set(xscale="log", yscale="log", xlabel=title, ylabel="seconds per clip")
    ticks = sorted(set(data["x"]))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()
    theme.log_ticks(axes.yaxis)
    figure.legend(loc="outside upper left", ncols=4)
    caption = f"Time of a training step per clip by {title}; bands are 95 % intervals."
    return theme.Drawing(SWEEP, _SWEEP_TITLE, caption, data, figure)


def costs_data(arms: Sequence[VariantView]) -> pd.DataFrame:
    """One row per model and quantity: seconds or bytes per clip."""
    rows: list[tuple[object, ...]] = []
    for v in arms:
        for phase in (*_STEP, TRAIN_STEP, *_INFERENCE):
            if phase not in v.costs:
                continue
            clips = 1.0 if phase == "inference_1" else v.batch
            rows.append((v.name, phase, *(v.costs[phase].seconds / clips)))
        if isfinite(v.saved_per_clip):
            rows.append((v.name, _SAVED, *[v.saved_per_clip] * 3))
    return pd.DataFrame(rows, columns=["variant", "quantity", "value", "low", "high"])


def costs(arms: Sequence[VariantView]) -> theme.Drawing:
    """Bars of step time, inference time and memory: x is seconds or bytes per clip, y the model."""
    data = costs_data(arms)
    if data.empty:
        return theme.placeholder(COSTS, _COSTS_TITLE, "nothing was measured.")
    caption = (
        "Time per clip of a training step by phase and of inference with batch size one and the "
        "training batch size, and memory saved for the backward pass; medians, with 95 % intervals "
        "of the whole step and of inference. Patchout acts only in training."
    )
    unmeasured = [v.name for v in arms if v.cost_status != "ok"]
    if unmeasured:
        caption += f" Without a result: {', '.join(unmeasured)}."
    names = [v.name for v in arms]
    places = {name: place for place, name in enumerate(names)}
    figure = Figure(figsize=(theme.WIDTH, 0.5 * len(names) + 1.7), layout="constrained")
    step, inference, memory = figure.subplots(1, 3, sharey=True, width_ratios=(1.3, 1, 1))
    _draw_bars(step, data, places, _STEP, TRAIN_STEP, "s", 1.22)
    _draw_inference(inference, data, places)
    _draw_bars(memory, data, places, {_SAVED: theme.MUTED}, _SAVED, "B", 1.25)
    step.set_yticks(range(len(names)), [wrapped(name, 30, 3) for name in names])
    step.set_ylim(len(names) - 0.4, -0.6)
    titles = ("training step", "inference, every patch kept", "saved for backward")
    for axes, title in zip((step, inference, memory), titles, strict=True):
        axes.set_title(title)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
    handles = [
        Patch(color=color, label=_WORDS.get(phase, phase))
        for phase, color in (_STEP | _INFERENCE).items()
        if phase in _INFERENCE or (data["quantity"] == phase).any()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return theme.Drawing(COSTS, _COSTS_TITLE, caption, data, figure)


def _draw_bars(
    axes: Axes, data: pd.DataFrame, places: dict[str, int], colors: dict[str, str], whole: str,
    base: str, spare: float,
) -> None:  # fmt: skip
    """Parts as stacked bars, beside them the whole with its interval, if it has one."""
    total = data[data["quantity"] == whole].set_index("variant")[["value", "low", "high"]]
    unit, left = unit_for(total["value"], base), dict.fromkeys(places, 0.0)
    for phase, color in colors.items():
        part = data[data["quantity"] == phase]
        for name, value in zip(part["variant"], part["value"] / unit.size, strict=True):
            axes.barh(places[name], value, 0.62, left=left[name], color=color)
            left[name] += value
    ends = []
    for name, (value, low, high) in (total / unit.size).iterrows():
        place = places[str(name)]
        if low < high:
            axes.plot([low, high], [place, place], color=theme.INK, linewidth=1.2)
        ends.append(max(high, left[str(name)]))
        axes.text(ends[-1], place, f" {significant(value)}", va="center", fontsize=8)
    if ends:
        axes.set_xlim(right=spare * max(ends))
    axes.set_xlabel(f"{unit.name} per clip")


def _draw_inference(axes: Axes, data: pd.DataFrame, places: dict[str, int]) -> None:
    inference = data[data["quantity"].isin(_INFERENCE)]
    unit = unit_for(inference["value"], "s")
    for (phase, color), shift in zip(_INFERENCE.items(), (-0.14, 0.14), strict=True):
        for row in inference[inference["quantity"] == phase].to_dict("records"):
            place = places[row["variant"]] + shift
            value, low, high = (row[name] / unit.size for name in ("value", "low", "high"))
            axes.plot([low, high], [place, place], color=color, linewidth=1.4)
            axes.plot(value, place, marker="o", color=color, markersize=4.5)
    if len(inference):
        axes.set_xlim(right=1.1 * inference["high"].max() / unit.size)
    axes.set_xlabel(f"{unit.name} per clip")
