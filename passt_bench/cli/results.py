"""Commands about what was found: report, sync, ui."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passt_bench.cli.options import Out, app, console

if TYPE_CHECKING:
    from passt_bench.report.paper import Available


def bring_up_to_date(out: Path) -> None:
    """Syncs after a run; a server that is away is told and does not end it."""
    from passt_bench.console import stage
    from passt_bench.runner.tracking import TrackingError, sync

    try:
        with stage(console, "Bringing MLflow up to date") as update:
            sync(out, progress=update)
    except TrackingError as error:
        console.print(f"MLflow was left behind: {error}", style="yellow", markup=False)


def render(name: str, out: Path, reports: Path) -> Path:
    """The page of a study."""
    from passt_bench.report.build import build_study

    return build_study(name, out, reports)


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
