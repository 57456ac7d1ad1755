"""Runs prepared studies and rows of published tables: words before, progress, words after."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from passt_bench.cli.options import console
from passt_bench.cli.results import bringing_up_to_date, paper_here, render, rendered
from passt_bench.console import duration, stage
from passt_bench.records.store import Store
from passt_bench.spec.rows import patchout_in_short

if TYPE_CHECKING:
    from passt_bench.records.run import Fingerprint
    from passt_bench.runner.plan import StudyPlan
    from passt_bench.runner.prepare import Prepared, Request
    from passt_bench.runner.rows import PlannedRow, RowsPlan
    from passt_bench.runner.run import RunOptions
    from passt_bench.runner.studies import RowsFile
    from passt_bench.spec.recipe import Recipe
    from passt_bench.spec.rows import Corpus


@dataclass(frozen=True)
class Manner:
    """How a command runs studies.

    Attributes:
        options: of the runs.
        keeping: fields of `runner.plan.Context` that say how cells are kept.
        track: whether MLflow is told.
        reports: folder of the rendered reports.
    """

    options: RunOptions
    keeping: dict[str, Any] = field(default_factory=dict)
    track: bool = True
    reports: Path = Path("reports")


def run_prepared(prepared: Prepared, out: Path, manner: Manner) -> bool:
    """Runs what is missing of a study and renders its report; whether all came to a good end."""
    from passt_bench.console import Estimate
    from passt_bench.runner.background_sync import live
    from passt_bench.runner.plan import missing_cells
    from passt_bench.runner.run import describe, run_study

    clock = Estimate()
    context = replace(prepared.context, **manner.keeping)
    console.print(prepared.plan.study.question, markup=False)
    console.print(found(prepared.plan.record.fingerprint), markup=False)
    console.print(describe(prepared.plan, Store(out), manner.options), markup=False)
    if not context.keep_models and missing_cells(prepared.plan, Store(out), manner.options.retry):
        console.print(_NOT_KEPT, markup=False)
    name = prepared.plan.study.name
    fell_short = run_study(
        prepared.plan,
        context,
        prepared.datasets,
        manner.options,
        console,
        beside=live(out, name) if manner.track else None,
    )
    with bringing_up_to_date(out, clock) if manner.track else nullcontext():
        page = rendered(name, out, manner.reports) or render(name, out, manner.reports)
    console.print(f"Finished in {duration(clock.elapsed)}. The report: {page}", markup=False)
    for sentence in fell_short.sentences():
        console.print(sentence, markup=False)
    if context.keep_models:
        _tell_kept(prepared.plan, Store(out))
    return not fell_short


_NOT_KEPT = "Trained models are not kept; --keep-models writes each beside its record."


def tell_unused_cuda(studies: Sequence[Prepared], request: Request) -> None:
    """Says that a CUDA device is here and unused, where the command line names no device."""
    import torch

    from passt_bench.runner.run import unused_cuda
    from passt_bench.spec.override import parse_assignments

    if request.device is not None or "engine.device" in parse_assignments(list(request.sets)):
        return
    sentence = unused_cuda([study.plan for study in studies], torch.cuda.is_available())
    if sentence is not None:
        console.print(sentence, style="yellow", markup=False)


def found(data: Fingerprint) -> str:
    """What was found of the data, and what is odd about it."""
    of = f" of {data.expected}" if data.expected is not None else ""
    notes = "".join(f"; {note}" for note in data.notes)
    return f"Data: {data.dataset}, {data.found}{of} clips{notes}."


def _tell_kept(plan: StudyPlan, store: Store) -> None:
    from passt_bench.runner.cells import MODEL

    kept = sum((store.folder(cell.key) / MODEL).is_file() for cell in plan.cells)
    without = len(plan.cells) - kept
    text = f"{kept} models are kept, in {store.root}/records/KEY/{MODEL}."
    if without:
        text += f" {without} runs have none: they failed, or were on record already."
    console.print(text, markup=False)


def show_standing(prepared: Prepared, out: Path) -> None:
    """Prints a table of what is done of a study, the failures, and what is left."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.run import RunOptions, describe
    from passt_bench.runner.run_status import STATES, standings

    standing = standings(prepared.plan, prepared.context)
    retried = any(variant.retried for variant in standing)
    table = Table("variant", *STATES, *(["retried"] if retried else []))
    for variant in standing:
        counts = [variant.cells[state] for state in STATES]
        counts += [variant.retried] if retried else []
        table.add_row(variant.variant, *map(str, counts))
    console.print(table)
    for line in (line for variant in standing for line in variant.failures):
        console.print(line, markup=False)
    options = RunOptions(workers=default_workers())
    console.print(describe(prepared.plan, Store(out), options), markup=False)


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


def show_rows(file: RowsFile, request: Request, options: RunOptions) -> None:
    """Prints every row with its checkpoint, data, recipe, hours and published number."""
    from passt_bench.runner.rows import plan_rows
    from passt_bench.runner.run import describe

    plan = plan_rows(file, request)
    with console.status("Counting tokens and FLOPs"):
        _print_table(plan.rows)
    _print_notes(plan.rows)
    console.print(
        "GPU h: hours of training (of evaluation where nothing is trained) on one Titan RTX: "
        "runs x epochs x clips at the clips a second of the paper's Table 1; what is not "
        "in that table is weighed by its FLOPs.",
        markup=False,
    )
    for prepared in plan.studies:
        console.print(found(prepared.plan.record.fingerprint), markup=False)
        console.print(describe(prepared.plan, Store(request.out), options), markup=False)
    tell_unused_cuda(plan.studies, request)
    _print_summary(plan)


def run_rows(file: RowsFile, request: Request, manner: Manner) -> bool:
    """Runs the rows that can be run here; whether all of them came to a good end."""
    from passt_bench.report.build import build_paper
    from passt_bench.runner.rows import plan_rows

    plan = plan_rows(file, request)
    _print_summary(plan)
    tell_unused_cuda(plan.studies, request)
    good = [run_prepared(prepared, request.out, manner) for prepared in plan.studies]
    for planned in plan.rows:
        if planned.can_run and planned.row.members:
            _evaluate(planned, request)
    if any(planned.can_run for planned in plan.rows):
        here = paper_here(request.out, manner.reports, request.data)
        page = build_paper(request.out, manner.reports, here)
        console.print(f"The paper's tables, and what ran here: {page}", markup=False)
    return all(good)


def _evaluate(planned: PlannedRow, request: Request) -> None:
    from passt_bench.runner.rows import evaluate_row

    row = planned.row
    title = f"Evaluating {row.name}, {len(row.members)} models"
    with stage(console, title) as update:
        record, _ = evaluate_row(planned, request, update)
    low, high = record.intervals.get(row.metric, (nan, nan))
    console.print(
        f"{row.name}, {len(row.members)} models: {row.metric} {record.metrics[row.metric]:.4f} "
        f"[{low:.4f}, {high:.4f}] over {record.clips} clips; published {row.published:.3f}.",
        markup=False,
    )


def show_standings(file: RowsFile, request: Request) -> None:
    """Prints what is done, failed and left of the rows that can be run here."""
    from passt_bench.runner.rows import plan_rows

    plan = plan_rows(file, request)
    for prepared in plan.studies:
        show_standing(prepared, request.out)
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
