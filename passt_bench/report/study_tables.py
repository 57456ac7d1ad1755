"""Builds the tables of a study, from verdicts to failures, and columns shared with other pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter, methodcaller
from statistics import median
from typing import Any

from passt_bench.records.run import cell_name
from passt_bench.report.figures.classes import class_values, group_values, score_name
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    NAN,
    Span,
    Unit,
    fixed,
    interval,
    quoted,
    seed_range,
    significant,
    times,
    unit_for,
)
from passt_bench.report.view import (
    DEVICE_STEP,
    INSIDE,
    TRAIN_STEP,
    StudyView,
    VariantView,
    finding,
    gap_of,
    mean,
)

PHASES = {
    TRAIN_STEP: "training step",
    DEVICE_STEP: "its device time",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer",
    "inference_1": "inference, one clip",
    "inference_batch": "inference, training batch size",
    "frontend": "front end",
}
MEMORY = {
    "train_peak": "peak in training",
    "train_rise": "rise per step",
    "saved_for_backward": "saved for backward",
    "inference_peak": "peak at inference",
    "reserved": "reserved",
    "resident": "parameters and buffers",
}


def name_column(title: str) -> Column:
    """The names of variants, under the title that the table uses."""
    return Column("variant", title, get=lambda v: v.name)


def tokens_column(title: str) -> Column:
    """Tokens in training; blank for a model without tokens."""
    return Column("tokens", title, str, get=lambda v: v.record.tokens or None)


def seconds_column(arms: Sequence[VariantView], phase: str) -> Column:
    """Seconds of a phase, in the unit that suits these variants."""
    unit = unit_for((v.cost(phase).seconds.value for v in arms), "s")
    return Column(
        f"{phase}_seconds", PHASES[phase], scaled(unit), unit.name, span=True,
        get=lambda v: v.cost(phase).seconds,
    )  # fmt: skip


def ratio_column(phase: str, title: str) -> Column:
    """The time of a phase divided by that of the baseline."""
    return Column(f"{phase}_ratio", title, times, span=True, get=lambda v: v.cost(phase).ratio)


def frontend_column(view: StudyView, title: str) -> Column:
    """The time of training step and front end divided by that of the baseline; from medians."""
    base = view.baseline.seconds_with_frontend
    return Column("whole_ratio", title, times, get=lambda v: v.seconds_with_frontend / base)


def bytes_column(arms: Sequence[VariantView], entry: str) -> Column:
    """Bytes of a memory entry, in the unit that suits these variants."""
    unit = unit_for((v.memory.get(entry, NAN) for v in arms), "B")
    return Column(
        f"{entry}_bytes", MEMORY[entry], scaled(unit), unit.name,
        get=lambda v: v.memory.get(entry),
    )  # fmt: skip


def predicted_columns(
    arms: Sequence[VariantView], entry: str, measured: Callable[[VariantView], float]
) -> list[Column]:
    """What was predicted of a measured entry, and by how much that is off; none if nothing was."""

    def get(v: VariantView) -> float | None:
        return v.arm.predicted.get(entry) if v.arm else None

    if not any(get(v) for v in arms):
        return []
    unit = unit_for((get(v) or NAN for v in arms), "s" if entry == TRAIN_STEP else "B")
    return [
        Column(f"{entry}_predicted", f"predicted {(PHASES | MEMORY)[entry]}", scaled(unit),
               unit.name, get=get),
        Column(f"{entry}_predicted_error", "error", lambda share: f"{100 * share:+.0f} %",
               get=lambda v: (get(v) or NAN) / measured(v) - 1),
    ]  # fmt: skip


def flops_columns(arms: Sequence[VariantView]) -> tuple[Column, Column]:
    """FLOPs per clip, in training and at inference."""
    unit = unit_for((v.measured("flops") for v in arms), "FLOP")
    named = (("flops", "training FLOPs per clip"), ("flops_inference", "inference FLOPs per clip"))
    training, inference = (
        Column(name, title, scaled(unit), unit.name, get=methodcaller("measured", name))
        for name, title in named
    )
    return training, inference


def scaled(unit: Unit) -> Callable[[Span | float], str]:
    """A function that formats seconds, bytes or operations in a unit."""

    def show(value: Span | float) -> str:
        own = value / unit.size
        return interval(own) if isinstance(own, Span) else significant(own)

    return show


def _grouped(number: float) -> str:
    """A number with grouped digits: ``86 567 000``."""
    return f"{int(number):,}".replace(",", " ")


PARAMETERS = Column("parameters", "parameters", _grouped, get=attrgetter("parameters"))


def of_variants(view: StudyView, name: str, caption: str, columns: Sequence[Column]) -> Table:
    """A table with a row per variant; costs have rows only if something was measured."""
    of_quality = name in ("verdicts", "quality")
    shown = view.variants if of_quality or view.results.sessions else ()
    highlight = view.variants.index(view.baseline)
    return table(name, f"{view.study.name}: {caption}", columns, shown, highlight)


def verdicts(view: StudyView) -> Table:
    """The main table: quality with its verdict, time, memory and arithmetic."""
    arms = view.variants
    columns = [
        Column("variant", "variant", label={v.name: v.label for v in arms}.__getitem__,
               get=lambda v: v.name),
        tokens_column("tokens"),
        Column(view.metric, view.metric, interval, span=True,
               get=lambda v: v.value if v.value.known else runs(v)),
        Column("difference", "difference", partial(interval, sign=True), span=True,
               get=lambda v: v.difference),
        Column("verdict", "verdict", get=lambda v: v.verdict),
        replace(seconds_column(arms, TRAIN_STEP), get=_step),
        ratio_column(TRAIN_STEP, "step / baseline"),
        replace(bytes_column(arms, "train_peak"), title="peak memory"),
        replace(bytes_column(arms, "saved_for_backward"), name="saved_bytes"),
        replace(flops_columns(arms)[0], name="flops_per_clip"),
    ]  # fmt: skip
    caption = (
        f"{view.metric} against {quoted(view.baseline.name)} with 95 % intervals (those of "
        f"differences cover together with {view.coverage}; margin ±{view.margin:g}), and the cost "
        "of a training step."
    )
    return of_variants(view, "verdicts", caption, columns)


def contrasts(view: StudyView) -> Table:
    """The comparisons that the study declares besides those with the baseline."""
    columns = [
        Column("contrast", "contrast"),
        Column("family", "family"),
        Column("difference", "difference", partial(interval, sign=True), span=True),
        Column("detectable", "detectable", partial(significant, digits=2)),
        Column("verdict", "verdict"),
        Column("remark", "remark"),
    ]
    rows = [
        (c.variant, family, gap_of(c), c.detectable, finding(c),
         INSIDE if c.verdict == "same" and c.real else "")
        for family, found in view.results.declared.items()
        for c in found
    ]  # fmt: skip
    caption = (
        f"{view.study.name}: contrasts in {view.metric}; a family's intervals cover together with "
        f"{view.coverage}. A comparison with {quoted(view.baseline.name)} has the interval of the "
        "main table, unless it is alone in its family, as a primary question."
    )
    return table("contrasts", caption, columns, rows)


def _step(v: VariantView) -> Span | str | None:
    seconds = v.cost(TRAIN_STEP).seconds
    return seconds if seconds.known or v.cost_status == "missing" else v.cost_status


def quality(view: StudyView) -> Table:
    """Every metric of every variant, averaged over runs, and the number of runs."""
    metrics = {name for v in view.variants for run in v.ok_runs for name in run.metrics}
    columns = [
        name_column("variant"),
        tokens_column("tokens"),
        Column("dropped", "patches dropped", lambda share: f"{fixed(100 * share, 1)} %",
               get=lambda v: v.rate),
        PARAMETERS,
        *_spent_columns(view),
        Column("runs", "runs", get=runs),
        Column(view.metric, view.metric, interval, span=True, get=lambda v: v.value),
        *(Column(name, name, significant, get=methodcaller("mean_of", name))
          for name in sorted(metrics - {view.metric})),
        Column("detectable", "detectable difference", partial(significant, digits=2),
               get=lambda v: v.comparison and v.comparison.detectable),
        Column("smallest_margin", "smallest margin", partial(significant, digits=2),
               get=lambda v: v.comparison and v.comparison.smallest_margin),
        Column("seeds_needed", "seeds needed",
               get=lambda v: v.comparison and seed_range(v.comparison.blocks_needed)),
    ]  # fmt: skip
    caption = (
        f"quality. Mean {view.metric} over seeds with its 95 % interval; the true difference that "
        "these seeds detect with probability 0.8, and the smallest margin within which they show "
        "equality as often."
    )
    return of_variants(view, "quality", caption, columns)


def _spent_columns(view: StudyView) -> list[Column]:
    """What a training of each variant cost, if not all had equally many epochs."""
    arms = view.variants
    if len({round(v.record.spent.get("epochs", 0.0), 2) for v in arms}) < 2:
        return []
    unit = unit_for((v.record.spent.get("flops", NAN) for v in arms), "FLOP")
    return [
        Column("epochs", "epochs", partial(fixed, places=1),
               get=lambda v: v.record.spent.get("epochs")),
        Column("steps", "steps", "{:g}".format, get=lambda v: v.record.spent.get("steps")),
        Column("training_flops", "FLOPs of training", scaled(unit), unit.name,
               get=lambda v: v.record.spent.get("flops")),
        Column("training_seconds", "seconds of training", partial(significant, digits=2),
               get=lambda v: median([run.clocks.get("train", NAN) for run in v.ok_runs] or [NAN])),
    ]  # fmt: skip


def speed(view: StudyView) -> Table:
    """The main table of a study of costs: throughput and memory, also relative to the baseline."""
    arms, base = view.variants, view.baseline
    unit = unit_for((v.saved_per_clip for v in arms), "B")
    columns = [
        name_column("variant"),
        tokens_column("tokens"),
        Column("batch", "clips per step", "{:g}".format, get=attrgetter("batch")),
        *throughput_columns("relative"),
        frontend_column(view, "step with front end / baseline"),
        replace(bytes_column(arms, "train_peak"), title="peak memory"),
        Column("saved_per_clip", "saved for backward, per clip", scaled(unit), unit.name,
               get=attrgetter("saved_per_clip")),
        Column("saved_ratio", "relative", times,
               get=lambda v: v.saved_per_clip / base.saved_per_clip),
    ]  # fmt: skip
    caption = (
        f"training speed, and memory, also against {quoted(base.name)}; {view.time_intervals}."
    )
    return of_variants(view, "speed", caption, columns)


def throughput_columns(relative: str) -> tuple[Column, Column]:
    """Clips per second in training, and relative to the baseline, under that title."""
    return (
        Column("clips_per_second", "training", interval, "clips/s", span=True,
               get=lambda v: v.speed if v.speed.known else v.cost_status),
        Column("clips_ratio", relative, times, span=True,
               get=lambda v: v.cost(TRAIN_STEP).speedup),
    )  # fmt: skip


def cost(view: StudyView) -> Table:
    """The time of every measured phase."""
    arms = view.variants
    columns = [
        name_column("variant"),
        tokens_column("tokens"),
        replace(ratio_column(TRAIN_STEP, "training step / baseline"), name="ratio"),
        *(seconds_column(arms, phase) for phase in PHASES if any(phase in v.costs for v in arms)),
        *predicted_columns(arms, TRAIN_STEP, lambda v: v.cost(TRAIN_STEP).seconds.value),
        Column("status", "session", get=lambda v: v.cost_status),
    ]
    caption = "time of one step, all variants measured together; medians with "
    caption += f"{view.time_intervals}."
    return of_variants(view, "cost", caption, columns)


def memory(view: StudyView) -> Table:
    """Every measured memory entry, and arithmetic."""
    arms = view.variants
    entries = [name for name in MEMORY if any(name in v.memory for v in arms)]
    columns = [
        name_column("variant"),
        tokens_column("tokens"),
        *(bytes_column(arms, entry) for entry in entries if entry != "resident"),
        *predicted_columns(arms, "train_peak", lambda v: v.memory.get("train_peak", NAN)),
        *flops_columns(arms),
    ]
    return of_variants(view, "memory", "memory per step, and arithmetic per clip.", columns)


def runs(v: VariantView) -> str:
    """Numbers of runs by status: ``3 ok``, ``2 ok, 1 diverged``."""
    first = sorted(v.statuses.items(), key=lambda item: (item[0] != "ok", item[0]))
    return ", ".join(f"{count} {status}" for status, count in first)


def per_class(view: StudyView) -> Table:
    """One row per class, one column per variant: means over runs."""
    values = {v.name: class_values(view, v) for v in view.variants}
    scored = [name for name, by_class in values.items() if by_class]
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
    """The occlusion tests: the metric with a part of the input hidden, by class group."""
    tests = [tests for v in view.variants for run in v.ok_runs for tests in run.occlusions.items()]
    names = sorted({name for name, _ in tests} - {"none"})
    prefix = f"{view.metric}/"
    entries = sorted({e for _, values in tests for e in values if e.startswith(prefix)})
    groups = [entry.removeprefix(prefix) for entry in entries]
    columns = [
        Column("variant", "variant"),
        Column("hidden", "hidden at evaluation"),
        Column("all", "all classes", partial(fixed, places=2)),
        *(Column(group, f"{group} classes", partial(fixed, places=2)) for group in groups),
    ]
    rows: list[tuple[Any, ...]] = []
    for v in (v for v in view.variants if names and v.ok_runs):
        whole = group_values(view, class_values(view, v))
        rows.append((v.name, "nothing", v.value.value, *(whole.get(group) for group in groups)))
        for name in names:
            found = [run.occlusions.get(name, {}) for run in v.ok_runs]
            means = (mean(test.get(entry) for test in found) for entry in (view.metric, *entries))
            rows.append((v.name, name.removeprefix("hide_"), *means))
    caption = (
        f"{view.study.name}: occlusion tests. Mean {view.metric} by class group, with nothing, "
        "frequency or time hidden at evaluation."
    )
    return table("probes", caption, columns, rows)


def failures(view: StudyView) -> Table:
    """Every cell and every measurement that did not succeed, and why."""
    columns = [
        Column("variant", "variant"),
        Column("cell", "run", label=lambda text: text.replace(" cells", " runs")),
        Column("status", "status"),
        Column("message", "why"),
        Column("key", "record"),
    ]
    rows: list[tuple[str, ...]] = []
    for v in view.variants:
        for run in v.runs:
            if run.status != "ok":
                why = run.message or "no message"
                rows.append((v.name, cell_name(run.seed, run.fold), run.status, why, run.key))
        recorded = {run.key for run in v.runs}
        missing = [cell for cell in v.record.cells if cell.key not in recorded]
        if missing:  # one row, so that an unfinished study does not bury its failures
            where, key = f"{len(missing)} of {len(v.record.cells)} cells", ""
            if len(missing) == 1:
                where, key = cell_name(missing[0].seed, missing[0].fold), missing[0].key
            rows.append((v.name, where, "missing", "not run yet", key))
    if not view.results.sessions:
        rows.append(("all variants", "cost session", "missing", "not measured yet", ""))
    else:
        for v in view.variants:
            message = v.arm.message if v.arm else "not measured yet"
            if v.cost_status != "ok" or message:
                status = "in part" if v.cost_status == "ok" else v.cost_status
                rows.append((v.name, "cost session", status, message or "no message", ""))
    return table("failures", f"{view.study.name}: what failed or is missing.", columns, rows)
