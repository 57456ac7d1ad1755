"""Commands about studies: list, plan, run, search, status."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import (
    Memory,
    NoBaseline,
    Reports,
    Timeout,
    Variants,
    Workers,
    app,
    asks_for_study,
    choosing,
    console,
    statuses,
)
from passt_bench.cli.running import (
    run_rows,
    show_plan_status,
    show_recorded_status,
    show_row_status,
    show_rows,
)
from passt_bench.errors import InputError
from passt_bench.records.store import Store

if TYPE_CHECKING:
    from passt_bench.runner.request import Paths, StudyRequest


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(help="studies, models, frontends, datasets, patchout, metrics or figures."),
    ] = "studies",
) -> None:
    """What there is."""
    from passt_bench import registry
    from passt_bench.runner.studies import study_names, summary

    tables = {
        "models": registry.MODELS,
        "frontends": registry.FRONTENDS,
        "datasets": registry.DATASETS,
        "patchout": registry.PATCHOUTS,
        "metrics": registry.METRICS,
        "figures": registry.FIGURES,
    }
    rows: list[tuple[str, str]] = []
    if what == "studies":
        for name in study_names():
            try:
                rows.append((name, summary(name)))
            except InputError as error:  # a user's own file; the others are listed all the same
                rows.append((name, f"cannot be loaded: {error}"))
    elif what in tables:
        rows = [(item.name, item.summary) for item in tables[what].all()]
    else:
        raise InputError(
            "nothing of that kind",
            field="list",
            value=what,
            remedy=f"Known: studies, {', '.join(tables)}.",
        )
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}", markup=False)


@app.command()
@asks_for_study
def plan(
    request: StudyRequest,
    paths: Paths,
    variants: Variants = None,
    no_baseline: NoBaseline = False,
    workers: Workers = None,
) -> None:
    """Cells, resolved grids, tokens and expected minutes; runs nothing."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.plan import plan_request
    from passt_bench.runner.request import RunConfig
    from passt_bench.runner.run import describe, describe_data, warn_of_unused_cuda
    from passt_bench.runner.studies import RowsFile, load_file

    request = choosing(request, variants, no_baseline)
    config = RunConfig(workers=workers or default_workers())
    file = load_file(request.study)
    if isinstance(file, RowsFile):
        return show_rows(file, request, config, paths)
    study = plan_request(file, request, paths)
    table = Table("variant", "grid", "patchout", "tokens", "GFLOP/clip", "runs", "min/run")
    for variant in study.record.variants:
        cells = [cell for cell in study.cells if cell.variant == variant.name]
        keys = {cell.key for cell in variant.cells}
        shared = next(cell for cell in study.cells if cell.key in keys)
        grid = f"{variant.grid[0]} x {variant.grid[1]}" if variant.grid else "-"
        dropped = variant.patchout.get("rate")
        kind = variant.recipe.patchout.schedule
        schedule = f", {kind}" if kind != "constant" else ""
        table.add_row(
            variant.name,
            grid,
            f"{100 * dropped:.1f} %{schedule}" if dropped is not None else "-",
            f"{variant.tokens} of {variant.tokens_full}" if variant.grid else "-",
            f"{shared.facts.flops / 1e9:.3f}",
            str(len(cells)),
            f"{shared.seconds / 60:.2f}",
        )
    console.print(table)
    console.print(describe_data(study.record.fingerprint), markup=False)
    console.print(describe(study, Store(paths.runs), config), markup=False)
    warn_of_unused_cuda([study], request, console)
    return None


@app.command()
@asks_for_study
def run(
    request: StudyRequest,
    paths: Paths,
    variants: Variants = None,
    no_baseline: NoBaseline = False,
    workers: Workers = None,
    retry: Annotated[str, typer.Option(help="Statuses to try again, e.g. oom,error.")] = "",
    timeout: Timeout = None,
    memory: Memory = None,
    checkpoint_seconds: Annotated[
        float, typer.Option(min=0, help="Seconds between two checkpoints of a run.")
    ] = 20.0,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Leave them when the record is written.")
    ] = False,
    keep_models: Annotated[
        bool, typer.Option("--keep-models", help="Write each trained model beside its record.")
    ] = False,
    cost: Annotated[bool, typer.Option(help="Measure step time and memory afterwards.")] = True,
    remeasure: Annotated[bool, typer.Option(help="Measure costs again.")] = False,
    track: Annotated[bool, typer.Option(help="Log the runs to MLflow.")] = True,
    reports: Reports = Path("reports"),
) -> None:
    """Runs what is missing of a study, and renders its report."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.request import RunConfig
    from passt_bench.runner.studies import RowsFile, load_file
    from passt_bench.study_run import run_study

    request = choosing(request, variants, no_baseline)
    config = RunConfig(
        workers=workers or default_workers(),
        retry=statuses(retry),
        timeout=timeout,
        memory=round(memory * 2**30) if memory is not None else None,
        checkpoint_seconds=checkpoint_seconds,
        keep_checkpoints=keep_checkpoints,
        keep_models=keep_models,
        cost=cost,
        remeasure=remeasure,
        track=track,
    )
    paths = replace(paths, reports=reports)
    file = load_file(request.study)
    if isinstance(file, RowsFile):
        done = run_rows(file, request, config, paths)
    else:
        done = run_study(file, request, config, paths, console)
    if not done:
        raise typer.Exit(1)


@app.command()
@asks_for_study
def search(
    request: StudyRequest,
    paths: Paths,
    workers: Workers = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, earlier ones included.")] = 40,
    minutes: Annotated[float, typer.Option(min=0.1, help="For trials and confirmation.")] = 4.0,
    storage: Annotated[str | None, typer.Option(help="Optuna storage; else a journal.")] = None,
    track: Annotated[bool, typer.Option(help="Log the runs to MLflow.")] = True,
    reports: Reports = Path("reports"),
) -> None:
    """Searches kind and rate of patchout on a validation split; tests the best on the test fold."""
    from passt_bench.console import Estimate
    from passt_bench.report.build import build_study
    from passt_bench.report.search_page import build_search
    from passt_bench.runner.background_sync import live
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.plan import plan_request
    from passt_bench.runner.request import typed
    from passt_bench.runner.search import SearchOptions
    from passt_bench.runner.search import search as explore
    from passt_bench.runner.studies import load_study
    from passt_bench.study_run import updating_mlflow

    clock = Estimate()
    study = plan_request(load_study(request.study), request, paths)
    options = SearchOptions(
        trials=trials, minutes=minutes, workers=workers or default_workers(), storage=storage
    )
    with live(paths.runs) if track else nullcontext():
        result = explore(study, paths, options, console, command=typed())
    name = result.record.name
    with updating_mlflow(paths.runs, clock, console, wanted=track):
        page = build_search(name, paths.runs, reports)
        if name in Store(paths.runs).studies():
            build_study(name, paths.runs, reports)  # with the index, which links the search too
    console.print(f"The search: {page}", markup=False)
    if result.failed:
        console.print(f"{result.failed} runs failed; the page lists them.", markup=False)
        raise typer.Exit(1)


@app.command()
@asks_for_study
def status(
    request: StudyRequest, paths: Paths, variants: Variants = None, no_baseline: NoBaseline = False
) -> None:
    """What is done, what failed and why, what is running, interrupted or left."""
    from passt_bench.runner.request import changed
    from passt_bench.runner.run_status import recorded_study
    from passt_bench.runner.studies import RowsFile, load_file

    request = choosing(request, variants, no_baseline)
    file = load_file(request.study)
    if isinstance(file, RowsFile):
        return show_row_status(file, request, paths)
    study = changed(file.study, request)
    record = recorded_study(study, request, Store(paths.runs))
    if record is not None:
        return show_recorded_status(record, len(study.variants), paths.runs)
    from passt_bench.runner.plan import plan_request

    return show_plan_status(plan_request(file, request, paths), paths.runs)
