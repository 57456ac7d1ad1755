"""Prints the status of studies; plans and runs the rows of published tables."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from passt_bench.cli.options import console
from passt_bench.cli.results import paper_here
from passt_bench.console import stage
from passt_bench.records.store import Store
from passt_bench.spec.rows import patchout_in_short

if TYPE_CHECKING:
    from passt_bench.records.run import StudyRecord
    from passt_bench.runner.plan import StudyPlan
    from passt_bench.runner.request import Paths, RunConfig, StudyRequest
    from passt_bench.runner.rows import PlannedRow, RowsPlan
    from passt_bench.runner.studies import RowsFile
    from passt_bench.spec.recipe import Recipe
    from passt_bench.spec.rows import Corpus


def show_status(study: StudyRecord, runs: Path) -> None:
    """Prints a table of what is done of a study, and the failures.

    Args:
        study: with the variants that the command is about.
        runs: folder of the records.
    """
    from passt_bench.runner.run_status import STATES, variant_statuses

    variants = variant_statuses(study, Store(runs))
    retried = any(variant.retried for variant in variants)
    table = Table("variant", *STATES, *(["retried"] if retried else []))
    for variant in variants:
        counts = [variant.cells[state] for state in STATES]
        counts += [variant.retried] if retried else []
        table.add_row(variant.variant, *map(str, counts))
    console.print(table)
    for line in (line for variant in variants for line in variant.failures):
        console.print(line, markup=False)


def show_recorded_status(study: StudyRecord, of_variants: int, runs: Path) -> None:
    """Prints the status of a study as it is on record, of some or all of its variants."""
    from passt_bench.runner.run_status import count_runs

    show_status(study, runs)
    keys = {cell.key for variant in study.variants for cell in variant.cells}
    done = sum(map(Store(runs).has, keys))
    rest = f" `passt-bench plan {study.name}` says how long the others take."
    text = count_runs(study, of_variants, done) + (rest if done < len(keys) else "")
    console.print(text, markup=False)


def show_plan_status(plan: StudyPlan, runs: Path) -> None:
    """Prints the status of a study that was planned, and how long the rest of it takes."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.request import RunConfig
    from passt_bench.runner.run import describe

    show_status(plan.record, runs)
    config = RunConfig(workers=default_workers())
    console.print(describe(plan, Store(runs), config), markup=False)


_NOTHING = "-"
_TITLES = (
    "row",
    "published",
    "trained at",
    "tokens",
    "runs",
    "GPU h",
    "recipe",
    "starts from",
    "here",
)


def show_rows(file: RowsFile, request: StudyRequest, config: RunConfig, paths: Paths) -> None:
    """Prints every row with its checkpoint, data, recipe, hours and published number."""
    from passt_bench.runner.rows import plan_rows
    from passt_bench.runner.run import describe, describe_data, warn_of_unused_cuda

    plan = plan_rows(file, request, paths)
    with console.status("Counting tokens and FLOPs"):
        _print_table(plan.rows)
    _print_notes(plan.rows)
    console.print(
        "GPU h: hours of training (of evaluation where nothing is trained) on one Titan RTX: "
        "runs x epochs x clips at the clips a second of the paper's Table 1; what is not "
        "in that table is weighed by its FLOPs.",
        markup=False,
    )
    for study in plan.studies:
        console.print(describe_data(study.record.fingerprint), markup=False)
        console.print(describe(study, Store(paths.runs), config), markup=False)
    warn_of_unused_cuda(plan.studies, request, console)
    _print_summary(plan)


def run_rows(file: RowsFile, request: StudyRequest, config: RunConfig, paths: Paths) -> bool:
    """Runs the rows that can be run here; whether all of them are done."""
    from passt_bench.report.build import build_paper
    from passt_bench.runner.rows import plan_rows
    from passt_bench.runner.run import warn_of_unused_cuda
    from passt_bench.study_run import run_plan

    plan = plan_rows(file, request, paths)
    _print_summary(plan)
    warn_of_unused_cuda(plan.studies, request, console)
    done = [run_plan(study, config, paths, console) for study in plan.studies]
    for planned in plan.rows:
        if planned.can_run and planned.row.members:
            _evaluate(planned, request, paths)
    if any(planned.can_run for planned in plan.rows):
        page = build_paper(paths.runs, paths.reports, paper_here(paths))
        console.print(f"The paper's tables, and what ran here: {page}", markup=False)
    return all(done)


def _evaluate(planned: PlannedRow, request: StudyRequest, paths: Paths) -> None:
    from passt_bench.runner.rows import evaluate_row

    row = planned.row
    title = f"Evaluating {row.name}, {len(row.members)} models"
    with stage(console, title) as update:
        record, _ = evaluate_row(planned, request, paths, update)
    low, high = record.intervals.get(row.metric, (nan, nan))
    console.print(
        f"{row.name}, {len(row.members)} models: {row.metric} {record.metrics[row.metric]:.4f} "
        f"[{low:.4f}, {high:.4f}] over {record.clips} clips; published {row.published:.3f}.",
        markup=False,
    )


def show_row_status(file: RowsFile, request: StudyRequest, paths: Paths) -> None:
    """Prints what is done, failed and left of the rows that can be run here."""
    from passt_bench.runner.rows import plan_rows

    plan = plan_rows(file, request, paths)
    for study in plan.studies:
        show_plan_status(study, paths.runs)
    _print_summary(plan)


def _print_table(rows: Sequence[PlannedRow]) -> None:
    """A block a data set, a line a row: rich's tables would break eight columns into words."""
    cells = [_cells(planned) for planned in rows]
    lengths = [max(map(len, column)) for column in zip(_TITLES, *cells, strict=True)]
    corpus = None
    for planned, values in zip(rows, cells, strict=True):
        if planned.row.corpus != corpus:
            corpus = planned.row.corpus
            console.print(f"{_describe(corpus)}, {planned.row.metric}", markup=False)
            console.print(_line(_TITLES, lengths), markup=False)
        console.print(_line(values, lengths), markup=False)


def _line(cells: Sequence[str], lengths: Sequence[int]) -> str:
    padded = (cell.ljust(length) for cell, length in zip(cells, lengths, strict=True))
    return f"  {'  '.join(padded)}".rstrip()


def _describe(corpus: Corpus) -> str:
    folds = f" in each of {corpus.folds} folds" if corpus.folds > 1 else ""
    return (
        f"{corpus.title} ({corpus.name}): {corpus.classes} classes, {corpus.training:,} clips to "
        f"train on, {corpus.evaluation:,} to evaluate{folds}"
    )


def _cells(planned: PlannedRow) -> tuple[str, ...]:
    row = planned.row
    starts, recipe = _NOTHING, _NOTHING
    if planned.recipe is not None:
        starts = planned.recipe.init.checkpoint or "scratch"
        recipe = _in_short(planned.recipe)
    elif row.members:
        starts, recipe = ", ".join(row.members), f"mean logits of {len(row.members)}, evaluated"
    pace = f"{row.speed:g} clips/s, {row.memory:g} GB/clip" if row.speed and row.memory else ""
    return (
        row.name,
        f"{row.published:.3f}",
        pace or _NOTHING,
        ", ".join(map(str, planned.tokens)) or _NOTHING,
        str(planned.runs or _NOTHING),
        f"{planned.hours:.1f}" if planned.hours is not None else _NOTHING,
        recipe,
        starts,
        _here(planned),
    )


def _in_short(recipe: Recipe) -> str:
    """Patchout, stride, depth, epochs, batch and rate."""
    training, model = recipe.training, recipe.model
    dropped = patchout_in_short(recipe.patchout)
    parts = [model.name, f"patchout {dropped}" if dropped != "none" else "no patchout"]
    parts += [f"stride {model.stride[0]}"] if model.stride else []
    parts += [f"depth {model.depth}"] if model.depth else []
    parts += [f"{training.epochs} epochs"]
    if training.sampling == "weighted" and training.epoch_clips:
        parts[-1] += f" of {training.epoch_clips} clips"
    parts += [f"batch {training.batch_size}", f"rate {training.learning_rate:g}"]
    return ", ".join(parts)


def _here(planned: PlannedRow) -> str:
    if planned.row.cited:
        return "cited by the paper"
    return ", ".join(planned.reasons) or "can run"


def _print_notes(rows: Sequence[PlannedRow]) -> None:
    """Settings that the authors do not give, or give twice, each with the rows that it is of."""
    _print_list("Not given by the paper:", [(planned, planned.row.notes) for planned in rows])
    _print_list(
        "Given differently by the authors' paper, code and README; the first is taken:",
        [(planned, planned.row.conflicts) for planned in rows],
    )


def _print_list(title: str, told: Sequence[tuple[PlannedRow, tuple[str, ...]]]) -> None:
    by_sentence: dict[str, list[PlannedRow]] = {}
    for planned, sentences in told:
        for sentence in sentences:
            by_sentence.setdefault(sentence, []).append(planned)
    if by_sentence:
        console.print(title, markup=False)
    for sentence, given in by_sentence.items():
        console.print(f"  {_name(given)}: {sentence}", markup=False)


def _name(rows: Sequence[PlannedRow]) -> str:
    """``PaSST-U on openmic, dcase20``; of a data set's rows no more than three are named."""
    names = list(dict.fromkeys(planned.row.name for planned in rows))
    data = list(dict.fromkeys(planned.row.corpus.name for planned in rows))
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} rows"
    return f"{shown} on {', '.join(data)}"


def _print_summary(plan: RowsPlan) -> None:
    """How many rows can run here, why the others cannot, and what was asked for in vain."""
    for remark in plan.remarks:
        console.print(remark, markup=False)
    rows = [planned for planned in plan.rows if not planned.row.cited]
    able = sum(planned.can_run for planned in rows)
    console.print(f"{plan.file.name}: {able} of {len(rows)} rows can run here.", markup=False)
    by_reason: dict[tuple[str, ...], list[PlannedRow]] = {}
    for planned in rows:
        if planned.reasons:
            by_reason.setdefault(planned.reasons, []).append(planned)
    for reasons, lacking_it in by_reason.items():
        console.print(f"  {', '.join(reasons)}: {_name(lacking_it)}", markup=False)
    lacking = {reason for reasons in by_reason for reason in reasons}
    for reason, remedy in _REMEDIES.items():
        if reason in lacking:
            console.print(f"  {reason}: {remedy}", markup=False)


_REMEDIES = {
    "no data": "give --data NAME=DIR for each data set.",
    "no weights": "`passt-bench weights get NAME` brings what a row starts from.",
    "no GPU": "--device cpu runs them all the same, in days; see docs/paper.md for a try.",
}
