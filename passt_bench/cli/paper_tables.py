"""Plans and runs the tables of the paper, whose rows are studies and evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import nan
from typing import Any

from passt_bench.cli.options import console
from passt_bench.cli.results import paper_status
from passt_bench.cli.study import print_missing, print_status
from passt_bench.console import stage
from passt_bench.paper import Row, published_pace
from passt_bench.records.store import Store
from passt_bench.report.build import build_paper
from passt_bench.runner.estimates import batch_size
from passt_bench.runner.evaluation import evaluate_checkpoints
from passt_bench.runner.prediction import Predictor
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.rows import HOUR, PlannedRow, RowsPlan, plan_rows, trained_clips
from passt_bench.runner.studies import RowsFile
from passt_bench.spec.recipe import EngineSpec, Patchout, Recipe
from passt_bench.study_run import run_plan, warn_of_unused_cuda

_TITLES = (
    *("row", "published", "trained at", "tokens", "runs", "GPU h", "GPU GB", "recipe"),
    *("starts from", "here"),
)


def show_tables(
    file: RowsFile, request: StudyRequest, config: RunConfig, paths: Paths, predictor: Predictor
) -> None:
    """Prints every row with its weights, data, recipe, hours and published number."""
    plan = plan_rows(file, request, paths)
    with console.status("Counting tokens and FLOPs"):
        _print_table(plan.rows)
    console.print(
        "GPU h: hours of training (of evaluation where nothing is trained) on one Titan RTX, "
        "from runs x epochs x clips and the clips per second in the paper's Table 1. GPU GB: "
        "memory of a training run, from the batch and the GB per clip there. Both are scaled by "
        "FLOPs for settings that are not in that table. The source of every setting, and where "
        "the authors' paper, code and README differ: docs/protocols.md in the project."
    )
    if predictor.gpu:
        _print_predictions(plan.rows, predictor)
    print_missing(plan.studies, request, config, paths, predictor)
    _print_summary(plan)


def _print_predictions(rows: Sequence[PlannedRow], predictor: Predictor) -> None:
    """Prints hours and memory of all training of each row on a GPU, and what the row saves."""
    console.print(f"Hours of all training {predictor.basis(EngineSpec())}:")
    steps, hours = {}, {}
    for planned in rows:
        row, recipe = planned.row, planned.row.recipe
        if row.study and recipe and (step := predictor.predict(recipe, row.corpus.classes)):
            clips = planned.runs * trained_clips(row, recipe)
            hours[row.study.name, row.name] = clips / batch_size(recipe) * step.seconds / HOUR
            steps[row.study.name, row.name] = (row, recipe, step)
    for (study, name), (row, recipe, step) in steps.items():
        own, first = hours[study, name], row.study.baseline if row.study else ""
        base = hours.get((study, first), own)
        saved = f", {base - own:.1f} h less than {first}" if base != own else ""
        console.print(
            f"  {name} on {row.corpus.name}: {own:.1f} h{saved}; {step.bytes / 1e9:.1f} GB,"
            f" batches of up to {predictor.largest_batch(recipe, row.corpus.classes)} fit"
        )


def run_tables(file: RowsFile, request: StudyRequest, config: RunConfig, paths: Paths) -> bool:
    """Runs the rows of a paper table that can run here; whether all of them are done."""
    plan = plan_rows(file, request, paths)
    _print_summary(plan)
    warn_of_unused_cuda(plan.studies, request, console)
    done = [run_plan(study, config, paths, console) for study in plan.studies]
    for planned in plan.rows:
        if planned.can_run and planned.row.members:
            _evaluate(planned.row, request.device or "cuda", paths)
    if any(planned.can_run for planned in plan.rows):
        status = paper_status(paths.runs, paths.reports, paths.data)
        page = build_paper(paths.runs, paths.reports, status)
        console.print(f"Page: {page}")
    return all(done)


def _evaluate(row: Row, device: str, paths: Paths) -> None:
    data = f"{row.corpus.name}={paths.data[row.corpus.name]}"
    title = f"{row.name}, {len(row.members)} models"
    with stage(console, f"Evaluating {title}") as update:
        record, _ = evaluate_checkpoints(
            row.members, data, paths.runs, device=device, progress=update
        )
    low, high = record.intervals.get(row.metric, (nan, nan))
    console.print(
        f"{title}: {row.metric} {record.metrics[row.metric]:.4f} [{low:.4f}, {high:.4f}] "
        f"over {record.clips} clips; published {row.published:.3f}."
    )


def show_status(file: RowsFile, request: StudyRequest, paths: Paths) -> None:
    """Prints what is done, failed and missing of the rows that can run here."""
    plan = plan_rows(file, request, paths)
    for study in plan.studies:
        of_variants = len(study.stored_record.variants)
        print_status(study.record, of_variants, Store(paths.runs), study.notes)
    _print_summary(plan)


def _print_table(rows: Sequence[PlannedRow]) -> None:
    # A block for each data set; the columns of a rich table would be too narrow for words.
    cells = [_cells(planned) for planned in rows]
    lengths = [max(map(len, column)) for column in zip(_TITLES, *cells, strict=True)]

    def print_line(values: Sequence[str]) -> None:
        padded = (value.ljust(length) for value, length in zip(values, lengths, strict=True))
        console.print(f"  {'  '.join(padded)}".rstrip())

    corpus = None
    for planned, values in zip(rows, cells, strict=True):
        if planned.row.corpus != corpus:
            corpus = planned.row.corpus
            folds = f" in each of {corpus.folds} folds" if corpus.folds > 1 else ""
            console.print(
                f"{corpus.title} ({corpus.name}): {corpus.classes} classes, {corpus.training:,} "
                f"clips for training, {corpus.evaluation:,} for evaluation{folds}, "
                f"{planned.row.metric}; about {corpus.disk_gb:g} GB on disk"
            )
            print_line(_TITLES)
        print_line(values)


def _cells(planned: PlannedRow) -> tuple[str, ...]:
    row, pace, starts, how = planned.row, None, "", ""
    if row.recipe is not None:
        starts, how = row.recipe.init.checkpoint or "scratch", _in_short(row.recipe)
        pace = published_pace(row.name) if row.table == "table1" else None
    elif row.members:
        starts, how = ", ".join(row.members), f"mean logits of {len(row.members)}, evaluated"
    cells = (
        row.name,
        f"{row.published:.3f}",
        f"{pace.clips_per_second:g} clips/s, {pace.gb_per_clip:g} GB/clip" if pace else "",
        ", ".join(map(str, planned.tokens)),
        str(planned.runs or ""),
        f"{planned.hours:.1f}" if planned.hours is not None else "",
        f"{planned.memory_gb:.1f}" if planned.memory_gb is not None else "",
        how,
        starts,
        "cited by the paper" if row.cited else ", ".join(planned.reasons) or "can run",
    )
    return tuple(cell or "-" for cell in cells)


def _in_short(recipe: Recipe) -> str:
    """The model, patchout, stride, depth, epochs, batch size and learning rate in words."""
    training, model = recipe.training, recipe.model
    dropped = _patchout_in_short(recipe.patchout)
    parts = [model.name, f"patchout {dropped}" if dropped != "none" else "no patchout"]
    parts += [f"stride {model.stride[0]}"] if model.stride else []
    parts += [f"depth {model.depth}"] if model.depth else []
    parts += [f"{training.epochs} epochs"]
    if training.sampling == "weighted" and training.epoch_clips:
        parts[-1] += f" of {training.epoch_clips} clips"
    parts += [f"batch {training.batch_size}", f"learning rate {training.learning_rate:g}"]
    return ", ".join(parts)


def _patchout_in_short(patchout: Patchout) -> str:
    """Patchout as the paper writes it: ``t40 f4``, ``u400``, or ``none``."""
    letters = {"t": patchout.time, "f": patchout.frequency, "u": patchout.patches}
    counts = " ".join(f"{letter}{count}" for letter, count in letters.items() if count)
    return counts or (f"{patchout.kind} {patchout.rate:g}" if patchout.rate else "none")


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
