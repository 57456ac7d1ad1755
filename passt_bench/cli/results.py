"""Commands about what was found: report, sync, ui."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from passt_bench.cli.options import NoBaseline, Out, Variants, app, console
from passt_bench.errors import InputError

if TYPE_CHECKING:
    from passt_bench.console import Estimate
    from passt_bench.report.paper import Here


@contextmanager
def bringing_up_to_date(out: Path, clock: Estimate) -> Iterator[None]:
    """Syncs beside the body, then waits for it; a server that is away is told and ends nothing.

    Args:
        out: folder of the records.
        clock: of the run, of which a slow server may take 2 % more.
    """
    from passt_bench.console import stage
    from passt_bench.runner.background_sync import PATIENCE_SECONDS, LastSync
    from passt_bench.runner.tracking_uri import TrackingError

    last = LastSync(out)
    try:
        yield
    except BaseException:
        last.cancel()
        raise
    try:
        with stage(console, "Bringing MLflow up to date") as update:
            last.wait(max(PATIENCE_SECONDS, 0.02 * clock.elapsed), update)
    except TrackingError as error:
        console.print(f"MLflow was left behind: {error}", style="yellow", markup=False)


def render(name: str, out: Path, reports: Path) -> Path:
    """The page of a study."""
    from passt_bench.report.build import build_study

    return build_study(name, out, reports)


def rendered(name: str, out: Path, reports: Path) -> Path | None:
    """The page of a study, if it is newer than all that it shows and all that draws it."""
    page = reports / name / "index.html"
    if not page.is_file():
        return None
    package = Path(__file__).parents[1]
    shown = [out / "studies" / f"{name}.json", *out.glob("records/*/record.json")]
    drawing = [path for path in package.rglob("*.*") if path.suffix != ".pyc"]
    newest = max(path.stat().st_mtime_ns for path in (*shown, *drawing))
    return page if page.stat().st_mtime_ns > newest else None


def paper_here(out: Path, reports: Path, data: Sequence[str] = ()) -> Here:
    """What this machine has of the paper's rows.

    Args:
        out: folder of the records.
        reports: folder of the rendered reports.
        data: folders of data sets, ``NAME=DIR``, beside those of ``PASST_BENCH_DATA``.
    """
    from passt_bench.models.weights.table import PUBLISHED
    from passt_bench.records.store import Store
    from passt_bench.report.pages import EVALUATIONS
    from passt_bench.report.paper import Here
    from passt_bench.runner.rows import evaluated, find_available
    from passt_bench.runner.studies import published_rows

    rows = published_rows()
    stores = [Store(reports / EVALUATIONS), Store(out)]
    files = {name: entry.file for name, entry in PUBLISHED.items()}
    return Here(find_available(data), rows, evaluated=evaluated(rows, stores), files=files)


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
        pages = build_all(runs, out, paper_here(runs, out))
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

    with stage(console, "Bringing MLflow up to date") as update:
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
    from passt_bench.runner.tracking_uri import serve_ui

    serve_ui(out, port)
