"""Renders a comparison of costs: what models cost, also relative to the first model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from math import isfinite
from operator import attrgetter, methodcaller
from pathlib import Path

from passt_bench.records.session import ComparisonRecord, SessionRecord
from passt_bench.report.figures.costs import NAME as FIGURE
from passt_bench.report.figures.costs import costs as draw_costs
from passt_bench.report.files import files_of, write_report
from passt_bench.report.pages import speed
from passt_bench.report.provenance import distinct, fact, measurement_facts, warnings
from passt_bench.report.study_tables import (
    PARAMETERS,
    PHASES,
    bytes_column,
    flops_columns,
    name_column,
    predicted_columns,
    ratio_column,
    seconds_column,
    throughput_columns,
    tokens_column,
)
from passt_bench.report.tables import Column, Table, table_of
from passt_bench.report.text import NAN, Span, counted, fixed, interval, significant, times
from passt_bench.report.view import SPEED_MARGIN, TRAIN_STEP, VariantView, measured_variants

PAGE = "comparison.html"
_TABLES = ("speed", "training", "inference", "memory", "arithmetic", "published", "failures")
WRITTEN = files_of("costs", _TABLES, [FIGURE]) | {PAGE}


def render_comparison(
    record: ComparisonRecord, sessions: Sequence[SessionRecord], out: Path
) -> Path:
    """Writes the page and, in ``out/costs``, its tables and its figure with their data."""
    arms = measured_variants(record, sessions)
    context = {
        "record": record,
        "speed": significant(arms[0].speed.value) if arms[0].speed.known else "",
        "answers": [
            (v.name, speed(v.cost(TRAIN_STEP)) if v.cost(TRAIN_STEP).ratio.known else v.cost_status)
            for v in arms[1:]
        ],
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
        "protocol": next((s.published_protocol for s in sessions if s.published_protocol), None),
        "facts": _facts(record, arms, sessions),
        "warnings": warnings(sessions),
        "sessions": sessions,
    }
    return write_report(
        out / PAGE, PAGE, context, all_tables(record.name, arms), lambda: [draw_costs(arms)],
        label=record.name, folder="costs",
    )  # fmt: skip


def _facts(
    record: ComparisonRecord, arms: Sequence[VariantView], sessions: Sequence[SessionRecord]
) -> list[tuple[str, str]]:
    recipes = [v.record.recipe for v in arms]
    ratios = [v.cost(TRAIN_STEP).ratio for v in arms[1:]]
    halves = [ratio.half / ratio.value for ratio in ratios if ratio.has_interval]
    batches = distinct(counted(int(v.batch), "clip") for v in arms if isfinite(v.batch))
    seconds = distinct(f"{recipe.data.seconds:g} s" for recipe in recipes)
    return [
        *fact("Command", [record.command]),
        *fact("Step", [f"{', '.join(batches)} of {', '.join(seconds)}"] if batches else []),
        *fact("Ratio half widths", [f"up to ±{fixed(100 * max(halves), 1)} %"] if halves else []),
        *measurement_facts(recipes, sessions, sessions),
        *fact("Packages", [", ".join(f"{name} {version}" for name, version in record.packages)]),
    ]


_TIMES = (
    "time of {}, medians with distribution-free 95 % intervals, and ratios to {{first}} taken "
    "round by round."
)
_CAPTIONS = {
    "speed": "time, memory and arithmetic as ratios to {first}; 95 % intervals.",
    "training": _TIMES.format("training"),
    "inference": _TIMES.format("inference"),
    "memory": "memory per step.",
    "arithmetic": "arithmetic; MFU is relative to the peak of matmuls measured in the same "
    "session.",
    "published": "training throughput by two protocols.",
}
_MEMORY = (
    *("train_peak", "train_rise", "reserved", "resident"),
    *("saved_for_backward", "inference_peak"),
)


def all_tables(name: str, arms: Sequence[VariantView]) -> dict[str, Table]:
    """Every table that has rows, by name; the first variant is the baseline."""
    columns = {
        "speed": _speed(arms),
        "training": [
            *_phases(arms, (TRAIN_STEP, "forward", "backward", "optimizer")),
            *predicted_columns(arms, TRAIN_STEP, lambda v: v.cost(TRAIN_STEP).seconds.value),
        ],
        "inference": _phases(arms, ("inference_1", "inference_batch", "frontend")),
        "memory": [
            column
            for entry in _MEMORY
            if any(entry in v.memory for v in arms)
            for column in _with_ratio(bytes_column(arms, entry), entry, arms[0])
        ]
        + predicted_columns(arms, "train_peak", lambda v: v.memory.get("train_peak", NAN)),
        "arithmetic": _arithmetic(arms),
        "published": _published(arms),
    }
    tables = {
        kind: table_of(
            *(arms, kind, f"{name}: {_CAPTIONS[kind].format(first=arms[0].name)}"),
            *([name_column("model"), *found], 0),
        )
        for kind, found in columns.items()
        if found
    }
    failed = [v for v in arms if v.cost_status != "ok" or (v.arm and v.arm.message)]
    if failed:
        why = [
            name_column("model"),
            Column("status", "status",
                   get=lambda v: "in part" if v.cost_status == "ok" else v.cost_status),
            Column("message", "why", get=attrgetter("message")),
        ]  # fmt: skip
        tables["failures"] = table_of(failed, "failures", f"{name}: what failed.", why)
    return tables


def _with_ratio(column: Column, name: str, first: VariantView) -> tuple[Column, Column]:
    """A column of numbers, and a column of their ratios to the first model's."""
    return column, _relative(name, "ratio", column.get, first)


def _relative(
    name: str, title: str, get: Callable[[VariantView], float | None], first: VariantView
) -> Column:
    def ratio(v: VariantView) -> float | None:
        value, base = get(v), get(first)
        return value / base if value is not None and base is not None and base > 0 else None

    return Column(f"{name}_ratio", title, _times, get=ratio)


def _times(ratio: float) -> str:
    return times(Span(ratio))


def _phases(arms: Sequence[VariantView], wanted: tuple[str, ...]) -> list[Column]:
    """Seconds of each measured phase, and their ratios."""
    present = [phase for phase in wanted if any(phase in v.costs for v in arms)]
    pairs = [(seconds_column(arms, phase), ratio_column(phase, "ratio")) for phase in present]
    return list(chain.from_iterable(pairs))


def _speed(arms: Sequence[VariantView]) -> list[Column]:
    """Throughput, step, inference and memory relative to the first model."""
    first = arms[0]
    return [
        tokens_column("tokens in training"),
        *throughput_columns("ratio"),
        *(ratio_column(phase, PHASES[phase])
          for phase in (TRAIN_STEP, "inference_1", "inference_batch")),
        _relative("saved", "saved for backward", attrgetter("saved_per_clip"), first),
        _relative("flops", "training FLOPs", methodcaller("measured", "flops"), first),
    ]  # fmt: skip


def _arithmetic(arms: Sequence[VariantView]) -> list[Column]:
    """Tokens, parameters, FLOPs and model FLOPs utilization (MFU)."""
    first = arms[0]
    flops, flops_inference = flops_columns(arms)
    return [
        *_with_ratio(tokens_column("tokens in training"), "tokens", first),
        Column("tokens_full", "tokens at inference", str,
               get=lambda v: v.record.tokens_full or None),
        PARAMETERS,
        *_with_ratio(flops, "flops", first),
        *_with_ratio(flops_inference, "flops_inference", first),
        Column("mfu", "MFU", lambda share: f"{fixed(100 * share, 1)} %",
               get=methodcaller("measured", "mfu")),
        Column("mfu_ratio", "ratio", times, span=True, get=partial(_mfu_ratio, first)),
        Column("compile_seconds", "compiling", partial(significant, digits=2), "s",
               get=methodcaller("measured", "compile_seconds")),
    ]  # fmt: skip


def _published(arms: Sequence[VariantView]) -> list[Column]:
    """Clips per second by this suite's protocol and by that of the reference code, if measured."""
    first, published = arms[0], methodcaller("measured", "published")
    if not any(isfinite(published(v)) for v in arms):
        return []
    return [
        Column("clips_per_second", "this suite's protocol", interval, "clips/s", span=True,
               get=lambda v: v.speed),
        Column("published", "the published protocol", significant, "clips/s", get=published),
        Column("gap", "published / ours", _times, get=lambda v: published(v) / v.speed.value),
        Column("ours_speedup", f"ours vs. {first.name}", times, span=True,
               get=lambda v: v.cost(TRAIN_STEP).speedup),
        Column("published_speedup", f"published vs. {first.name}", _times,
               get=lambda v: published(v) / published(first)),
    ]  # fmt: skip


def _mfu_ratio(first: VariantView, v: VariantView) -> Span | None:
    """MFU relative to the first model: exact arithmetic times the speed-up round by round."""
    mfu, base = v.measured("mfu"), first.measured("mfu")
    if not (isfinite(mfu) and base > 0):
        return None
    if v.record.recipe.engine == first.record.recipe.engine:  # one peak for both
        return _scaled_speedup(v, v.measured("flops") / first.measured("flops"))
    seconds, others = (1 / arm.speed.value for arm in (v, first))
    return _scaled_speedup(v, mfu * seconds / (base * others))


def _scaled_speedup(v: VariantView, factor: float) -> Span:
    speedup = v.cost(TRAIN_STEP).speedup
    return Span(speedup.value * factor, speedup.low * factor, speedup.high * factor)
