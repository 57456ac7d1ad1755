"""Builds the tables of a study of costs with ratios to the baseline, arithmetic and speed tests."""

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
    flops_columns,
    name_column,
    ratio_column,
    throughput_columns,
    tokens_column,
)
from passt_bench.report.tables import Column, Table, table_of
from passt_bench.report.text import fixed, interval, quoted, significant, times
from passt_bench.report.view import TRAIN_STEP, StudyView, VariantView, gains

COST_TABLES = ("gains", "ratios", "arithmetic", "published")
_CAPTIONS = {
    "ratios": "time, memory and arithmetic as ratios to {base}; those of time are taken round by "
    "round, with 95 % intervals.",
    "arithmetic": "arithmetic; MFU is relative to the peak of matmuls measured in the same "
    "session.",
    "published": "training throughput by two protocols.",
}


def cost_tables(view: StudyView) -> dict[str, Table]:
    """The tables that a study without quality cells has beside the others, if it was measured."""
    if view.study.seeds or not view.results.sessions:
        return {}
    columns = {
        "ratios": _ratios(view),
        "arithmetic": _arithmetic(view),
        "published": _published(view),
    }
    highlight = view.variants.index(view.baseline)
    tables = {
        kind: table_of(
            *(view.variants, kind),
            f"{view.study.name}: {_CAPTIONS[kind].format(base=quoted(view.baseline.name))}",
            *([name_column("variant"), *found], highlight),
        )
        for kind, found in columns.items()
        if found
    }
    of_settings = _gains(view)
    return {**tables, "gains": of_settings} if of_settings.rows else tables


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
    return table_of(found, "gains", caption, columns)


def _relative(
    name: str, title: str, get: Callable[[VariantView], float | None], first: VariantView
) -> Column:
    def ratio(v: VariantView) -> float | None:
        value, base = get(v), get(first)
        return value / base if value is not None and base is not None and base > 0 else None

    return Column(f"{name}_ratio", title, times, get=ratio)


def _ratios(view: StudyView) -> list[Column]:
    """Throughput, and every time and memory that was measured relative to the baseline."""
    base, arms = view.baseline, view.variants
    return [
        _relative("tokens", "tokens", tokens_column("tokens").get, base),
        *throughput_columns("relative"),
        *(ratio_column(phase, title) for phase, title in PHASES.items()
          if any(phase in v.costs for v in arms)),
        *(_relative(entry, title, bytes_column(arms, entry).get, base)
          for entry, title in MEMORY.items() if any(entry in v.memory for v in arms)),
        _relative("saved", "saved, per clip", attrgetter("saved_per_clip"), base),
        _relative("flops", "training FLOPs", methodcaller("measured", "flops"), base),
        _relative("flops_inference", "inference FLOPs",
                  methodcaller("measured", "flops_inference"), base),
    ]  # fmt: skip


def _arithmetic(view: StudyView) -> list[Column]:
    """Tokens, parameters, FLOPs and model FLOPs utilization (MFU)."""
    arms = view.variants
    return [
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


def _published(view: StudyView) -> list[Column]:
    """Clips per second by this suite's protocol and by that of the reference code, if measured."""
    first, published = view.baseline, methodcaller("measured", "published")
    if not any(isfinite(published(v)) for v in view.variants):
        return []
    return [
        Column("clips_per_second", "this suite's protocol", interval, "clips/s", span=True,
               get=lambda v: v.speed),
        Column("published", "the published protocol", significant, "clips/s", get=published),
        Column("gap", "published / ours", times, get=lambda v: published(v) / v.speed.value),
        Column("ours_speedup", f"ours vs. {first.name}", times, span=True,
               get=lambda v: v.cost(TRAIN_STEP).speedup),
        Column("published_speedup", f"published vs. {first.name}", times,
               get=lambda v: published(v) / published(first)),
    ]  # fmt: skip
