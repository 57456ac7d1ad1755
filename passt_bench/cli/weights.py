"""Commands about weights: list, get, export."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import ROUNDED
from rich.table import Table

from passt_bench.cli import options
from passt_bench.cli.options import Json, app, argument, check_exists, console, option, print_json

weights = typer.Typer(no_args_is_help=True, help="List, download and export weights.")
app.add_typer(weights, name="weights")

Folder = Annotated[
    Path | None,
    option("DIR", "Folder of the weights; by default PASST_BENCH_WEIGHTS, or the user's cache."),
]
_WIDE = 150  # columns of a terminal in which the whole list fits


@weights.command("list")
def list_(folder: Folder = None, json: Json = False) -> None:
    """List the published weights, the metrics their authors report, and which are downloaded."""
    from passt_bench.published_weights import ENSEMBLES, PUBLISHED, weights_folder

    if folder is not None:
        check_exists(folder, "--folder", "Give the folder that holds the files.")
    here = folder or weights_folder()
    if json:
        files = [
            asdict(entry) | {"path": str(here / entry.file), "here": (here / entry.file).is_file()}
            for entry in PUBLISHED.values()
        ]
        return print_json({"weights": files, "sets": dict(ENSEMBLES)})
    wide = console.width >= _WIDE
    shown = ["name", "reported", "classes", "here"]
    if wide:
        shown = ["name", "file", "stride", "frames", shown[1], "SWA", *shown[2:]]
    table = Table(*shown, box=ROUNDED if wide else None, pad_edge=wide)
    for entry in PUBLISHED.values():
        metric = "accuracy" if entry.labels == "esc50" else "mAP"
        row = {
            "name": entry.name,
            "file": entry.file,
            "stride": str(entry.stride or "-"),
            "frames": str(entry.frames) if entry.labels != "imagenet" else "-",
            "reported": f"{metric} {entry.claimed:.4g}" if entry.claimed else "-",
            "SWA": {True: "yes", False: "no", None: "?"}[entry.averaged],
            "classes": f"{entry.classes} {entry.labels}",
            "here": "yes" if (here / entry.file).is_file() else "no",
        }
        table.add_row(*(row[column] for column in shown))
    console.print(table)
    for entry in PUBLISHED.values():
        if entry.remark:
            console.print(f"{entry.name}: {entry.remark}")
    for name, members in ENSEMBLES.items():
        console.print(f"{name}: {', '.join(members)}")
    if not wide:
        console.print(f"A terminal of {_WIDE} columns also shows stride, frames, SWA and file.")
    return console.print(f"Folder of the files: {here}")


@weights.command()
def get(
    name: Annotated[str, argument("NAME", "Weights, or a set of them, from `weights list`.")],
    folder: Folder = None,
    quiet: options.Quiet = False,
) -> None:
    """Download published weights, or a set of them, and verify the files."""
    from passt_bench.console import stage
    from passt_bench.models.weights import check_published
    from passt_bench.published_weights import ENSEMBLES, find_published
    from passt_bench.published_weights import get as download

    for member in ENSEMBLES.get(name, (name,)):
        entry = find_published(member)
        with stage(console, entry.file) as update:
            path = download(entry, check_published, folder, update)
        console.print(str(path))


@weights.command()
def export(
    model: Annotated[str, argument("MODEL", "A model file written by this package.")],
    file: Annotated[Path, argument("FILE", "File to write, e.g. passt.pt.")],
) -> None:
    """Write the weights of a PaSST under the parameter names of the reference code."""
    from passt_bench.models.weights import export_model

    console.print(str(export_model(model, file)))
