"""The tables and the figure of a comparison of costs: each quantity and its ratio to the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    NAN,
    Span,
    Unit,
    fixed,
    interval,
    significant,
    times,
    unit_for,
    wrapped,
)
from passt_bench.report.theme import INK, MUTED, WIDTH, Drawing, left_out
from passt_bench.report.view import TRAIN_STEP, VariantView

PHASES = {
    TRAIN_STEP: "training step",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "inference_1": "inference, one clip",
    "inference_batch": "inference, the batch",
    "frontend": "front end",
}
_MEMORY = {
    "train_peak": "peak in training",
    "train_rise": "rise in a step",
    "reserved": "reserved",
    "resident": "parameters and buffers",
    "saved_for_backward": "saved for backward",
    "inference_peak": "peak at inference",
}
_NAME = Column("variant", "model")


def all_tables(name: str, arms: Sequence[VariantView]) -> dict[str, Table]:
    """Every table that has rows, by name; the first arm is the baseline."""
    builders = (speed, training, inference, memory, arithmetic, published, failures)
    made = [build(name, arms) for build in builders]
    return {found.name: found for found in made if found.rows}


def speed(name: str, arms: Sequence[VariantView]) -> Table:
    """The answer in short: throughput, step, inference and memory, each as a ratio."""
    columns = [
        _NAME,
        Column("tokens", "tokens in training", str),
        Column("clips_per_second", "training, clips a second", interval, span=True),
        Column("clips_ratio", "ratio", times, span=True),
        *(
            Column(f"{phase}_ratio", PHASES[phase], times, span=True)
            for phase in (TRAIN_STEP, "inference_1", "inference_batch")
        ),
        Column("saved_ratio", "saved for backward", _ratio_text),
        Column("flops_ratio", "FLOPs of training", _ratio_text),
    ]
    first = arms[0]
    rows = [
        (
            v.name,
            v.record.tokens or None,
            v.speed if v.speed.known else v.cost_status,
            _throughput(v, first),
            *(_ratio(v, phase) for phase in (TRAIN_STEP, "inference_1", "inference_batch")),
            _over(v.memory.get("saved_for_backward"), first.memory.get("saved_for_backward")),
            _over(v.flops, first.flops),
        )
        for v in arms
    ]
    caption = f"{name}: time, memory and arithmetic as ratios to {first.name}; 95 % intervals."
    return table("speed", caption, columns, rows, 0)


def training(name: str, arms: Sequence[VariantView]) -> Table:
    """Seconds of a training step and its parts, each with its ratio."""
    return _phases("training", name, arms, (TRAIN_STEP, "forward", "backward", "optimizer"))


def inference(name: str, arms: Sequence[VariantView]) -> Table:
    """Seconds of inference and of the front end, each with its ratio."""
    return _phases("inference", name, arms, ("inference_1", "inference_batch", "frontend"))


def _phases(kind: str, name: str, arms: Sequence[VariantView], wanted: tuple[str, ...]) -> Table:
    present = [phase for phase in wanted if any(phase in v.costs for v in arms)]
    columns = [_NAME]
    for phase in present:
        unit = unit_for((v.costs[phase].seconds.value for v in arms if phase in v.costs), "s")
        columns += [
            Column(f"{phase}_seconds", PHASES[phase], _scaled(unit), unit.name, span=True),
            Column(f"{phase}_ratio", "ratio", times, span=True),
        ]
    rows = [
        (v.name, *(part for p in present for part in (_seconds(v, p), _ratio(v, p))))
        for v in arms
        if present
    ]
    caption = (
        f"{name}: time of {kind}, medians with distribution-free 95 % intervals, and "
        f"ratios to {arms[0].name} taken round by round."
    )
    return table(kind, caption, columns, rows, 0)


def memory(name: str, arms: Sequence[VariantView]) -> Table:
    """Bytes of every entry, each with its ratio."""
    present = [entry for entry in _MEMORY if any(entry in v.memory for v in arms)]
    columns = [_NAME]
    for entry in present:
        unit = unit_for((v.memory.get(entry, NAN) for v in arms), "B")
        columns += [
            Column(f"{entry}_bytes", _MEMORY[entry], _scaled(unit), unit.name),
            Column(f"{entry}_ratio", "ratio", _ratio_text),
        ]
    first = arms[0].memory
    rows = [
        (
            v.name,
            *(
                part
                for entry in present
                for part in (
                    v.memory.get(entry),
                    _over(v.memory.get(entry), first.get(entry)),
                )
            ),
        )
        for v in arms
        if present
    ]
    return table("memory", f"{name}: memory of one step.", columns, rows, 0)


def arithmetic(name: str, arms: Sequence[VariantView]) -> Table:
    """Tokens, parameters, FLOPs and the share of the peak that they were computed at."""
    unit, first = unit_for((v.flops for v in arms), "FLOP"), arms[0]
    columns = [
        _NAME,
        Column("tokens", "tokens in training", str),
        Column("tokens_ratio", "ratio", _ratio_text),
        Column("tokens_full", "tokens at inference", str),
        Column("parameters", "parameters", lambda n: f"{int(n):,}".replace(",", " ")),
        Column("flops", "training a clip", _scaled(unit), unit.name),
        Column("flops_ratio", "ratio", _ratio_text),
        Column("flops_inference", "inference of a clip", _scaled(unit), unit.name),
        Column("flops_inference_ratio", "ratio", _ratio_text),
        Column("mfu", "of the peak", lambda share: f"{fixed(100 * share, 1)} %"),
        Column("mfu_ratio", "ratio", times, span=True),
        Column("compile_seconds", "compiling", partial(significant, digits=2), "s"),
    ]
    rows = [
        (
            v.name,
            v.record.tokens or None,
            _over(v.record.tokens or None, first.record.tokens),
            v.record.tokens_full or None,
            _known(v.parameters),
            _known(v.flops),
            _over(v.flops, first.flops),
            _known(v.flops_inference),
            _over(v.flops_inference, first.flops_inference),
            _known(v.mfu),
            _mfu_ratio(v, first),
            _known(v.compile_seconds),
        )
        for v in arms
    ]
    caption = (
        f"{name}: arithmetic; the peak is that of matrix products, measured in the same session."
    )
    return table("arithmetic", caption, columns, rows, 0)


def published(name: str, arms: Sequence[VariantView]) -> Table:
    """Clips a second by the suite's protocol and by the reference code's, side by side."""
    columns = [
        _NAME,
        Column("clips_per_second", "this suite's protocol", interval, "clips/s", span=True),
        Column("published", "the published protocol", significant, "clips/s"),
        Column("gap", "published by ours", _ratio_text),
        Column("ours_speedup", f"ours, to {arms[0].name}", times, span=True),
        Column("published_speedup", f"published, to {arms[0].name}", _ratio_text),
    ]
    rows = [
        (
            v.name,
            v.speed,
            _known(v.published),
            _over(v.published, v.speed.value),
            _throughput(v, arms[0]),
            _over(v.published, arms[0].published),
        )
        for v in arms
        if any(isfinite(other.published) for other in arms)
    ]
    caption = f"{name}: training throughput by two protocols."
    return table("published", caption, columns, rows, 0)


def failures(name: str, arms: Sequence[VariantView]) -> Table:
    """Arms that did not come through, or not with all that was asked for, and why."""
    columns = [_NAME, Column("status", "status"), Column("message", "why")]
    rows = [
        (
            v.name,
            v.cost_status if v.cost_status != "ok" else "in part",
            v.cost_message or "no message",
        )
        for v in arms
        if v.cost_status != "ok" or v.cost_message
    ]
    return table("failures", f"{name}: what failed.", columns, rows)


def _seconds(v: VariantView, phase: str) -> Span | None:
    return v.costs[phase].seconds if phase in v.costs else None


def _ratio(v: VariantView, phase: str) -> Span | None:
    return v.costs[phase].ratio if phase in v.costs else None


def _throughput(v: VariantView, first: VariantView) -> Span | None:
    """Clips a second to the first's, round by round."""
    return _faster(v, v.batch / first.batch)


def _mfu_ratio(v: VariantView, first: VariantView) -> Span | None:
    """MFU to the first's: exact arithmetic, times the speed-up round by round."""
    if not (isfinite(v.mfu) and first.mfu > 0):
        return None
    if v.record.recipe.engine == first.record.recipe.engine:  # one peak for both
        return _faster(v, v.flops * v.batch / (first.flops * first.batch))
    seconds, others = (arm.costs[TRAIN_STEP].seconds.value for arm in (v, first))
    return _faster(v, v.mfu * seconds / (first.mfu * others))


def _faster(v: VariantView, by: float) -> Span | None:
    speedup = v.costs[TRAIN_STEP].speedup if TRAIN_STEP in v.costs else Span(NAN)
    if not speedup.known or not isfinite(by):
        return None
    return Span(speedup.value * by, speedup.low * by, speedup.high * by)


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def _over(value: float | None, first: float | None) -> float | None:
    if value is None or first is None or not isfinite(value) or not first > 0:
        return None
    return value / first


def _ratio_text(value: float) -> str:
    return times(Span(value))


def _scaled(unit: Unit) -> Callable[[Span | float], str]:
    def show(value: Span | float) -> str:
        if isinstance(value, Span):
            parts = (part / unit.size for part in (value.value, value.low, value.high))
            return interval(Span(*parts))
        return significant(value / unit.size)

    return show


NAME, TITLE = "costs", "Cost of one clip"
# A step that a CUDA graph replays has no parts.
_STEP = {"forward": "#0072b2", "backward": "#e69f00", "optimizer": "#cc79a7", "replay": "#56b4e9"}
_INFERENCE = {"inference_1": "#009e73", "inference_batch": "#3d3d3d"}
_WORDS = {
    "replay": "one graph",
    "inference_1": "batch of one",
    "inference_batch": "batch of training",
}


def comparison_data(arms: Sequence[VariantView]) -> pd.DataFrame:
    """One row an arm and quantity, seconds or bytes a clip."""
    rows = []
    for v in arms:
        for phase in (*_STEP, TRAIN_STEP, *_INFERENCE):
            if phase not in v.costs:
                continue
            clips = 1.0 if phase == "inference_1" else v.batch
            seconds = v.costs[phase].seconds
            values = [part / clips for part in (seconds.value, seconds.low, seconds.high)]
            rows.append((v.name, phase, *values))
        if isfinite(v.saved_per_clip):
            rows.append((v.name, "saved_for_backward", *[v.saved_per_clip] * 3))
    return pd.DataFrame(rows, columns=["variant", "quantity", "value", "low", "high"])


def comparison(arms: Sequence[VariantView]) -> Drawing:
    """Three panels that share their rows."""
    data = comparison_data(arms)
    if data.empty:
        return left_out(NAME, TITLE, "nothing was measured.")
    caption = (
        "A clip's share of a training step by phase, of inference at batch one and at the batch of "
        "training, and the memory kept for its backward pass; medians, with 95 % intervals of the "
        "whole step and of inference. Patchout acts in training alone."
    )
    absent = [v.name for v in arms if v.cost_status != "ok"]
    if absent:
        caption += f" Without a result: {', '.join(absent)}."
    return Drawing(NAME, TITLE, caption, data, draw_comparison(data, [v.name for v in arms]))


def draw_comparison(data: pd.DataFrame, names: Sequence[str]) -> Figure:
    """Draws `comparison_data`, the rows in the order of the names."""
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
        Patch(color=colour, label=_WORDS.get(phase, phase))
        for phase, colour in _STEP.items()
        if (data["quantity"] == phase).any()
    ]
    handles += [
        Patch(color=colour, label=f"inference, {_WORDS[phase]}")
        for phase, colour in _INFERENCE.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return figure


def _draw_step(axes: Axes, data: pd.DataFrame, places: dict[str, int]) -> None:
    whole = data[data["quantity"] == TRAIN_STEP].set_index("variant")
    unit = unit_for(whole["value"], "s")
    left = dict.fromkeys(places, 0.0)
    for phase, colour in _STEP.items():
        mine = data[data["quantity"] == phase]
        for name, value in zip(mine["variant"], mine["value"] / unit.size, strict=True):
            axes.barh(places[name], value, 0.62, left=left[name], color=colour)
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
    axes.set_xlabel(f"{unit.name} a clip")


def _draw_inference(axes: Axes, data: pd.DataFrame, places: dict[str, int]) -> None:
    mine = data[data["quantity"].isin(_INFERENCE)]
    unit = unit_for(mine["value"], "s")
    for (phase, colour), shift in zip(_INFERENCE.items(), (-0.14, 0.14), strict=True):
        for row in mine[mine["quantity"] == phase].to_dict("records"):
            place = places[row["variant"]] + shift
            value, low, high = (row[name] / unit.size for name in ("value", "low", "high"))
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
            axes.plot(value, place, marker="o", color=colour, markersize=4.5)
    if len(mine):
        axes.set_xlim(right=1.1 * mine["high"].max() / unit.size)
    axes.set_title("inference, every patch kept")
    axes.set_xlabel(f"{unit.name} a clip")


def _draw_memory(axes: Axes, data: pd.DataFrame, places: dict[str, int]) -> None:
    mine = data[data["quantity"] == "saved_for_backward"]
    unit = unit_for(mine["value"], "B")
    for name, value in zip(mine["variant"], mine["value"] / unit.size, strict=True):
        axes.barh(places[name], value, 0.62, color=MUTED)
        axes.text(value, places[name], f" {significant(value)}", va="center", fontsize=8)
    if len(mine):
        axes.set_xlim(right=1.25 * mine["value"].max() / unit.size)
    axes.set_title("saved for backward")
    axes.set_xlabel(f"{unit.name} a clip")
