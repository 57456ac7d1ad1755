"""Builds the tables of a study, from verdicts to failures; those of costs are in `cost_tables`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import isfinite
from operator import attrgetter, methodcaller
from statistics import median
from typing import Any

from passt_bench.records.run import cell_name
from passt_bench.report import cost_tables as costs
from passt_bench.report.figures.classes import class_values, group_values, score_name
from passt_bench.report.sentences import short_names
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    NAN,
    Span,
    cost_share,
    fixed,
    interval,
    listed,
    quoted,
    seed_range,
    significant,
    times,
)
from passt_bench.report.view import (
    INSIDE,
    TRAIN_STEP,
    StudyView,
    VariantView,
    finding,
    gap_of,
    mean,
)

TABLES = (
    *("verdicts", "contrasts", "speed", "quality", "cost", "memory", "per_class", "probes"),
    *("failures", "reached", "gains", "ratios", "arithmetic", "published"),
)


def page_tables(view: StudyView) -> dict[str, Table]:
    """Every table of a study's page that has rows, by name."""
    of_quality = (verdicts, contrasts, quality, per_class, probes)
    first = of_quality if view.study.seeds else (costs.speed,)
    wanted = [*first, costs.cost, costs.memory, failures, reached_table]
    if not view.study.seeds and view.results.sessions:
        wanted += [costs.gains_table, costs.ratios, costs.arithmetic]
        if any(isfinite(v.measured("published")) for v in view.variants):
            wanted.append(costs.published)
    return {made.name: made for build in wanted if (made := build(view)).rows}


def verdicts(view: StudyView) -> Table:
    """The main table: quality with its verdict, time, memory and arithmetic.

    The first three columns are those that a narrow screen shows.
    """
    arms = view.variants
    columns = [
        Column("variant", "variant", label={v.name: v.label for v in arms}.__getitem__,
               get=lambda v: v.name),
        Column("verdict", "verdict", get=lambda v: v.verdict),
        Column("difference", "difference", partial(interval, sign=True), span=True,
               get=lambda v: v.difference),
        Column(view.metric, view.metric, interval, span=True,
               get=lambda v: v.value if v.value.known else v.cells),
        costs.TOKENS,
        replace(costs.seconds_column(arms, TRAIN_STEP), get=_step),
        costs.ratio_column(TRAIN_STEP, "step / baseline"),
        Column("training_ratio", "training / baseline", times,
               get=lambda v: view.whole_training.get(v.name)),
        costs.bytes_column(arms, "train_peak", "peak memory"),
        costs.bytes_column(arms, "saved_for_backward", name="saved_bytes"),
        replace(costs.flops_columns(arms)[0], name="flops_per_clip"),
    ]  # fmt: skip
    caption = (
        f"{view.metric} against {quoted(view.baseline.name)} with 95 % intervals (those of "
        f"differences cover {view.together}; margin ±{view.margin:g}), and the cost of a training "
        "step."
    )
    return costs.of_variants(view, "verdicts", caption, columns)


def adjusted(view: StudyView) -> str | None:
    """That means and differences do not agree where runs failed; None if they do."""
    base = view.baseline
    gaps = [(v, v.difference.value - (v.value.value - base.value.value)) for v in view.others]
    names = [v.name for v, gap in gaps if abs(gap) > 1e-9]
    if not names:
        return None
    return (
        f"The means of {listed(map(quoted, names))} and of {quoted(base.name)} are over different "
        "seeds, as runs lack results; their differences are adjusted for that."
    )


def contrasts(view: StudyView) -> Table:
    """The comparisons that the study declares besides those with the baseline."""
    columns = [
        Column("contrast", "contrast"),
        Column("verdict", "verdict"),
        Column("difference", "difference", partial(interval, sign=True), span=True),
        Column("family", "family"),
        Column("detectable", "detectable", partial(significant, digits=2)),
        Column("remark", "remark"),
    ]
    rows = [
        (c.variant, finding(c), gap_of(c), family, c.detectable,
         INSIDE if c.verdict == "same" and c.real else "")
        for family, found in view.results.declared.items()
        for c in found
    ]  # fmt: skip
    caption = (
        f"{view.study.name}: contrasts in {view.metric}; a family's intervals cover together with "
        f"{view.coverage}. A difference from {quoted(view.baseline.name)} has the interval of "
        "the main table. Better or worse are the variants with positive weights; a slope or an "
        "interaction is above or below zero, or unclear."
    )
    return table("contrasts", caption, columns, rows)


def _step(v: VariantView) -> Span | str | None:
    seconds = v.cost(TRAIN_STEP).seconds
    return seconds if seconds.known or v.cost_status == "missing" else v.cost_status


def quality(view: StudyView) -> Table:
    """Every metric of every variant, averaged over runs, and the number of runs."""
    metrics = {name for v in view.variants for run in v.ok_runs for name in run.metrics}
    columns = [
        costs.NAME,
        costs.TOKENS,
        Column("dropped", "patches dropped", lambda share: f"{fixed(100 * share, 1)} %",
               get=lambda v: v.rate),
        costs.PARAMETERS,
        *_spent_columns(view),
        Column("runs", "runs", get=attrgetter("cells")),
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
    return costs.of_variants(view, "quality", caption, columns)


def _spent_columns(view: StudyView) -> list[Column]:
    """What a training of each variant cost, if not all had equally many epochs."""
    arms = view.variants
    if len({round(v.record.spent.get("epochs", 0.0), 2) for v in arms}) < 2:
        return []
    return [
        Column("epochs", "epochs", partial(fixed, places=1),
               get=lambda v: v.record.spent.get("epochs")),
        Column("steps", "steps", "{:g}".format, get=lambda v: v.record.spent.get("steps")),
        costs.scaled_column(arms, "training_flops", "FLOPs of training", "FLOP",
                            lambda v: v.record.spent.get("flops")),
        Column("training_seconds", "seconds of training", partial(significant, digits=2),
               get=lambda v: median([run.clocks.get("train", NAN) for run in v.ok_runs] or [NAN])),
    ]  # fmt: skip


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
            row[unit] = cost_share(Span(*item.share), item.least)
    caption = (
        f"{view.study.name}: the cost until a model is as good in {view.metric} as the baseline's "
        "with each of its budgets in the same seed, divided by that budget; medians over seeds, "
        "with intervals (95 %; of five seeds their range, 94 %). Values are interpolated between "
        "trainings over the log of cost. ≤: its smallest budget is enough."
    )
    items = [(*key, *(row.get(unit) for unit in ("", *units))) for key, row in rows.items()]
    return table("reached", caption, columns, items)


def reached_sentence(view: StudyView) -> str | None:
    """What the other models need to be as good as the baseline's with each budget.

    By time where steps were measured, else by FLOPs; None if no model has several budgets.
    """
    known = [(unit, found) for unit, found in view.results.reached.items() if found]
    unit, found = known[-1] if known else ("", ())
    what, told = "training time" if unit == "time" else unit, list[str]()
    for line in dict.fromkeys(item.line for item in found):
        own = [item for item in found if item.line == line]
        shares = [cost_share(Span(*item.share), item.least) for item in own]
        if own[1:]:  # their intervals are in the table
            shares = [share.partition(" [")[0] for share in shares]
        names = [item.variant for item in own]
        of, *others = {name.rpartition(", ")[0] for name in names}
        plain = of and own[1:] and not others
        who = (
            f"{quoted(of)} at {listed(short_names(names))}" if plain else listed(map(quoted, names))
        )
        told.append(f"{quoted(line)} is as good as {who} for {listed(shares)} of its {what}.")
    return " ".join(told) or None


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
    if not view.results.sessions and view.others:
        rows.append(("all variants", "cost session", "missing", "not measured yet", ""))
    elif view.results.sessions:
        for v in view.variants:
            message = v.arm.message if v.arm else "not measured yet"
            if v.cost_status != "ok" or message:
                status = "in part" if v.cost_status == "ok" else v.cost_status
                rows.append((v.name, "cost session", status, message or "no message", ""))
    return table("failures", f"{view.study.name}: what failed or is missing.", columns, rows)
