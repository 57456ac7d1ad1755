"""The command line. Exit status: 0 all well, 1 some cell failed, 2 bad input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from passt_bench.console import duration
from passt_bench.errors import InputError
from passt_bench.record import STATUSES, Status
from passt_bench.store import Store

if TYPE_CHECKING:
    from passt_bench.report.paper import Available

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Controlled ablations of patchout: quality, speed and memory, with intervals.",
)
INTERRUPTED = 130
console = Console(highlight=False, soft_wrap=True)

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="Name in ablations/, or a path.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")]
Data = Annotated[list[str] | None, typer.Option("--data", help="Where a data set lies: NAME=DIR.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the records.")]
Seeds = Annotated[int | None, typer.Option("--seeds", help="Number of seeds.")]
Folds = Annotated[int | None, typer.Option("--folds", help="Use the first that many folds.")]
Workers = Annotated[int | None, typer.Option("--workers", min=1, help="Processes at a time.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda.")]
Name = Annotated[str | None, typer.Option("--name", help="Name of the study in store and reports.")]
Reports = Annotated[Path, typer.Option("--reports", help="Folder of the rendered reports.")]


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(help="studies, models, datasets, patchout or metrics.")
    ] = "studies",
) -> None:
    """What there is."""
    from passt_bench import registry
    from passt_bench.runner.studies import load_study, study_names

    tables = {
        "models": registry.MODELS,
        "datasets": registry.DATASETS,
        "patchout": registry.PATCHOUTS,
        "metrics": registry.METRICS,
    }
    if what == "studies":
        found = [load_study(name).study for name in study_names()]
        rows = [
            (s.name, s.question + (f" (about {s.minutes:g} min)" if s.minutes else ""))
            for s in found
        ]
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
def plan(
    study: StudyName,
    sets: Set = None,
    data: Data = None,
    seeds: Seeds = None,
    folds: Folds = None,
    workers: Workers = None,
    device: Device = None,
    name: Name = None,
    out: Out = Path("runs"),
) -> None:
    """Cells, resolved grids, tokens and expected minutes; runs nothing."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import Request, prepare_study
    from passt_bench.runner.run import RunOptions, describe

    prepared = prepare_study(
        Request(study, out, sets or (), data or (), seeds, folds, device, name)
    )
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
    console.print(describe(prepared.plan, Store(out), options), markup=False)


@app.command()
def run(
    study: StudyName,
    sets: Set = None,
    data: Data = None,
    seeds: Seeds = None,
    folds: Folds = None,
    workers: Workers = None,
    device: Device = None,
    name: Name = None,
    retry: Annotated[str, typer.Option(help="Statuses to try again, e.g. oom,error.")] = "",
    timeout: Annotated[float | None, typer.Option(help="Seconds a run may take.")] = None,
    cost: Annotated[bool, typer.Option(help="Measure step time and memory afterwards.")] = True,
    remeasure: Annotated[bool, typer.Option(help="Measure costs again.")] = False,
    track: Annotated[bool, typer.Option(help="Bring MLflow up to date afterwards.")] = True,
    out: Out = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Runs what is missing of a study, and renders its report."""
    from passt_bench.console import Estimate
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import Request, prepare_study
    from passt_bench.runner.run import RunOptions, describe, run_study

    clock = Estimate()
    prepared = prepare_study(
        Request(study, out, sets or (), data or (), seeds, folds, device, name)
    )
    options = RunOptions(
        workers=workers or default_workers(),
        retry=_statuses(retry),
        timeout=timeout,
        cost=cost,
        remeasure=remeasure,
    )
    console.print(prepared.plan.study.question, markup=False)
    console.print(describe(prepared.plan, Store(out), options), markup=False)
    failed = run_study(prepared.plan, prepared.context, prepared.datasets, options, console)
    if track:
        _sync(out)
    page = _render(prepared.plan.study.name, out, reports)
    console.print(f"Finished in {duration(clock.elapsed)}. The report: {page}", markup=False)
    if failed:
        console.print(f"{failed} runs failed; they stand in the report.", markup=False)
        raise typer.Exit(1)


def _statuses(text: str) -> tuple[Status, ...]:
    known = [status for status in STATUSES if status != "ok"]
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    for status in chosen:
        if status not in known:
            raise InputError(
                "no such status",
                field="--retry",
                value=status,
                remedy=f"Known: {', '.join(known)}.",
            )
    return tuple(status for status in known if status in chosen)


def _sync(out: Path) -> None:
    from passt_bench.console import stage
    from passt_bench.runner.tracking import TrackingError, sync

    try:
        with stage(console, "Bringing MLflow up to date") as update:
            sync(out, progress=update)
    except TrackingError as error:
        console.print(f"MLflow was left behind: {error}", style="yellow", markup=False)


def _render(name: str, out: Path, reports: Path) -> Path:
    from passt_bench.report.build import build_study

    return build_study(name, out, reports)


@app.command()
def search(
    study: StudyName,
    sets: Set = None,
    data: Data = None,
    seeds: Seeds = None,
    folds: Folds = None,
    workers: Workers = None,
    device: Device = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, earlier ones included.")] = 40,
    minutes: Annotated[float, typer.Option(min=0.1, help="For trials and confirmation.")] = 4.0,
    storage: Annotated[str | None, typer.Option(help="Optuna storage; else a journal.")] = None,
    track: Annotated[bool, typer.Option(help="Bring MLflow up to date afterwards.")] = True,
    out: Out = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Searches kind and rate of patchout on an inner split; confirms the best on the test fold."""
    from passt_bench.report.search_page import build_search
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.explore import SearchOptions
    from passt_bench.runner.explore import search as explore
    from passt_bench.runner.prepare import Request, prepare_study, typed

    prepared = prepare_study(Request(study, out, sets or (), data or (), seeds, folds, device))
    options = SearchOptions(
        trials=trials, minutes=minutes, workers=workers or default_workers(), storage=storage
    )
    result = explore(
        prepared.plan, prepared.context, prepared.datasets, options, console, command=typed()
    )
    name = result.record.name
    page = build_search(name, out, reports)
    if name in Store(out).studies():
        _render(name, out, reports)  # with the index, which links the search as well
    if track:
        _sync(out)
    console.print(f"The search: {page}", markup=False)
    if result.failed:
        console.print(f"{result.failed} runs failed; they stand on the page.", markup=False)
        raise typer.Exit(1)


@app.command()
def status(
    study: StudyName,
    sets: Set = None,
    data: Data = None,
    seeds: Seeds = None,
    folds: Folds = None,
    device: Device = None,
    name: Name = None,
    out: Out = Path("runs"),
) -> None:
    """What is done, what failed and why, what is left."""
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare import Request, prepare_study
    from passt_bench.runner.run import RunOptions, describe

    prepared = prepare_study(
        Request(study, out, sets or (), data or (), seeds, folds, device, name)
    )
    store = Store(out)
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


@app.command()
def report(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY…")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of the records.")] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the reports.")] = Path("reports"),
) -> None:
    """Renders pages, tables and figures from records alone; without a name, all there are."""
    from passt_bench.report.build import build_all, build_study

    if studies:
        pages = [build_study(name, runs, out) for name in studies]
    else:
        pages = build_all(runs, out, _available())
    for page in pages:
        console.print(str(page), markup=False)


def _available() -> Available:
    """What this machine has of what the paper's rows need."""
    import torch

    from passt_bench.report.paper import Available
    from passt_bench.runner.prepare import data_folders

    return Available(datasets=frozenset(data_folders(())), gpu=torch.cuda.is_available())


@app.command()
def sync(out: Out = Path("runs")) -> None:
    """Brings MLflow up to date with the records."""
    from passt_bench.runner.tracking import sync as bring

    bring(out)


@app.command()
def ui(
    out: Out = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 5000,
) -> None:
    """Opens MLflow's page on this machine."""
    from passt_bench.runner.ui import serve_ui

    serve_ui(out, port)


def main() -> None:
    """Entry point: input errors become a message and exit status 2, Ctrl-C a hint."""
    try:
        app()
    except InputError as error:
        console.print(f"error: {error}", style="red", markup=False)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:  # typer has turned a Ctrl-C into this
            console.print("Stopped. The same command goes on from here.", markup=False)
        raise


if __name__ == "__main__":
    main()
