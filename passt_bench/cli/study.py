"""Commands about one study: plan, run, search, status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import Reports, Workers, app, asks_for_study, console, statuses
from passt_bench.cli.results import bring_up_to_date, render
from passt_bench.console import duration
from passt_bench.store import Store

if TYPE_CHECKING:
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
        table.add_row(
            variant.name,
            grid,
            f"{100 * dropped:.1f} %" if dropped is not None else "-",
            f"{variant.tokens} of {variant.tokens_full}" if variant.grid else "-",
            f"{shared.facts.flops / 1e9:.3f}",
            str(len(cells)),
            f"{shared.seconds / 60:.2f}",
        )
    console.print(table)
    options = RunOptions(workers=workers or default_workers())
    console.print(describe(prepared.plan, Store(request.out), options), markup=False)


@app.command()
@asks_for_study
def run(
    request: Request,
    workers: Workers = None,
    retry: Annotated[str, typer.Option(help="Statuses to try again, e.g. oom,error.")] = "",
    timeout: Annotated[float | None, typer.Option(help="Seconds a run may take.")] = None,
    cost: Annotated[bool, typer.Option(help="Measure step time and memory afterwards.")] = True,
    remeasure: Annotated[bool, typer.Option(help="Measure costs again.")] = False,
    track: Annotated[bool, typer.Option(help="Bring MLflow up to date afterwards.")] = True,
    reports: Reports = Path("reports"),
) -> None:
    """Runs what is missing of a study, and renders its report."""
    from passt_bench.console import Estimate
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions, describe, run_study

    clock = Estimate()
    prepared = prepare_study(request)
    options = RunOptions(
        workers=workers or default_workers(),
        retry=statuses(retry),
        timeout=timeout,
        cost=cost,
        remeasure=remeasure,
    )
    console.print(prepared.plan.study.question, markup=False)
    console.print(describe(prepared.plan, Store(request.out), options), markup=False)
    failed = run_study(prepared.plan, prepared.context, prepared.datasets, options, console)
    if track:
        bring_up_to_date(request.out)
    page = render(prepared.plan.study.name, request.out, reports)
    console.print(f"Finished in {duration(clock.elapsed)}. The report: {page}", markup=False)
    if failed:
        console.print(f"{failed} runs failed; they stand in the report.", markup=False)
        raise typer.Exit(1)


@app.command()
@asks_for_study
def search(
    request: Request,
    workers: Workers = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, earlier ones included.")] = 40,
    minutes: Annotated[float, typer.Option(min=0.1, help="For trials and confirmation.")] = 4.0,
    storage: Annotated[str | None, typer.Option(help="Optuna storage; else a journal.")] = None,
    track: Annotated[bool, typer.Option(help="Bring MLflow up to date afterwards.")] = True,
    reports: Reports = Path("reports"),
) -> None:
    """Searches kind and rate of patchout on an inner split; confirms the best on the test fold."""
    from passt_bench.report.search_page import build_search
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.explore import SearchOptions
    from passt_bench.runner.explore import search as explore
    from passt_bench.runner.prepare import prepare_study, typed

    prepared = prepare_study(request)
    options = SearchOptions(
        trials=trials, minutes=minutes, workers=workers or default_workers(), storage=storage
    )
    result = explore(
        prepared.plan, prepared.context, prepared.datasets, options, console, command=typed()
    )
    name = result.record.name
    page = build_search(name, request.out, reports)
    if name in Store(request.out).studies():
        render(name, request.out, reports)  # with the index, which links the search as well
    if track:
        bring_up_to_date(request.out)
    console.print(f"The search: {page}", markup=False)
    if result.failed:
        console.print(f"{result.failed} runs failed; they stand on the page.", markup=False)
        raise typer.Exit(1)


@app.command()
@asks_for_study
def status(request: Request) -> None:
    """What is done, what failed and why, what is left."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import prepare_study
    from passt_bench.runner.run import RunOptions, describe

    prepared = prepare_study(request)
    store = Store(request.out)
    table = Table("variant", "done", "failed", "begun", "left")
    failures = []
    for variant in prepared.plan.record.variants:
        counts = {"ok": 0, "failed": 0, "begun": 0, "left": 0}
        for cell in variant.cells:
            record = store.run(cell.key)
            if record is None:
                begun = (store.folder(cell.key) / "progress.jsonl").is_file()
                counts["begun" if begun else "left"] += 1
            elif record.status == "ok":
                counts["ok"] += 1
            else:
                counts["failed"] += 1
                last = (record.message or "").strip().splitlines()[-1:]
                failures.append(
                    f"{variant.name}, seed {cell.seed}, fold {cell.fold}: {record.status}: "
                    + "".join(last)
                )
        table.add_row(variant.name, *(str(count) for count in counts.values()))
    console.print(table)
    for line in failures:
        console.print(line, markup=False)
    console.print(
        describe(prepared.plan, store, RunOptions(workers=default_workers())), markup=False
    )
