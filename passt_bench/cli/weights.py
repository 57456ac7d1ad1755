"""Commands about weights: list, get."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from passt_bench.cli import options
from passt_bench.cli.options import Json, app, argument, check_exists, console, option, print_json

weights = typer.Typer(no_args_is_help=True, help="List and download weights.")
app.add_typer(weights, name="weights")

Folder = Annotated[
    Path | None,
    option("DIR", "Folder of the weights; by default PASST_BENCH_WEIGHTS, or the user's cache."),
]


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
    table = Table("name", "reported", "classes", "here", box=None, pad_edge=False)
    for entry in PUBLISHED.values():
        metric = "accuracy" if entry.labels == "esc50" else "mAP"
        table.add_row(
            entry.name,
            f"{metric} {entry.claimed:.4g}" if entry.claimed else "-",
            f"{entry.classes} {entry.labels}",
            "yes" if (here / entry.file).is_file() else "no",
        )
    console.print(table)
    for entry in PUBLISHED.values():
        if entry.remark:
            console.print(f"{entry.name}: {entry.remark}")
    for name, members in ENSEMBLES.items():
        console.print(f"{name}: {', '.join(members)}")
    console.print("--json also shows stride, frames, SWA, file and address.")
    return console.print(f"Folder of the files: {here}")


@weights.command()
def get(
    name: Annotated[str, argument("NAME", "Weights, or a set of them, from `weights list`.")],
    folder: Folder = None,
    quiet: options.Quiet = False,
) -> None:
    """Download published weights, or a set of them, and verify the files."""
    from passt_bench.console import stage
    from passt_bench.models.weights.model_file import check_published
    from passt_bench.published_weights import ENSEMBLES, find_published
    from passt_bench.published_weights import get as download

    for member in ENSEMBLES.get(name, (name,)):
        entry = find_published(member)
        with stage(console, entry.file) as update:
            path = download(entry, check_published, folder, update)
        console.print(str(path))
