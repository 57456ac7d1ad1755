"""The tables of a comparison of costs: each quantity beside its ratio to the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite

from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import NAN, Span, Unit, fixed, interval, significant, times, unit_for
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
