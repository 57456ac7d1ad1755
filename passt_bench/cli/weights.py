"""Commands about weight files: list, get, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import ROUNDED
from rich.table import Table

from passt_bench.cli.options import app, console

if TYPE_CHECKING:
    from passt_bench.published_weights import Published

weights = typer.Typer(no_args_is_help=True, help="Published and own weight files.")
app.add_typer(weights, name="weights")

Folder = Annotated[
    Path | None, typer.Option("--to", help="Folder; else PASST_BENCH_WEIGHTS or the user's cache.")
]
_WIDE = 150  # columns of a terminal that hold all of the list


def _claim(entry: Published) -> str:
    metric = "accuracy" if entry.labels == "esc50" else "mAP"
    return f"{metric} {entry.claimed:.4g}" if entry.claimed else "-"


@weights.command("list")
def list_(to: Folder = None) -> None:
    """Every released file, what its authors claim, and whether it is on this machine."""
    from passt_bench.models.ensemble import ENSEMBLES
    from passt_bench.published_weights import PUBLISHED, weights_folder

    folder = to or weights_folder()
    rows = [
        {
            "name": entry.name,
            "file": entry.file,
            "stride": str(entry.stride) if entry.stride else "-",
            "frames": str(entry.frames) if entry.labels != "imagenet" else "-",
            "claimed": _claim(entry),
            "SWA": {True: "yes", False: "no", None: "?"}[entry.averaged],
            "classes": f"{entry.classes} {entry.labels}",
            "here": "yes" if (folder / entry.file).is_file() else "no",
        }
        for entry in PUBLISHED.values()
    ]
    wide = console.width >= _WIDE
    shown = list(rows[0]) if wide else ["name", "claimed", "classes", "here"]
    table = Table(*shown, box=ROUNDED if wide else None, pad_edge=wide)
    for row in rows:
        table.add_row(*(row[column] for column in shown))
    console.print(table)
    for entry in PUBLISHED.values():
        if entry.remark:
            console.print(f"{entry.name}: {entry.remark}", markup=False)
    for name, members in ENSEMBLES.items():
        console.print(f"{name}: {', '.join(members)}", markup=False)
    if not wide:
        console.print(f"A terminal of {_WIDE} columns shows stride, length and file of each.")
    console.print(f"Files lie in {folder}.", markup=False)


@weights.command()
def get(
    name: Annotated[str, typer.Argument(help="See `weights list`; or one of its sets.")],
    to: Folder = None,
) -> None:
    """Downloads a released file, or those of a set, and checks what came."""
    from passt_bench.console import stage
    from passt_bench.models.ensemble import ENSEMBLES
    from passt_bench.models.weights import get as download
    from passt_bench.published_weights import find_published

    for member in ENSEMBLES.get(name, (name,)):
        entry = find_published(member, ENSEMBLES)
        with stage(console, entry.file) as update:
            path = download(entry, to, update)
        console.print(str(path), markup=False)


@weights.command()
def export(
    model: Annotated[str, typer.Argument(help="A model file of this package.")],
    file: Annotated[Path, typer.Argument(help="To write, e.g. passt.pt.")],
) -> None:
    """Writes a PaSST's parameters under official names, for the reference code to load."""
    from passt_bench.models.weights import export_model

    console.print(str(export_model(model, file)), markup=False)
