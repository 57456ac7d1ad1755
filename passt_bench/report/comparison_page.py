"""The page of a comparison of costs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

from passt_bench.analysis.costs import costs_of, memory_of
from passt_bench.errors import InputError
from passt_bench.records.session import ComparisonRecord, SessionRecord
from passt_bench.records.store import (
    COMPARISONS,
    Store,
    comparison_names,
    read_comparison,
    write_comparison,
)
from passt_bench.report.comparison import NAME as FIGURE
from passt_bench.report.comparison import all_tables, comparison
from passt_bench.report.files import (
    DRAWN,
    SHOWN,
    TABULATED,
    files_of,
    keep_record,
    render_template,
    replacing,
    write_drawing,
    write_table,
    write_text,
)
from passt_bench.report.pages import speed
from passt_bench.report.provenance import distinct, machine_text
from passt_bench.report.text import counted, fixed, significant
from passt_bench.report.theme import look
from passt_bench.report.view import SPEED_MARGIN, TRAIN_STEP, VariantView, measured

PAGE = "comparison.html"
_TABLES = ("speed", "training", "inference", "memory", "arithmetic", "published", "failures")
WRITTEN = files_of("costs", TABULATED, _TABLES) | files_of("costs", DRAWN, [FIGURE]) | {PAGE}


def build_comparison(name: str, runs: Path, reports: Path) -> Path:
    """Renders one comparison into ``reports/NAME/``, with the sessions it stands on.

    Args:
        name: of a comparison that was made, or that is kept in ``reports/NAME/``.
        runs: the folder that `compare` wrote to; what lies there comes first.
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
    with replacing(reports / record.name, WRITTEN) as new:
        write_comparison(record, new)
        for key in record.sessions:
            if stores[0].has(key):  # what only the report has is there already
                keep_record(key, stores[0], Store(new))
        page = render_comparison(record, sessions, new)
    return folder / page.name


def build_comparisons(runs: Path, reports: Path) -> list[Path]:
    """Renders every comparison found in the runs and in the reports; the paths of the pages."""
    kept = {path.stem for path in reports.glob(f"{SHOWN}/{COMPARISONS}/*.json")}
    names = sorted({*comparison_names(runs), *kept})
    return [build_comparison(name, runs, reports) for name in names]


def _session(key: str, stores: Sequence[Store]) -> SessionRecord:
    for store in stores:
        if store.has(key):
            return next(session for session in store.sessions() if session.key == key)
    raise InputError(
        "the session of a comparison is gone",
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
    costs, memory = costs_of(record, sessions), memory_of(record, sessions)
    arms = measured(record.variants, costs, memory)
    tables = all_tables(record.name, arms)
    for made in tables.values():
        write_table(made, out / "costs", record.name)
    with look():
        shown = write_drawing(comparison(arms), out / "costs")
    context = {
        "record": record,
        "headline": headline(arms),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
        "tables": tables,
        "shown": shown,
        "protocol": next((s.published_protocol for s in sessions if s.published_protocol), None),
        "facts": facts(record, arms, sessions),
        "warnings": list(
            dict.fromkeys(str(text) for s in sessions for text in s.disturbance.get("warnings", ()))
        ),
        "sessions": [{"key": s.key, "arms": len(s.arms), "rounds": s.rounds} for s in sessions],
    }
    return write_text(out / PAGE, render_template(PAGE, context))


def headline(arms: Sequence[VariantView]) -> str:
    """The training step of each against the first, in a sentence or two."""
    first = arms[0]
    told = []
    for v in arms[1:]:
        if TRAIN_STEP not in v.costs or not v.costs[TRAIN_STEP].ratio.known:
            told.append(f"{v.name}: {v.cost_status}")
            continue
        told.append(f"{v.name} {speed(v.costs[TRAIN_STEP])}")
    start = f"Against {first.name}"
    if first.speed.known:
        start += f" ({significant(first.speed.value)} clips a second in training)"
    return f"{start}: " + "; ".join(told) + "."


def facts(
    record: ComparisonRecord, arms: Sequence[VariantView], sessions: Sequence[SessionRecord]
) -> list[tuple[str, str]]:
    """How it was measured; what no record tells is left out."""
    recipes = [v.record.recipe for v in arms]
    engines = distinct(recipe.engine.describe() for recipe in recipes)
    peaks = [f"{significant(s.matmul_flops / 1e9)} GFLOP/s" for s in sessions if s.matmul_flops]
    halves = [
        v.costs[TRAIN_STEP].ratio.half / v.costs[TRAIN_STEP].ratio.value
        for v in arms[1:]
        if TRAIN_STEP in v.costs and v.costs[TRAIN_STEP].ratio.has_interval
    ]
    batches = distinct(counted(int(v.batch), "clip") for v in arms if isfinite(v.batch))
    seconds = distinct(f"{recipe.data.seconds:g} s" for recipe in recipes)
    found = [
        ("Command", record.command),
        ("Step", f"{', '.join(batches)} of {', '.join(seconds)}" if batches else ""),
        ("Engine", "; ".join(engines)),
        (
            "Sessions",
            "; ".join(
                f"{s.rounds} interleaved rounds of {counted(s.steps, 'step')}, one process a "
                f"model, {significant(s.seconds, 2)} s"
                for s in sessions
            ),
        ),
        ("Half widths", f"step ratios to ±{fixed(100 * max(halves), 1)} %" if halves else ""),
        ("Attention", ", ".join(distinct(a.attention for s in sessions for a in s.arms))),
        ("Matrix product peak", ", ".join(peaks)),
        (
            "Stated peak",
            "; ".join(
                distinct(
                    f"{significant(s.stated_flops / 1e12)} TFLOP/s ({s.stated_source})"
                    for s in sessions
                    if s.stated_flops
                )
            ),
        ),
        ("Machine", "; ".join(distinct(machine_text(s.machine) for s in sessions))),
        (
            "Versions",
            "; ".join(
                distinct(
                    ", ".join(f"{name} {v}" for name, v in sorted(s.versions.items()))
                    for s in sessions
                )
            ),
        ),
        ("Packages", ", ".join(f"{name} {version}" for name, version in record.packages)),
        ("Commit", ", ".join(distinct(s.commit or "" for s in sessions))),
    ]
    return [(what, how) for what, how in found if how]
