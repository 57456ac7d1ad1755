"""Commands about studies: list, plan, run, search, status."""

from __future__ import annotations

from contextlib import nullcontext
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
from passt_bench.cli.results import bringing_up_to_date, render
from passt_bench.cli.running import (
    Manner,
    found,
    run_prepared,
    run_rows,
    show_rows,
    show_standing,
    show_standings,
    tell_unused_cuda,
)
from passt_bench.errors import InputError
from passt_bench.records.store import Store

if TYPE_CHECKING:
    from passt_bench.runner.prepare import Request


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="studies, models, frontends, datasets, patchout or metrics.")
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
    }
    if what == "studies":
        rows = [(name, summary(name)) for name in study_names()]
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
    request: Request,
    variants: Variants = None,
    no_baseline: NoBaseline = False,
    workers: Workers = None,
) -> None:
    """Cells, resolved grids, tokens and expected minutes; runs nothing."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions, describe
    from passt_bench.runner.studies import load_rows

    request = choosing(request, variants, no_baseline)
    options = RunOptions(workers=workers or default_workers())
    rows = load_rows(request.study)
    if rows is not None:
        return show_rows(rows, request, options)
    prepared = prepare_study(request)
    table = Table("variant", "grid", "patchout", "tokens", "GFLOP/clip", "runs", "min/run")
    for variant in prepared.plan.record.variants:
        cells = [cell for cell in prepared.plan.cells if cell.variant == variant.name]
        keys = {cell.key for cell in variant.cells}
        shared = next(cell for cell in prepared.plan.cells if cell.key in keys)
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
    console.print(found(prepared.plan.record.fingerprint), markup=False)
    console.print(describe(prepared.plan, Store(request.out), options), markup=False)
    tell_unused_cuda([prepared], request)
    return None


@app.command()
@asks_for_study
def run(
    request: Request,
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
    track: Annotated[bool, typer.Option(help="Tell MLflow of it.")] = True,
    reports: Reports = Path("reports"),
) -> None:
    """Runs what is missing of a study, and renders its report."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions
    from passt_bench.runner.studies import load_rows

    request = choosing(request, variants, no_baseline)
    options = RunOptions(
        workers=workers or default_workers(),
        retry=statuses(retry),
        timeout=timeout,
        cost=cost,
        remeasure=remeasure,
    )
    keeping = {
        "checkpoint_seconds": checkpoint_seconds,
        "keep_checkpoints": keep_checkpoints,
        "keep_models": keep_models,
        "memory": round(memory * 2**30) if memory is not None else None,
    }
    manner = Manner(options, keeping, track, reports)
    rows = load_rows(request.study)
    if rows is not None:
        good = run_rows(rows, request, manner)
    else:
        prepared = prepare_study(request)
        tell_unused_cuda([prepared], request)
        good = run_prepared(prepared, request.out, manner)
    if not good:
        raise typer.Exit(1)


@app.command()
@asks_for_study
def search(
    request: Request,
    workers: Workers = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, earlier ones included.")] = 40,
    minutes: Annotated[float, typer.Option(min=0.1, help="For trials and confirmation.")] = 4.0,
    storage: Annotated[str | None, typer.Option(help="Optuna storage; else a journal.")] = None,
    track: Annotated[bool, typer.Option(help="Tell MLflow of it.")] = True,
    reports: Reports = Path("reports"),
) -> None:
    """Searches kind and rate of patchout on an inner split; confirms the best on the test fold."""
    from passt_bench.console import Estimate
    from passt_bench.report.search_page import build_search
    from passt_bench.runner.background_sync import live
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study, typed
    from passt_bench.runner.search import SearchOptions
    from passt_bench.runner.search import search as explore

    clock = Estimate()
    prepared = prepare_study(request)
    options = SearchOptions(
        trials=trials, minutes=minutes, workers=workers or default_workers(), storage=storage
    )
    with live(request.out) if track else nullcontext():
        result = explore(
            prepared.plan, prepared.context, prepared.datasets, options, console, command=typed()
        )
    name = result.record.name
    with bringing_up_to_date(request.out, clock) if track else nullcontext():
        page = build_search(name, request.out, reports)
        if name in Store(request.out).studies():
            render(name, request.out, reports)  # with the index, which links the search as well
    console.print(f"The search: {page}", markup=False)
    if result.failed:
        console.print(f"{result.failed} runs failed; they stand on the page.", markup=False)
        raise typer.Exit(1)


@app.command()
@asks_for_study
def status(request: Request, variants: Variants = None, no_baseline: NoBaseline = False) -> None:
    """What is done, what failed and why, what is running, interrupted or left."""
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.studies import load_rows

    request = choosing(request, variants, no_baseline)
    rows = load_rows(request.study)
    if rows is None:
        return show_standing(prepare_study(request), request.out)
    return show_standings(rows, request)
