"""Commands about checkpoints: predict, evaluate."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from passt_bench.cli.options import Out, Reports, app, console
from passt_bench.errors import InputError
from passt_bench.vocabulary import are_numbers

if TYPE_CHECKING:
    from passt_bench.records.evaluation import EvaluationRecord

_NAMELESS = (
    "note: the checkpoint brings no class names: class 0 is its first logit. Give their names with "
    "--labels FILE, one a line."
)
_SHOWN = 10  # classes of a file in text


class Format(StrEnum):
    """How predictions are written."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"


@app.command()
def predict(
    audio: Annotated[list[Path], typer.Argument(metavar="AUDIO…", help="Files or folders.")],
    checkpoint: Annotated[
        list[str],
        typer.Option(help="A model file, a published name or set; several are averaged."),
    ],
    form: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.TEXT,
    top: Annotated[
        int | None, typer.Option(min=1, help="Classes a file; text shows 10, else all.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds from window to window; else a whole window.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    labels: Annotated[
        Path | None, typer.Option(help="A class name a line, for files that bring none.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
) -> None:
    """Names what is heard in audio files: classes with probabilities, the most probable first."""
    import torch

    from passt_bench.console import stage
    from passt_bench.models.ensemble import build_ensemble
    from passt_bench.records.files import write_atomically
    from passt_bench.runner import predict as runner

    if hop is not None and not hop > 0:
        raise InputError("must be positive", field="--hop", value=hop, remedy="Give seconds.")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise InputError(
            "no such device here", field="--device", value=device, remedy="Use --device cpu."
        )
    paths = runner.find_audio(audio)
    ensemble = build_ensemble(checkpoint if len(checkpoint) > 1 else checkpoint[0])
    if labels is not None:
        ensemble.rename(read_names(labels))
    beside = Console(stderr=True, highlight=False, soft_wrap=True)  # the output stays pure
    if labels is None and are_numbers(ensemble.classes):
        beside.print(_NAMELESS, markup=False)
    with stage(beside, f"Predicting {len(paths)} files") as update:
        results = runner.predict_files(ensemble.to(device), paths, hop, device, update)
    write = {Format.TEXT: runner.as_text, Format.CSV: runner.as_csv, Format.JSON: runner.as_json}
    text = write[form](results, top or (_SHOWN if form is Format.TEXT else None))
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())
        console.print(str(output), markup=False)
    failures = [result for result in results if isinstance(result, runner.Failure)]
    for failure in failures:
        beside.print(f"error: {failure.message}", style="red", markup=False)
    if failures:
        raise typer.Exit(1)


def read_names(path: Path) -> list[str]:
    """The class names in a text file, one a line.

    Raises:
        InputError: it cannot be read as text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"not readable as text ({error})", source=path, remedy="Give a class name a line."
        ) from None
    return [line.strip() for line in lines if line.strip()]


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
    from passt_bench.runner.request import check_folder
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
