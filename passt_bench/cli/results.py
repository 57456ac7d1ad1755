"""Commands about results: show, report, sync, ui."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from passt_bench.cli import options
from passt_bench.cli.options import app, argument, console, flag, listed, option, print_json
from passt_bench.cli.study import print_record
from passt_bench.errors import InputError, check_known, without_password
from passt_bench.processes import SAFE_PATH_VARIABLE

if TYPE_CHECKING:
    from passt_bench.records.run import Status, StudyRecord
    from passt_bench.records.store import Store
    from passt_bench.report.paper import PaperStatus


def paper_status(runs: Path, reports: Path, data: Mapping[str, Path]) -> PaperStatus:
    """The requirements of the paper's rows that this machine has, and which rows were evaluated."""
    from passt_bench.paper import published_rows
    from passt_bench.records.store import Store
    from passt_bench.report.files import EVALUATIONS
    from passt_bench.report.paper import PaperStatus, find_evaluations
    from passt_bench.runner.studies import find_available

    rows = published_rows()
    stores = [Store(reports / EVALUATIONS), Store(runs)]
    return PaperStatus(find_available(data), rows, evaluated=find_evaluations(rows, stores))


def _check_adoption(name: str, runs: Path, reports: Path) -> str | None:
    """Refuses to replace the study in a report's folder by one that lacks something of it.

    Returns a sentence about what rendering replaces, or None if no such study is there.
    """
    from passt_bench.analysis.frame import find_runs
    from passt_bench.records.run import cell_name
    from passt_bench.records.store import Store
    from passt_bench.runner.studies import settings_difference

    store, kept = Store(runs), Store(reports / name)
    if name not in kept.studies():
        return None

    def statuses(study: StudyRecord, *stores: Store) -> dict[tuple[str, int, int | None], Status]:
        found = find_runs(study, stores)
        cells = [(variant.name, cell) for variant in study.variants for cell in variant.cells]
        return {(v, c.seed, c.fold): found[c.key].status for v, c in cells if c.key in found}

    study, old = store.study(name), kept.study(name)
    before, after = statuses(old, kept), statuses(study, store, kept)
    differs = settings_difference(study, old, {variant.name for variant in study.variants})
    if study.fingerprint.digest != old.fingerprint.digest:
        differs = "the data"
    for run, status in before.items():
        if differs is None and (run not in after or status == "ok" != after[run]):
            differs = f"no such run of variant {run[0]!r}, {cell_name(*run[1:])}"
    if differs is not None:
        problem = f"the study in {runs} has other settings or fewer runs"
        problem += f" (first difference: {differs})"
        remedy = "Run yours again with another --name (what is on record counts), or remove "
        remedy += "this folder first."
        raise InputError(problem, source=kept.root, field="--adopt", value=name, remedy=remedy)
    return f"{kept.root} was replaced: it had {len(before)} runs, and now has {len(after)}."


@app.command()
def show(
    study: Annotated[
        str, argument("STUDY", "A study or search on record; by default all are listed.")
    ] = "",
    json: options.Json = False,
    latex: Annotated[
        str | None, option("TABLE", "Print a table of its page as LaTeX, e.g. verdicts.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        option("NAMES", "Columns of the LaTeX table, as in its CSV file, for one column of a page"),
    ] = None,
    runs: options.Runs = options.RUNS,
    reports: options.Reports = None,
) -> None:
    """Show what a study or search found: its answer and its verdicts."""
    if not study:
        print_record(runs, json=json)
        return
    from passt_bench.report import build, tables, terminal, view
    from passt_bench.runner.request import Paths

    reports = Paths(runs, pages=reports).reports
    results, search = build.load(study, runs, reports)
    shown = view.study_view(results) if results else None
    pages = (reports / study / "index.html", runs / "index.html")  # of a report's own folder
    page = next((page for page in pages if page.is_file()), pages[0])
    if latex is not None:
        known, chosen = terminal.result_tables(shown, search), listed(columns)
        check_known(latex, known, "no such table", field="--latex", source=study)
        found = known[latex].only(chosen) if chosen else known[latex]
        print(tables.to_latex(found, f"{study}-{latex}", narrow=bool(chosen)), end="")
        return
    if json:
        print_json(terminal.result_json(shown, search, page if page.is_file() else None))
        return
    terminal.print_result(console, shown, search)
    make = f"passt-bench report {study} --runs {runs} --reports {reports}"
    console.print(f"Page: {page}" if page.is_file() else f"For its page: {make}")


@app.command()
def report(
    studies: Annotated[
        list[str] | None, argument("STUDY…", "Studies or searches; by default all.")
    ] = None,
    adopt: Annotated[
        bool, flag("--adopt", "Replace no study that has other settings or more runs.")
    ] = False,
    pdf: Annotated[bool, flag("--pdf", "Write the figures as PDF as well.")] = False,
    runs: options.Runs = options.RUNS,
    reports: options.Reports = None,
) -> None:
    """Render pages, tables and figures from records."""
    from passt_bench.records.store import Store
    from passt_bench.report.build import build_all, build_pdfs, build_study
    from passt_bench.runner.request import Paths, data_folders

    reports = Paths(runs, pages=reports).reports
    names = studies or Store(runs).studies()
    replaced = [_check_adoption(name, runs, reports) for name in names if adopt]
    if studies:
        pages = [build_study(name, runs, reports) for name in studies]
    else:
        pages = build_all(runs, reports, paper_status(runs, reports, data_folders(())))
    lost = "".join(build_pdfs(page.parent) for page in pages) if pdf else ""
    for line in (*pages, *filter(None, replaced)):
        console.print(str(line))
    if lost:
        from matplotlib import get_cachedir

        text = f"The PDF files lack letters that no font here has: {lost}. Install a font with them"
        console.print(f"{text} (Noto), and remove the folder {get_cachedir()}.", style="yellow")


@app.command()
def sync(runs: options.Runs = options.RUNS, quiet: options.Quiet = False) -> None:
    """Update MLflow from the records."""
    from passt_bench.console import stage
    from passt_bench.report.text import counted
    from passt_bench.runner.tracking import sync as update_mlflow

    with stage(console, "Updating MLflow") as update:
        done = update_mlflow(runs, progress=update)
    if not done.studies:
        remedy = "Run a study first, e.g. passt-bench run quick, or name your folder of runs."
        raise InputError("nothing was run here", source=runs, field="--runs", remedy=remedy)
    counts = ", ".join(f"{number} {kind}" for kind, number in done.runs.items())
    studies = counted(done.studies, "study", "studies")
    console.print(f"{studies} at {done.uri}" + (f"; runs: {counts}" if counts else ""))


@app.command()
def ui(
    runs: options.Runs = options.RUNS,
    port: Annotated[int, option("PORT", "Port on 127.0.0.1.", min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's web interface on this machine."""
    from passt_bench.runner.tracked_run import database, local_uri, store_uri
    from passt_bench.runner.tracking import SETTINGS, pages

    uri = store_uri(runs)
    if uri.startswith("http"):
        problem = "the runs are on a server that has its own web interface"
        remedy = f"Open {without_password(uri)}"
        raise InputError(problem, source="MLFLOW_TRACKING_URI", remedy=remedy)
    if uri == local_uri(runs) and not database(runs).is_file():
        problem = "no MLflow store in this folder"
        remedy = f"Run a study first, or: passt-bench sync --runs {runs}"
        raise InputError(problem, source=runs, remedy=remedy)
    settings = {
        **SETTINGS,
        **os.environ,
        "PYTHONWARNINGS": "ignore",
        # The job runners would be eight more processes for features that are not used.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        # Not an argument, which everybody on the machine can read: it may contain a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
        SAFE_PATH_VARIABLE: "1",
        # Uvicorn, which MLflow starts, would put the current folder first on the path; it gets the
        # folder that is first on the path of the passt-bench command.
        "UVICORN_APP_DIR": sysconfig.get_path("scripts"),
    }
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    # Errors and warnings only, not each request.
    command += ["--workers", "1", "--uvicorn-opts", "--log-level warning"]
    console.print(f"http://127.0.0.1:{port} (Ctrl-C ends it)", soft_wrap=True)
    for name, place in pages(runs, uri).items():
        console.print(f"  {name}: http://127.0.0.1:{port}{place}", soft_wrap=True)
    command += ["--default-artifact-root", (runs.resolve() / "mlartifacts").as_uri()]
    os.execve(sys.executable, command, settings)
