"""The command that names what is heard in audio files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from passt_bench.cli.options import app, console
from passt_bench.errors import InputError
from passt_bench.vocabulary import are_numbers

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
    form: Annotated[Format, typer.Option("--format", help="Of the output.")] = Format.TEXT,
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
