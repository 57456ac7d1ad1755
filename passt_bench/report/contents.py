"""The main tables of a study: verdicts, quality, cost."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite

from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    Span,
    Unit,
    fixed,
    interval,
    p_value,
    significant,
    times,
    unit_for,
)
from passt_bench.report.view import TRAIN_STEP, StudyView, VariantView, mean

_PHASES = {
    TRAIN_STEP: "training step",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "inference_1": "inference, one clip",
    "inference_batch": "inference, the same batch",
    "frontend": "front end",
}
_MEMORY = {
    "train_peak": "peak in training",
    "train_rise": "rise in a step",
    "saved_for_backward": "saved for backward",
    "inference_peak": "peak at inference",
    "reserved": "reserved",
}
_VARIANT = Column("variant", "variant")
_TOKENS = Column("tokens", "tokens", str)


def verdicts(view: StudyView) -> Table:
    """The answer: quality with its verdict beside time, memory and arithmetic."""
    step = _seconds(view, TRAIN_STEP)
    peak, saved = _bytes(view, "train_peak"), _bytes(view, "saved_for_backward")
    flops = unit_for((v.flops for v in view.variants), "FLOP")
    columns = [
        Column("variant", "variant", label={v.name: v.label for v in view.variants}.__getitem__),
        _TOKENS,
        Column(view.metric, view.metric, interval, span=True),
        Column("difference", "difference", partial(interval, sign=True), span=True),
        Column("p", "corrected p", p_value),
        Column("verdict", "verdict"),
        Column("train_step_seconds", "training step", _scaled(step), step.name, span=True),
        Column("train_step_ratio", "step to baseline", times, span=True),
        Column("train_peak_bytes", "peak memory", _scaled(peak), peak.name),
        Column("saved_bytes", "saved for backward", _scaled(saved), saved.name),
        Column("flops_per_clip", "training a clip", _scaled(flops), flops.name),
    ]
    rows = [
        (
            v.name,
            _tokens(v),
            v.value if v.value.known else runs(v),
            v.difference,
            v.comparison.p if v.comparison else None,
            v.verdict,
            *_step(v),
            v.memory.get("train_peak"),
            v.memory.get("saved_for_backward"),
            v.flops,
        )
        for v in view.variants
    ]
    caption = (
        f"{view.study.name}: {view.metric} against {view.study.baseline} with 95 % intervals "
        f"(difference not corrected, p Holm-corrected, margin ±{view.margin:g}), and the cost of a "
        "training step."
    )
    return table("verdicts", caption, columns, rows, _baseline(view))


def _step(v: VariantView) -> tuple[Span | str | None, Span | None]:
    cost = v.costs.get(TRAIN_STEP)
    if cost is None:
        return (v.cost_status if v.cost_status != "missing" else None), None
    return cost.seconds, cost.ratio


def quality(view: StudyView) -> Table:
    """Every metric of every variant, and which runs it stands on."""
    metrics = sorted({name for v in view.variants for run in v.ok_runs for name in run.metrics})
    others = [name for name in metrics if name != view.metric]
    columns = [
        _VARIANT,
        _TOKENS,
        Column("dropped", "patches dropped", lambda share: f"{fixed(100 * share, 1)} %"),
        Column("parameters", "parameters", lambda count: f"{int(count):,}".replace(",", " ")),
        Column("runs", "runs"),
        Column(view.metric, view.metric, interval, span=True),
        *(Column(name, name, partial(significant, digits=3)) for name in others),
        Column("detectable", "detectable difference", partial(significant, digits=2)),
        Column("seeds_needed", "seeds to settle it", str),
    ]
    rows = [
        (
            v.name,
            _tokens(v),
            v.rate,
            v.parameters if isfinite(v.parameters) else None,
            runs(v),
            v.value,
            *(mean(run.metrics.get(name) for run in v.ok_runs) for name in others),
            v.comparison.detectable if v.comparison else None,
            v.comparison.blocks_needed if v.comparison else None,
        )
        for v in view.variants
    ]
    caption = (
        f"{view.study.name}: quality. Mean {view.metric} over seeds with its 95 % interval; the "
        "true difference that these seeds show with probability 0.8."
    )
    return table("quality", caption, columns, rows, _baseline(view))


def cost(view: StudyView) -> Table:
    """Every measured phase; without rows where nothing was measured."""
    phases = [name for name in _PHASES if any(name in v.costs for v in view.variants)]
    columns = [
        _VARIANT,
        _TOKENS,
        Column("ratio", "training step to baseline", times, span=True),
        *(_column(n, _PHASES[n], _seconds(view, n), "seconds", True) for n in phases),
        Column("status", "session"),
    ]
    rows = [
        (
            v.name,
            _tokens(v),
            v.costs[TRAIN_STEP].ratio if TRAIN_STEP in v.costs else None,
            *(v.costs[name].seconds if name in v.costs else None for name in phases),
            v.cost_status,
        )
        for v in view.variants
        if view.results.sessions
    ]
    caption = (
        f"{view.study.name}: time of one step, all variants measured together; medians with "
        "distribution-free 95 % intervals."
    )
    return table("cost", caption, columns, rows, _baseline(view))


def memory(view: StudyView) -> Table:
    """Every memory entry, and arithmetic; without rows where nothing was measured."""
    entries = [name for name in _MEMORY if any(name in v.memory for v in view.variants)]
    flops = unit_for((v.flops for v in view.variants), "FLOP")
    columns = [
        _VARIANT,
        _TOKENS,
        *(_column(n, _MEMORY[n], _bytes(view, n), "bytes", False) for n in entries),
        Column("flops", "training a clip", _scaled(flops), flops.name),
        Column("flops_inference", "inference of a clip", _scaled(flops), flops.name),
    ]
    rows = [
        (v.name, _tokens(v), *(v.memory.get(n) for n in entries), v.flops, v.flops_inference)
        for v in view.variants
        if view.results.sessions
    ]
    caption = f"{view.study.name}: memory in one step, and arithmetic a clip."
    return table("memory", caption, columns, rows, _baseline(view))


def _column(name: str, title: str, unit: Unit, base: str, span: bool) -> Column:
    return Column(f"{name}_{base}", title, _scaled(unit), unit.name, span=span)


def runs(v: VariantView) -> str:
    """``3 ok``, ``2 ok, 1 diverged``."""
    first = sorted(v.statuses.items(), key=lambda item: (item[0] != "ok", item[0]))
    return ", ".join(f"{count} {status}" for status, count in first)


def _tokens(v: VariantView) -> int | None:
    return v.record.tokens or None


def _baseline(view: StudyView) -> int:
    return [v.name for v in view.variants].index(view.study.baseline)


def _seconds(view: StudyView, phase: str) -> Unit:
    return unit_for((v.costs[phase].seconds.value for v in view.variants if phase in v.costs), "s")


def _bytes(view: StudyView, entry: str) -> Unit:
    return unit_for((v.memory[entry] for v in view.variants if entry in v.memory), "B")


def _scaled(unit: Unit) -> Callable[[Span | float], str]:
    """Shows seconds, bytes or operations in a unit."""

    def show(value: Span | float) -> str:
        if isinstance(value, Span):
            return interval(
                Span(*(part / unit.size for part in (value.value, value.low, value.high)))
            )
        return significant(value / unit.size)

    return show
