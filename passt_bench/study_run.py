"""Runs a study from its file to its page: plans, trains, measures and reports."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from passt_bench.console import Estimate, duration
from passt_bench.records.store import Store
from passt_bench.report.build import build_study
from passt_bench.runner.background_sync import live, updating_mlflow
from passt_bench.runner.cells import MODEL
from passt_bench.runner.plan import PlannedCell, StudyPlan, missing_cells, plan_request
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.run import (
    Incomplete,
    check_device,
    describe,
    describe_data,
    find_incomplete,
    measure,
    prepare,
    remove_leftovers,
    train,
    warn_of_unused_cuda,
    write_study,
)
from passt_bench.runner.studies import StudyFile


def run_study(
    file: StudyFile, request: StudyRequest, config: RunConfig, paths: Paths, console: Console
) -> bool:
    """Plans a study, runs its missing runs and renders its page.

    Returns:
        Whether everything is done; failed and unfinished runs are printed.

    Raises:
        InputError: the request, the study or the data are not valid.
    """
    plan = plan_request(file, request, paths)
    warn_of_unused_cuda([plan], request, console)
    return run_plan(plan, config, paths, console)


def run_plan(plan: StudyPlan, config: RunConfig, paths: Paths, console: Console) -> bool:
    """Runs the missing runs of a planned study and renders its page, see `run_study`."""
    store, clock, name = Store(paths.runs), Estimate(), plan.study.name
    todo = missing_cells(plan, store, config.retry)
    console.print(plan.study.question, markup=False)
    console.print(describe_data(plan.record.fingerprint), markup=False)
    console.print(describe(plan, store, config, todo), markup=False)
    if todo and not config.keep_models:
        console.print(
            "Trained models are not kept; use --keep-models to save each beside its record."
        )
    incomplete = execute_plan(plan, config, paths, console, todo)
    with updating_mlflow(paths.runs, clock, console) if config.track else nullcontext():
        page = _newer_page(name, paths) or build_study(name, paths.runs, paths.reports)
    console.print(f"Finished in {duration(clock.elapsed)}. Page: {page}", markup=False)
    for sentence in incomplete.sentences():
        console.print(sentence, markup=False)
    if config.keep_models:
        console.print(_count_models(plan, store), markup=False)
    return not incomplete


def execute_plan(
    plan: StudyPlan,
    config: RunConfig,
    paths: Paths,
    console: Console,
    todo: Sequence[PlannedCell] | None = None,
) -> Incomplete:
    """Trains and measures the missing runs of a planned study (``todo``, if already known).

    MLflow is updated while models are trained, not while costs are measured.

    Returns:
        Counts of failed and unfinished runs.

    Raises:
        InputError: the device of a recipe is not available.
    """
    store = Store(paths.runs)
    todo = missing_cells(plan, store, config.retry) if todo is None else todo
    check_device(plan)
    write_study(plan, store)
    remove_leftovers(plan, paths, config, todo)
    with live(paths.runs, plan.study.name) if config.track and todo else nullcontext():
        prepare(todo, paths, plan.datasets, console)
        train(todo, paths, config, console)
    return find_incomplete(plan, store, measure(plan, config, store, console))


def _count_models(plan: StudyPlan, store: Store) -> str:
    kept = sum((store.folder(cell.key) / MODEL).is_file() for cell in plan.cells)
    text = f"{kept} models were kept in {store.root}/records/KEY/{MODEL}."
    if kept < len(plan.cells):
        without = len(plan.cells) - kept
        text += f" {without} runs have no model: they failed, or were done before."
    return text


def _newer_page(name: str, paths: Paths) -> Path | None:
    """The page of a study, if it is newer than its records and the code that renders it."""
    page = paths.reports / name / "index.html"
    if not page.is_file():
        return None
    shown = [paths.runs / "studies" / f"{name}.json", *paths.runs.glob("records/*/record.json")]
    drawing = [path for path in Path(__file__).parent.rglob("*.*") if path.suffix != ".pyc"]
    newest = max(path.stat().st_mtime_ns for path in (*shown, *drawing))
    return page if page.stat().st_mtime_ns > newest else None
