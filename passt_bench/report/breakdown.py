"""The tables of a study that look inside: classes, probes, failures."""

from __future__ import annotations

from functools import partial
from typing import Any

from passt_bench.report.figures.classes import class_values, group_values, score_name
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import fixed
from passt_bench.report.view import StudyView, VariantView, mean

_VARIANT = Column("variant", "variant")


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
    every = {name for v in view.variants for run in v.ok_runs for name in run.probes}
    names = sorted(every - {"none"})
    prefix = f"{view.metric}/"
    groups = sorted(
        {
            entry.removeprefix(prefix)
            for v in view.variants
            for run in v.ok_runs
            for probe in run.probes.values()
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
            found = [run.probes.get(name, {}) for run in v.ok_runs]
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
