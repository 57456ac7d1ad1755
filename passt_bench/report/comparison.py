"""Renders a comparison of costs: what models cost, also relative to the first model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from math import isfinite
from operator import attrgetter, methodcaller
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.records.session import ComparisonRecord, SessionRecord
from passt_bench.records.store import (
    COMPARISONS,
    Store,
    comparison_names,
    read_comparison,
    write_comparison,
)
from passt_bench.report.figures.costs import NAME as FIGURE
from passt_bench.report.figures.costs import costs as draw_costs
from passt_bench.report.files import files_of, keep_record, kept_names, replacing, write_report
from passt_bench.report.pages import speed
from passt_bench.report.provenance import distinct, fact, measurement_facts, warnings
from passt_bench.report.study_tables import (
    PARAMETERS,
    PHASES,
    bytes_column,
    flops_columns,
    name_column,
    ratio_column,
    seconds_column,
    tokens_column,
)
from passt_bench.report.tables import Column, Table, table_of
from passt_bench.report.text import Span, counted, fixed, interval, significant, times
from passt_bench.report.view import SPEED_MARGIN, TRAIN_STEP, VariantView, measured_variants

PAGE = "comparison.html"
_TABLES = ("speed", "training", "inference", "memory", "arithmetic", "published", "failures")
WRITTEN = files_of("costs", _TABLES, [FIGURE]) | {PAGE}


def build_comparison(name: str, runs: Path, reports: Path) -> Path:
    """Renders one comparison into ``reports/NAME/``, with the sessions that it shows.

    Args:
        name: name of a comparison that was made, or that is kept in ``reports/NAME/``.
        runs: the folder that `compare` wrote to; its records come first.
        reports: the folder of all reports.

    Returns:
        The path of the page.

    Raises:
        InputError: no comparison of that name was made, or a file is broken.
    """
    folder = reports / name
    record = read_comparison(name, runs if name in comparison_names(runs) else folder)
    stores = [Store(runs), Store(folder)]
    sessions = [_session(key, stores) for key in record.sessions]
    with replacing(folder, WRITTEN) as new:
        write_comparison(record, new)
        for key in record.sessions:
            if stores[0].has(key):  # otherwise the report has it already
                keep_record(key, stores[0], Store(new))
        render_comparison(record, sessions, new)
    return folder / PAGE


def build_comparisons(runs: Path, reports: Path) -> list[Path]:
    """Renders every comparison in the runs and in the reports; returns the paths of the pages."""
    names = {*comparison_names(runs), *kept_names(reports, COMPARISONS)}
    return [build_comparison(name, runs, reports) for name in sorted(names)]


def _session(key: str, stores: Sequence[Store]) -> SessionRecord:
    for store in stores:
        if store.has(key):
            return next(session for session in store.sessions() if session.key == key)
    raise InputError(
        "the session of a comparison is missing",
        source=stores[0].root,
        field="records",
        value=key,
        remedy="Compare again.",
    )


def render_comparison(
    record: ComparisonRecord, sessions: Sequence[SessionRecord], out: Path
) -> Path:
    """Writes the page and, in ``out/costs``, its tables and its figure with their data.

    The same record and sessions give the same bytes.

    Returns:
        The path of the page.
    """
    arms = measured_variants(record, sessions)
    context = {
        "record": record,
        "speed": significant(arms[0].speed.value) if arms[0].speed.known else "",
        "answers": answers(arms),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
        "protocol": next((s.published_protocol for s in sessions if s.published_protocol), None),
        "facts": facts(record, arms, sessions),
        "warnings": warnings(sessions),
        "sessions": sessions,
    }
    return write_report(
        out / PAGE, PAGE, context, all_tables(record.name, arms), lambda: [draw_costs(arms)],
        label=record.name, folder="costs",
    )  # fmt: skip


def answers(arms: Sequence[VariantView]) -> list[tuple[str, str]]:
    """How fast each model trains relative to the first, in words."""
    costs = [(v, v.cost(TRAIN_STEP)) for v in arms[1:]]
    return [(v.name, speed(c) if c.ratio.known else v.cost_status) for v, c in costs]


def facts(
    record: ComparisonRecord, arms: Sequence[VariantView], sessions: Sequence[SessionRecord]
) -> list[tuple[str, str]]:
    """(name, value) pairs about the measurement, as far as records have them."""
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


def all_tables(name: str, arms: Sequence[VariantView]) -> dict[str, Table]:
    """Every table that has rows, by name; the first variant is the baseline."""
    builders = (speeds, training, inference, memory, arithmetic, published, failures)
    made = [build(name, arms) for build in builders]
    return {table.name: table for table in made if table.rows}


def _with_ratio(column: Column, name: str, first: VariantView) -> tuple[Column, Column]:
    """A column of numbers, and a column of their ratios to the first model's."""
    return column, _relative(name, "ratio", column.get, first)


def _relative(
    name: str, title: str, get: Callable[[VariantView], float | None], first: VariantView
) -> Column:
    def ratio(v: VariantView) -> float | None:
        value, base = get(v), get(first)
        return value / base if value is not None and base is not None and base > 0 else None

    return Column(f"{name}_ratio", title, lambda value: times(Span(value)), get=ratio)


def speeds(name: str, arms: Sequence[VariantView]) -> Table:
    """The main table: throughput, step, inference and memory relative to the first model."""
    first = arms[0]
    columns = [
        name_column("model"),
        tokens_column("tokens in training"),
        Column("clips_per_second", "training, clips per second", interval, span=True,
               get=lambda v: v.speed if v.speed.known else v.cost_status),
        Column("clips_ratio", "ratio", times, span=True, get=partial(_throughput, first)),
        *(ratio_column(phase, PHASES[phase])
          for phase in (TRAIN_STEP, "inference_1", "inference_batch")),
        _relative("saved", "saved for backward", attrgetter("saved"), first),
        _relative("flops", "training FLOPs", methodcaller("measured", "flops"), first),
    ]  # fmt: skip
    caption = f"{name}: time, memory and arithmetic as ratios to {first.name}; 95 % intervals."
    return table_of(arms, "speed", caption, columns, 0)


def training(name: str, arms: Sequence[VariantView]) -> Table:
    """Seconds of a training step and its parts, each with its ratio."""
    return _phases("training", name, arms, (TRAIN_STEP, "forward", "backward", "optimizer"))


def inference(name: str, arms: Sequence[VariantView]) -> Table:
    """Seconds of inference and of the front end, each with its ratio."""
    return _phases("inference", name, arms, ("inference_1", "inference_batch", "frontend"))


def _phases(kind: str, name: str, arms: Sequence[VariantView], wanted: tuple[str, ...]) -> Table:
    present = [phase for phase in wanted if any(phase in v.costs for v in arms)]
    pairs = [(seconds_column(arms, phase), ratio_column(phase, "ratio")) for phase in present]
    caption = (
        f"{name}: time of {kind}, medians with distribution-free 95 % intervals, and "
        f"ratios to {arms[0].name} taken round by round."
    )
    columns = [name_column("model"), *chain.from_iterable(pairs)]
    return table_of(arms if present else (), kind, caption, columns, 0)


def memory(name: str, arms: Sequence[VariantView]) -> Table:
    """Bytes of every memory entry, each with its ratio."""
    order = (
        "train_peak",
        "train_rise",
        "reserved",
        "resident",
        "saved_for_backward",
        "inference_peak",
    )
    present = [entry for entry in order if any(entry in v.memory for v in arms)]
    pairs = [_with_ratio(bytes_column(arms, entry), entry, arms[0]) for entry in present]
    columns = [name_column("model"), *chain.from_iterable(pairs)]
    return table_of(arms if present else (), "memory", f"{name}: memory per step.", columns, 0)


def arithmetic(name: str, arms: Sequence[VariantView]) -> Table:
    """Tokens, parameters, FLOPs and model FLOPs utilization (MFU)."""
    first = arms[0]
    flops, flops_inference = flops_columns(arms)
    columns = [
        name_column("model"),
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
    caption = (
        f"{name}: arithmetic; MFU is relative to the peak of matmuls measured in the same session."
    )
    return table_of(arms, "arithmetic", caption, columns, 0)


def published(name: str, arms: Sequence[VariantView]) -> Table:
    """Clips per second by this suite's protocol and by that of the reference code."""
    first = arms[0]
    columns = [
        name_column("model"),
        Column("clips_per_second", "this suite's protocol", interval, "clips/s", span=True,
               get=lambda v: v.speed),
        Column("published", "the published protocol", significant, "clips/s",
               get=methodcaller("measured", "published")),
        Column("gap", "published / ours", lambda value: times(Span(value)),
               get=lambda v: v.measured("published") / v.speed.value),
        Column("ours_speedup", f"ours vs. {first.name}", times, span=True,
               get=partial(_throughput, first)),
        Column("published_speedup", f"published vs. {first.name}", lambda value: times(Span(value)),
               get=lambda v: v.measured("published") / first.measured("published")),
    ]  # fmt: skip
    shown = arms if any(isfinite(v.measured("published")) for v in arms) else ()
    caption = f"{name}: training throughput by two protocols."
    return table_of(shown, "published", caption, columns, 0)


def failures(name: str, arms: Sequence[VariantView]) -> Table:
    """Models whose measurement failed or is incomplete, and why."""
    columns = [
        name_column("model"),
        Column("status", "status",
               get=lambda v: "in part" if v.cost_status == "ok" else v.cost_status),
        Column("message", "why", get=attrgetter("message")),
    ]  # fmt: skip
    failed = [v for v in arms if v.cost_status != "ok" or (v.arm and v.arm.message)]
    return table_of(failed, "failures", f"{name}: what failed.", columns)


def _throughput(first: VariantView, v: VariantView) -> Span:
    """Clips per second relative to the first model, round by round."""
    return _scaled_speedup(v, v.batch / first.batch)


def _mfu_ratio(first: VariantView, v: VariantView) -> Span | None:
    """MFU relative to the first model: exact arithmetic times the speed-up round by round."""
    mfu, base = v.measured("mfu"), first.measured("mfu")
    if not (isfinite(mfu) and base > 0):
        return None
    if v.record.recipe.engine == first.record.recipe.engine:  # one peak for both
        work, others = (arm.measured("flops") * arm.batch for arm in (v, first))
        return _scaled_speedup(v, work / others)
    seconds, others = (arm.cost(TRAIN_STEP).seconds.value for arm in (v, first))
    return _scaled_speedup(v, mfu * seconds / (base * others))


def _scaled_speedup(v: VariantView, factor: float) -> Span:
    speedup = v.cost(TRAIN_STEP).speedup
    return Span(speedup.value * factor, speedup.low * factor, speedup.high * factor)
