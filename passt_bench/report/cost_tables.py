"""Builds the tables of costs: ratios to the baseline, arithmetic, speed tests, equal quality."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite
from operator import attrgetter, methodcaller

from passt_bench.report.study_tables import (
    MEMORY,
    PARAMETERS,
    PHASES,
    bytes_column,
    contrasts,
    cost,
    failures,
    flops_columns,
    memory,
    name_column,
    of_variants,
    per_class,
    probes,
    quality,
    ratio_column,
    speed,
    throughput_columns,
    tokens_column,
    verdicts,
)
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    Span,
    cost_share,
    fixed,
    interval,
    quoted,
    significant,
    times,
)
from passt_bench.report.view import TRAIN_STEP, StudyView, VariantView, gains

TABLES = (
    *("verdicts", "contrasts", "speed", "quality", "cost", "memory", "per_class", "probes"),
    *("failures", "reached", "gains", "ratios", "arithmetic", "published"),
)


def page_tables(view: StudyView) -> dict[str, Table]:
    """Every table of a study's page that has rows, by name."""
    of_quality = (verdicts, contrasts, quality, per_class, probes)
    own = of_quality if view.study.seeds else (speed,)
    made = [build(view) for build in (*own, cost, memory, failures, reached_table)]
    if not view.study.seeds and view.results.sessions:
        made.append(_gains(view))
        made += [_ratios(view), _arithmetic(view)]
        if any(isfinite(v.measured("published")) for v in view.variants):
            made.append(_published(view))
    return {table.name: table for table in made if table.rows}


def reached_table(view: StudyView) -> Table:
    """For each budget of the baseline's model: what the others need for the same quality."""
    units = {unit: found for unit, found in view.results.reached.items() if found}
    columns = [
        Column("target", "as good as"),
        Column("series", "model"),
        Column("reached", "seeds that reach it"),
        *(Column(f"{unit}_needed".lower(), f"{unit} needed") for unit in units),
    ]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for unit, found in units.items():
        for item in found:
            row = rows.setdefault((item.variant, item.line), {"": f"{item.reached} of {item.n}"})
            row[unit] = cost_share(Span(*item.share))
    caption = (
        f"{view.study.name}: the cost until a model is as good in {view.metric} as the baseline's "
        "with each of its budgets in the same seed, divided by that budget; medians over seeds, "
        "with distribution-free 95 % intervals. Values are interpolated between the ends of "
        "trainings over the logarithm of their cost, never read inside a training."
    )
    items = [(*key, *(row.get(unit) for unit in ("", *units))) for key, row in rows.items()]
    return table("reached", caption, columns, items)


def _gains(view: StudyView) -> Table:
    """What model and patchout gain in each setting, and divided by the gain in the baseline's.

    Beside them stand the gains in Table 1 of the paper, where it has both models.
    """
    columns = [
        Column("variant", "variant", get=lambda g: g.variant.name),
        Column("other", "against", get=lambda g: g.other.name),
        Column("speedup", "speed-up", times, span=True, get=attrgetter("speedup")),
        Column("saved", "memory for backward", times, get=attrgetter("saved")),
        Column("reference", "compared with",
               get=lambda g: None if g.variant is g.reference else g.reference.name),
        Column("relative", "speed-up / its speed-up", times, span=True, get=attrgetter("relative")),
        Column("relative_saved", "memory / its memory", times,
               get=attrgetter("relative_saved")),
        Column("paper_speedup", "speed-up in the paper", times,
               get=methodcaller("published", "clips_per_second")),
        Column("paper_memory", "memory in the paper", times,
               get=methodcaller("published", "gb_per_clip")),
    ]  # fmt: skip
    caption = f"{view.study.name}: the gain in each setting, and divided by that of the baseline's."
    found = gains(view)
    if any(gain.published("gb_per_clip") for gain in found):
        caption += " The paper's are of its Table 1: on one Titan RTX, all memory of training."
    return table("gains", caption, columns, found)


def _relative(
    name: str, title: str, get: Callable[[VariantView], float | None], first: VariantView
) -> Column:
    def ratio(v: VariantView) -> float | None:
        value, base = get(v), get(first)
        return value / base if value is not None and base is not None and base > 0 else None

    return Column(f"{name}_ratio", title, times, get=ratio)


def _memory(entry: str, v: VariantView) -> float | None:
    return v.memory.get(entry)


def _ratios(view: StudyView) -> Table:
    """Throughput, and every time and memory that was measured relative to the baseline."""
    base, arms = view.baseline, view.variants
    columns = [
        name_column("variant"),
        _relative("tokens", "tokens", lambda v: v.record.tokens or None, base),
        *throughput_columns("relative"),
        *(ratio_column(phase, title) for phase, title in PHASES.items()
          if any(phase in v.costs for v in arms)),
        *(_relative(entry, title, partial(_memory, entry), base)
          for entry, title in MEMORY.items() if any(entry in v.memory for v in arms)),
        _relative("saved", "saved, per clip", attrgetter("saved_per_clip"), base),
        _relative("flops", "training FLOPs", methodcaller("measured", "flops"), base),
        _relative("flops_inference", "inference FLOPs",
                  methodcaller("measured", "flops_inference"), base),
    ]  # fmt: skip
    caption = (
        f"time, memory and arithmetic as ratios to {quoted(base.name)}; those of time are taken "
        "round by round, with 95 % intervals."
    )
    return of_variants(view, "ratios", caption, columns)


def _arithmetic(view: StudyView) -> Table:
    """Tokens, parameters, FLOPs and model FLOPs utilization (MFU)."""
    arms = view.variants
    columns = [
        name_column("variant"),
        tokens_column("tokens in training"),
        Column("tokens_full", "tokens at inference", str,
               get=lambda v: v.record.tokens_full or None),
        PARAMETERS,
        bytes_column(arms, "resident"),
        *flops_columns(arms),
        Column("mfu", "MFU", lambda share: f"{fixed(100 * share, 1)} %",
               get=methodcaller("measured", "mfu")),
        Column("compile_seconds", "compiling", partial(significant, digits=2), "s",
               get=methodcaller("measured", "compile_seconds")),
    ]  # fmt: skip
    caption = "arithmetic; MFU is relative to the peak of matmuls measured in the same session."
    return of_variants(view, "arithmetic", caption, columns)


def _published(view: StudyView) -> Table:
    """Clips per second by this suite's protocol and by that of the reference code."""
    first, published = view.baseline, methodcaller("measured", "published")
    columns = [
        name_column("variant"),
        Column("clips_per_second", "this suite's protocol", interval, "clips/s", span=True,
               get=lambda v: v.speed),
        Column("published", "the published protocol", significant, "clips/s", get=published),
        Column("gap", "published / ours", times, get=lambda v: published(v) / v.speed.value),
        Column("ours_speedup", f"ours vs. {first.name}", times, span=True,
               get=lambda v: v.cost(TRAIN_STEP).speedup),
        Column("published_speedup", f"published vs. {first.name}", times,
               get=lambda v: published(v) / published(first)),
    ]  # fmt: skip
    return of_variants(view, "published", "training throughput by two protocols.", columns)
