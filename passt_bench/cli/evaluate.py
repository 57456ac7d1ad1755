"""The command that evaluates checkpoints on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from passt_bench.cli.options import Out, Reports, app, console
from passt_bench.cli.predict import read_names

if TYPE_CHECKING:
    from passt_bench.records.evaluation import EvaluationRecord


@app.command()
def evaluate(
    checkpoint: Annotated[
        list[str],
        typer.Option(help="A model file, a published name or set; several are averaged."),
    ],
    data: Annotated[
        str, typer.Option(help="NAME=DIR; NAME alone where no folder is needed or it is known.")
    ],
    metrics: Annotated[
        str, typer.Option(help="Separated by commas; else those of the data set.")
    ] = "",
    split: Annotated[str, typer.Option(help="test, valid or train.")] = "test",
    fold: Annotated[int | None, typer.Option(help="That is held out, of data with folds.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    batch: Annotated[int, typer.Option(min=1, help="Clips at a time.")] = 8,
    labels: Annotated[
        Path | None, typer.Option(help="A class name a line, for files that bring none.")
    ] = None,
    out: Out = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """How good checkpoints (several: their ensemble) are on a data set, with an interval."""
    from passt_bench.console import stage
    from passt_bench.report.build import render_index
    from passt_bench.report.pages import build_evaluations
    from passt_bench.runner.evaluation import EvaluationRequest, evaluate_checkpoints
    from passt_bench.runner.prepare import check_folder
    from passt_bench.runner.run import check_available

    check_available(device, "--device")
    check_folder(out)
    request = EvaluationRequest(
        checkpoints=checkpoint,
        data=data,
        metrics=[name.strip() for name in metrics.split(",") if name.strip()],
        split=split,
        fold=fold,
        device=device,
        batch=batch,
        out=out,
        classes=read_names(labels) if labels is not None else None,
    )
    with stage(console, "Evaluating") as update:
        record, fresh = evaluate_checkpoints(request, update)
    if not fresh:
        console.print(f"From the record of {record.finished}.", markup=False)
    _show(record)
    console.print(f"The record: {out / 'records' / record.key / 'record.json'}", markup=False)
    pages = build_evaluations(out, reports)
    render_index(reports)
    console.print(f"The page: {pages[0]}", markup=False)


def _show(record: EvaluationRecord) -> None:
    """Prints what the page shows of one evaluation."""
    from passt_bench.report.pages import evaluations_table

    fold = "" if record.fold is None else f", fold {record.fold}"
    console.print(
        f"{record.name}: {record.clips} clips of {record.fingerprint.dataset} "
        f"({record.split}{fold})",
        markup=False,
    )
    found = evaluations_table([record])
    shown = Table(box=SIMPLE, padding=0, show_edge=False)
    wanted = [
        number
        for number, column in enumerate(found.columns)
        if column.name not in ("checkpoints", "data", "clips", "source")
    ]
    for number in wanted:
        column = found.columns[number]
        shown.add_column(column.title, justify="right" if column.numeric else "left")
    for row in found.texts():
        shown.add_row(*(row[number] for number in wanted))
    console.print(shown)
    console.print(
        f"Brackets: 95 % over the drawing of clips ({record.resamples} resamples), not over "
        "trainings.",
        markup=False,
    )
    for source in dict.fromkeys(result.source for result in record.published):
        console.print(f"Published: {source}.", markup=False)
    for note in record.notes:
        console.print(f"Note: {note}.", markup=False)
