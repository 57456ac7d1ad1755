"""Commands about what was found: report, sync, ui."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passt_bench.cli.options import NoBaseline, Out, Variants, app, console
from passt_bench.errors import InputError
from passt_bench.processes import VARIABLE

if TYPE_CHECKING:
    from passt_bench.report.paper import Here
    from passt_bench.runner.request import Paths


def paper_here(paths: Paths) -> Here:
    """What this machine has of the paper's rows."""
    from passt_bench.records.store import Store
    from passt_bench.report.pages import EVALUATIONS
    from passt_bench.report.paper import Here, find_evaluations
    from passt_bench.runner.studies import find_available, published_rows

    rows = published_rows()
    stores = [Store(paths.reports / EVALUATIONS), Store(paths.runs)]
    return Here(find_available(paths.data), rows, evaluated=find_evaluations(rows, stores))


@app.command()
def report(
    studies: Annotated[list[str] | None, typer.Argument(metavar="STUDY…")] = None,
    variants: Variants = None,
    no_baseline: NoBaseline = False,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of the records.")] = Path("runs"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the reports.")] = Path("reports"),
) -> None:
    """Renders pages, tables and figures from records alone; without a name, all there are."""
    from passt_bench.report.build import build_all, build_study, build_variants
    from passt_bench.runner.request import Paths, data_folders

    if no_baseline:
        raise InputError(
            "a page compares with the baseline",
            field="--no-baseline",
            remedy="Leave it out; --variant names what is compared.",
        )
    if variants:
        pages = [build_variants(_one_study(studies), variants, runs, out)]
    elif studies:
        pages = [build_study(name, runs, out) for name in studies]
    else:
        paths = Paths(runs, data_folders(()), out)
        pages = build_all(runs, out, paper_here(paths))
    for page in pages:
        console.print(str(page), markup=False)


def _one_study(studies: list[str] | None) -> str:
    if studies is None or len(studies) != 1:
        raise InputError(
            "chooses among the variants of one study",
            field="--variant",
            remedy="Name that study, and no other: passt-bench report STUDY --variant NAME.",
        )
    return studies[0]


@app.command()
def sync(out: Out = Path("runs")) -> None:
    """Brings MLflow up to date with the records."""
    from passt_bench.console import stage
    from passt_bench.runner.tracking import sync as bring

    with stage(console, "Updating MLflow") as update:
        done = bring(out, progress=update)
    console.print(
        f"{done.studies} studies at {done.uri}: {done.created} runs are new, {done.finished} "
        f"finished, {done.updated} updated, {done.unchanged} unchanged.",
        markup=False,
    )


@app.command()
def ui(
    out: Out = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="On 127.0.0.1.")] = 5000,
) -> None:
    """Opens MLflow's page on this machine."""
    from passt_bench.runner.tracking import (
        SETTINGS,
        database,
        holds_data,
        local_uri,
        store_uri,
        without_password,
    )

    uri = store_uri(out)
    if uri.startswith("http"):
        raise InputError(
            "the runs are on a server with a page of its own",
            source="MLFLOW_TRACKING_URI",
            remedy=f"Open {without_password(uri)}",
        )
    if uri == local_uri(out) and not holds_data(database(out)):
        raise InputError(
            "no MLflow store here",
            source=out,
            remedy=f"Run a study first, or: passt-bench sync --out {out}",
        )
    settings = {
        **SETTINGS,
        **os.environ,
        # Its job runners would be eight more processes, for things that are not used here.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not among the arguments, which everybody on the machine can read: it may hold a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        VARIABLE: "1",
        # Uvicorn, which MLflow starts, puts the current folder first by itself; it gets the folder
        # that is first on the path of the passt-bench command.
        "UVICORN_APP_DIR": sysconfig.get_path("scripts"),
    }
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1"]
    command += ["--default-artifact-root", (out.resolve() / "mlartifacts").as_uri()]
    os.execve(sys.executable, command, settings)
