"""Draws what models cost: step time by phase, inference, and memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from passt_bench.report.text import significant, unit_for, wrapped
from passt_bench.report.theme import INK, MUTED, WIDTH, Drawing, placeholder
from passt_bench.report.view import TRAIN_STEP, VariantView

NAME, TITLE = "costs", "Cost per clip"
_STEP = {"forward": "#0072b2", "backward": "#e69f00", "optimizer": "#cc79a7"}
_STEP |= {"replay": "#56b4e9", "chunks": "#56b4e9"}  # of a whole step, which is not divided
_INFERENCE = {"inference_1": "#009e73", "inference_batch": "#3d3d3d"}
_WORDS = {
    "replay": "one graph",
    "chunks": "all chunks",
    "inference_1": "batch of one",
    "inference_batch": "training batch size",
}


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
            rows.append((v.name, "saved_for_backward", *[v.saved_per_clip] * 3))
    return pd.DataFrame(rows, columns=["variant", "quantity", "value", "low", "high"])


def costs(arms: Sequence[VariantView]) -> Drawing:
    """Bars of step time, inference time and memory: x is seconds or bytes per clip, y the model."""
    data = costs_data(arms)
    if data.empty:
        return placeholder(NAME, TITLE, "nothing was measured.")
    caption = (
        "Time per clip of a training step by phase and of inference with batch size one and the "
        "training batch size, and memory saved for the backward pass; medians, with 95 % intervals "
        "of the whole step and of inference. Patchout acts only in training."
    )
    unmeasured = [v.name for v in arms if v.cost_status != "ok"]
    if unmeasured:
        caption += f" Without a result: {', '.join(unmeasured)}."
    names = [v.name for v in arms]
    figure = Figure(figsize=(WIDTH, 0.5 * len(names) + 1.7), layout="constrained")
    step, inference, memory = figure.subplots(1, 3, sharey=True, width_ratios=(1.3, 1, 1))
    places = {name: place for place, name in enumerate(names)}
    _draw_step(step, data, places)
    _draw_inference(inference, data, places)
    _draw_memory(memory, data, places)
    step.set_yticks(range(len(names)), [wrapped(name, 30, 3) for name in names])
    step.set_ylim(len(names) - 0.4, -0.6)
    for axes in (step, inference, memory):
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
    handles = [
        Patch(color=color, label=_WORDS.get(phase, phase))
        for phase, color in _STEP.items()
        if (data["quantity"] == phase).any()
    ]
    handles += [
        Patch(color=color, label=f"inference, {_WORDS[phase]}")
        for phase, color in _INFERENCE.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return Drawing(NAME, TITLE, caption, data, figure)


def _draw_step(axes: Axes, data: pd.DataFrame, places: dict[str, int]) -> None:
    whole = data[data["quantity"] == TRAIN_STEP].set_index("variant")
    unit = unit_for(whole["value"], "s")
    left = dict.fromkeys(places, 0.0)
    for phase, color in _STEP.items():
        part = data[data["quantity"] == phase]
        for name, value in zip(part["variant"], part["value"] / unit.size, strict=True):
            axes.barh(places[name], value, 0.62, left=left[name], color=color)
            left[name] += value
    for name, row in (whole[["value", "low", "high"]] / unit.size).iterrows():
        place = places[str(name)]
        axes.plot([row["low"], row["high"]], [place, place], color=INK, linewidth=1.2)
        axes.text(
            max(row["high"], left[str(name)]), place, f" {significant(row['value'])}",
            va="center", fontsize=8,
        )  # fmt: skip
    if len(whole):
        axes.set_xlim(right=1.22 * max(whole["high"].max() / unit.size, *left.values()))
    axes.set_title("training step")
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
    axes.set_title("inference, every patch kept")
    axes.set_xlabel(f"{unit.name} per clip")


def _draw_memory(axes: Axes, data: pd.DataFrame, places: dict[str, int]) -> None:
    saved = data[data["quantity"] == "saved_for_backward"]
    unit = unit_for(saved["value"], "B")
    for name, value in zip(saved["variant"], saved["value"] / unit.size, strict=True):
        axes.barh(places[name], value, 0.62, color=MUTED)
        axes.text(value, places[name], f" {significant(value)}", va="center", fontsize=8)
    if len(saved):
        axes.set_xlim(right=1.25 * saved["value"].max() / unit.size)
    axes.set_title("saved for backward")
    axes.set_xlabel(f"{unit.name} per clip")
