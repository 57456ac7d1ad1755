"""The tables of a study: verdicts, quality, cost, memory, classes, occlusion tests, failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any

from passt_bench.report.figures.classes import class_values, group_values, score_name
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


def per_class(view: StudyView) -> Table:
    """One row a class, one column a variant: means over runs."""
    values = {v.name: class_values(view, v) for v in view.variants}
    scored = [name for name, found in values.items() if found]
    group_of = {name: group for group, names in view.groups.items() for name in names}
    columns = [
        Column("class", "class"),
        Column("group", "group"),
        *(Column(name, name, partial(fixed, places=2)) for name in scored),
    ]
    known = [c for c in view.study.fingerprint.classes if any(c in values[v] for v in scored)]
    order = sorted(known, key=lambda c: (group_of.get(c, ""), known.index(c)))
    rows = [(c, group_of.get(c), *(values[v].get(c) for v in scored)) for c in order]
    caption = f"{view.study.name}: {score_name(view)} by class, mean over seeds and folds."
    return table("per_class", caption, columns, rows)


def probes(view: StudyView) -> Table:
    """What is left when a part of the input is hidden at evaluation, by class group."""
    every = {name for v in view.variants for run in v.ok_runs for name in run.occlusions}
    names = sorted(every - {"none"})
    prefix = f"{view.metric}/"
    groups = sorted(
        {
            entry.removeprefix(prefix)
            for v in view.variants
            for run in v.ok_runs
            for probe in run.occlusions.values()
            for entry in probe
            if entry.startswith(prefix)
        }
    )
    columns = [
        _VARIANT,
        Column("hidden", "hidden at evaluation"),
        Column("all", "all classes", partial(fixed, places=2)),
        *(Column(group, f"{group} classes", partial(fixed, places=2)) for group in groups),
    ]
    rows: list[tuple[Any, ...]] = []
    for v in view.variants if names else ():
        if not v.ok_runs:
            continue
        whole = group_values(view, class_values(view, v))
        rows.append((v.name, "nothing", v.value.value, *(whole.get(group) for group in groups)))
        for name in names:
            found = [run.occlusions.get(name, {}) for run in v.ok_runs]
            entries = (view.metric, *(prefix + group for group in groups))
            hidden = name.removeprefix("hide_")
            rows.append((v.name, hidden, *(mean(p.get(e) for p in found) for e in entries)))
    caption = (
        f"{view.study.name}: mean {view.metric} by class group, with nothing, frequency or time "
        "hidden at evaluation."
    )
    return table("probes", caption, columns, rows)


def failures(view: StudyView) -> Table:
    """Every cell and every measured arm that did not succeed, and why."""
    columns = [
        _VARIANT,
        Column("cell", "cell"),
        Column("status", "status"),
        Column("message", "why"),
        Column("key", "record"),
    ]
    rows = [row for v in view.variants for row in (*_failed_cells(v), *_missing_cells(v))]
    if not view.results.sessions:
        rows.append(("all variants", "cost session", "missing", "not measured yet", ""))
    else:
        rows += [row for v in view.variants for row in _failed_arm(v)]
    caption = f"{view.study.name}: what failed or is missing."
    return table("failures", caption, columns, rows)


def _failed_cells(v: VariantView) -> list[tuple[str, ...]]:
    return [
        (v.name, place(run.seed, run.fold), run.status, run.message or "no message", run.key)
        for run in v.runs
        if run.status != "ok"
    ]


def _missing_cells(v: VariantView) -> list[tuple[str, ...]]:
    """One row for all of them: an unfinished study is not to bury its failures."""
    found = {run.key for run in v.runs}
    missing = [cell for cell in v.record.cells if cell.key not in found]
    if not missing:
        return []
    if len(missing) == 1:
        where, key = place(missing[0].seed, missing[0].fold), missing[0].key
    else:
        where, key = f"{len(missing)} of {len(v.record.cells)} cells", ""
    return [(v.name, where, "missing", "not run yet", key)]


def _failed_arm(v: VariantView) -> list[tuple[str, ...]]:
    if v.cost_status == "ok":
        return []
    why = "not measured yet" if v.cost_status == "missing" else v.cost_message or "no message"
    return [(v.name, "cost session", v.cost_status, why, "")]


def place(seed: int, fold: int | None) -> str:
    """Names a cell: ``seed 1``, ``seed 1, fold 2``."""
    return f"seed {seed}" + ("" if fold is None else f", fold {fold}")
