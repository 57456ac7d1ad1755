"""Plans and runs the tables of the paper, whose rows are studies and evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan
from typing import Any

from passt_bench.cli.options import console
from passt_bench.cli.results import paper_status
from passt_bench.cli.study import print_missing, print_status
from passt_bench.console import stage
from passt_bench.report.build import build_paper
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.rows import PlannedRow, RowsPlan, evaluate_row, plan_rows
from passt_bench.runner.run import warn_of_unused_cuda
from passt_bench.runner.studies import RowsFile
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.rows import patchout_in_short
from passt_bench.study_run import run_plan

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


def show_tables(file: RowsFile, request: StudyRequest, config: RunConfig, paths: Paths) -> None:
    """Prints every row with its weights, data, recipe, hours and published number."""
    plan = plan_rows(file, request, paths)
    with console.status("Counting tokens and FLOPs"):
        _print_table(plan.rows)
    _print_notes(plan.rows)
    console.print(
        "GPU h: hours of training (of evaluation where nothing is trained) on one Titan RTX, "
        "from runs x epochs x clips and the clips per second in the paper's Table 1; for models "
        "that are not in that table, scaled by FLOPs."
    )
    print_missing(plan.studies, request, config, paths)
    _print_summary(plan)


def run_tables(file: RowsFile, request: StudyRequest, config: RunConfig, paths: Paths) -> bool:
    """Runs the rows of a paper table that can run here.

    Returns:
        Whether all of them are done.
    """
    plan = plan_rows(file, request, paths)
    _print_summary(plan)
    warn_of_unused_cuda(plan.studies, request, console)
    done = [run_plan(study, config, paths, console) for study in plan.studies]
    for planned in plan.rows:
        if planned.can_run and planned.row.members:
            _evaluate(planned, request, paths)
    if any(planned.can_run for planned in plan.rows):
        page = build_paper(
            paths.runs, paths.reports, paper_status(paths.runs, paths.reports, paths.data)
        )
        console.print(f"Page of the paper's tables: {page}")
    return all(done)


def _evaluate(planned: PlannedRow, request: StudyRequest, paths: Paths) -> None:
    row = planned.row
    title = f"Evaluating {row.name}, {len(row.members)} models"
    with stage(console, title) as update:
        record, _ = evaluate_row(planned, request, paths, update)
    low, high = record.intervals.get(row.metric, (nan, nan))
    console.print(
        f"{row.name}, {len(row.members)} models: {row.metric} {record.metrics[row.metric]:.4f} "
        f"[{low:.4f}, {high:.4f}] over {record.clips} clips; published {row.published:.3f}."
    )


def show_status(file: RowsFile, request: StudyRequest, paths: Paths) -> None:
    """Prints what is done, failed and missing of the rows that can run here."""
    plan = plan_rows(file, request, paths)
    for study in plan.studies:
        print_status(study, paths.runs)
    _print_summary(plan)


def _print_table(rows: Sequence[PlannedRow]) -> None:
    # A block for each data set; the columns of a rich table would be too narrow for words.
    cells = [_cells(planned) for planned in rows]
    lengths = [max(map(len, column)) for column in zip(_TITLES, *cells, strict=True)]
    corpus = None
    for planned, values in zip(rows, cells, strict=True):
        if planned.row.corpus != corpus:
            corpus = planned.row.corpus
            folds = f" in each of {corpus.folds} folds" if corpus.folds > 1 else ""
            console.print(
                f"{corpus.title} ({corpus.name}): {corpus.classes} classes, {corpus.training:,} "
                f"clips for training, {corpus.evaluation:,} for evaluation{folds}, "
                f"{planned.row.metric}"
            )
            console.print(_line(_TITLES, lengths))
        console.print(_line(values, lengths))


def _line(cells: Sequence[str], lengths: Sequence[int]) -> str:
    padded = (cell.ljust(length) for cell, length in zip(cells, lengths, strict=True))
    return f"  {'  '.join(padded)}".rstrip()


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
        "cited by the paper" if row.cited else ", ".join(planned.reasons) or "can run",
    )


def _in_short(recipe: Recipe) -> str:
    """The model, patchout, stride, depth, epochs, batch size and learning rate in words."""
    training, model = recipe.training, recipe.model
    dropped = patchout_in_short(recipe.patchout)
    parts = [model.name, f"patchout {dropped}" if dropped != "none" else "no patchout"]
    parts += [f"stride {model.stride[0]}"] if model.stride else []
    parts += [f"depth {model.depth}"] if model.depth else []
    parts += [f"{training.epochs} epochs"]
    if training.sampling == "weighted" and training.epoch_clips:
        parts[-1] += f" of {training.epoch_clips} clips"
    parts += [f"batch {training.batch_size}", f"learning rate {training.learning_rate:g}"]
    return ", ".join(parts)


def _print_notes(rows: Sequence[PlannedRow]) -> None:
    """Prints settings that the authors do not state, or state differently, with their rows."""
    for title, field in (
        ("Not given by the paper:", "notes"),
        (
            "Given differently in the authors' paper, code and README; the first is used:",
            "conflicts",
        ),
    ):
        pairs = [(text, planned) for planned in rows for text in getattr(planned.row, field)]
        if pairs:
            console.print(title)
        for text, given in _grouped(pairs).items():
            console.print(f"  {_name(given)}: {text}")


def _grouped(pairs: Iterable[tuple[Any, PlannedRow]]) -> dict[Any, list[PlannedRow]]:
    groups: dict[Any, list[PlannedRow]] = {}
    for value, planned in pairs:
        groups.setdefault(value, []).append(planned)
    return groups


def _name(rows: Sequence[PlannedRow]) -> str:
    """``PaSST-U on openmic, dcase20``; more than three rows are counted, not named."""
    names = list(dict.fromkeys(planned.row.name for planned in rows))
    data = list(dict.fromkeys(planned.row.corpus.name for planned in rows))
    shown = ", ".join(names) if len(names) <= 3 else f"{len(names)} rows"
    return f"{shown} on {', '.join(data)}"


def _print_summary(plan: RowsPlan) -> None:
    """Prints how many rows can run here, and why the others cannot."""
    for remark in plan.remarks:
        console.print(remark)
    rows = [planned for planned in plan.rows if not planned.row.cited]
    able = sum(planned.can_run for planned in rows)
    console.print(f"{plan.file.name}: {able} of {len(rows)} rows can run here.")
    by_reason = _grouped((planned.reasons, planned) for planned in rows if planned.reasons)
    for reasons, affected in by_reason.items():
        console.print(f"  {', '.join(reasons)}: {_name(affected)}")
    present = {reason for reasons in by_reason for reason in reasons}
    for reason, remedy in _REMEDIES.items():
        if reason in present:
            console.print(f"  {reason}: {remedy}")


_REMEDIES = {
    "no data": "give --data NAME=DIR for each data set.",
    "no weights": "`passt-bench weights get NAME` downloads the weights that a row starts from.",
    "no GPU": "--device cpu works too, but takes days; docs/paper.md has a shorter trial.",
}
