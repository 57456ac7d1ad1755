"""Commands about one study: plan, run, search, status."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import (
    Memory,
    Reports,
    Timeout,
    Workers,
    app,
    asks_for_study,
    console,
    statuses,
)
from passt_bench.cli.results import bringing_up_to_date, render, rendered
from passt_bench.console import duration
from passt_bench.store import Store

if TYPE_CHECKING:
    from passt_bench.record import Fingerprint
    from passt_bench.runner.plan import StudyPlan
    from passt_bench.runner.prepare import Request


@app.command()
@asks_for_study
def plan(request: Request, workers: Workers = None) -> None:
    """Cells, resolved grids, tokens and expected minutes; runs nothing."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions, describe

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
    console.print(_found(prepared.plan.record.fingerprint), markup=False)
    options = RunOptions(workers=workers or default_workers())
    console.print(describe(prepared.plan, Store(request.out), options), markup=False)


def _found(data: Fingerprint) -> str:
    """What was found of the data, and what is odd about it."""
    of = f" of {data.expected}" if data.expected is not None else ""
    notes = "".join(f"; {note}" for note in data.notes)
    return f"Data: {data.dataset}, {data.found}{of} clips{notes}."


@app.command()
@asks_for_study
def run(
    request: Request,
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
    from passt_bench.console import Estimate
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions, describe, run_study
    from passt_bench.runner.window import live

    clock = Estimate()
    prepared = prepare_study(request)
    options = RunOptions(
        workers=workers or default_workers(),
        retry=statuses(retry),
        timeout=timeout,
        cost=cost,
        remeasure=remeasure,
    )
    context = replace(
        prepared.context,
        checkpoint_seconds=checkpoint_seconds,
        keep_checkpoints=keep_checkpoints,
        keep_models=keep_models,
        memory=round(memory * 2**30) if memory is not None else None,
    )
    console.print(prepared.plan.study.question, markup=False)
    console.print(_found(prepared.plan.record.fingerprint), markup=False)
    console.print(describe(prepared.plan, Store(request.out), options), markup=False)
    name = prepared.plan.study.name
    fell_short = run_study(
        prepared.plan,
        context,
        prepared.datasets,
        options,
        console,
        beside=live(request.out, name) if track else None,
    )
    with bringing_up_to_date(request.out, clock) if track else nullcontext():
        page = rendered(name, request.out, reports) or render(name, request.out, reports)
    console.print(f"Finished in {duration(clock.elapsed)}. The report: {page}", markup=False)
    for sentence in fell_short.sentences():
        console.print(sentence, markup=False)
    if keep_models:
        _tell_kept(prepared.plan, Store(request.out))
    if fell_short:
        raise typer.Exit(1)


def _tell_kept(plan: StudyPlan, store: Store) -> None:
    from passt_bench.runner.cells import MODEL

    kept = sum((store.folder(cell.key) / MODEL).is_file() for cell in plan.cells)
    without = len(plan.cells) - kept
    text = f"{kept} models are kept, in {store.root}/records/KEY/{MODEL}."
    if without:
        text += f" {without} runs have none: they failed, or were on record already."
    console.print(text, markup=False)


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
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.explore import SearchOptions
    from passt_bench.runner.explore import search as explore
    from passt_bench.runner.prepare import prepare_study, typed
    from passt_bench.runner.window import live

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
def status(request: Request) -> None:
    """What is done, what failed and why, what is running, interrupted or left."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions, describe
    from passt_bench.runner.standing import STATES, standings

    prepared = prepare_study(request)
    found = standings(prepared.plan, prepared.context)
    retried = any(standing.retried for standing in found)
    table = Table("variant", *STATES, *(["retried"] if retried else []))
    for standing in found:
        counts = [standing.cells[state] for state in STATES]
        counts += [standing.retried] if retried else []
        table.add_row(standing.variant, *map(str, counts))
    console.print(table)
    for line in (line for standing in found for line in standing.failures):
        console.print(line, markup=False)
    options, store = RunOptions(workers=default_workers()), Store(request.out)
    console.print(describe(prepared.plan, store, options), markup=False)
