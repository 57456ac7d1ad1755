"""Commands about a folder of records: diff, merge, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import Out, app, console

records = typer.Typer(no_args_is_help=True, help="Compare records, bring folders together, clean.")
app.add_typer(records, name="records")


@records.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A key, its beginning, or a path.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    out: Out = Path("runs"),
) -> None:
    """Says what differs between two records: what decides the key, then what does not."""
    from passt_bench.records.store import Store
    from passt_bench.runner.maintenance import compare_records, find_record

    store = Store(out)
    found = compare_records(find_record(first, store), find_record(second, store))
    same = found.first == found.second
    console.print(
        f"Same key: {found.first}." if same else f"{found.first} and {found.second}",
        markup=False,
    )
    for title, differences in (
        ("What decides the key", found.decides),
        ("What does not", found.context),
    ):
        if not differences:
            console.print(f"{title}: nothing differs.", markup=False)
            continue
        table = Table(title, "A", "B")
        for item in differences:
            table.add_row(item.field, item.first, item.second)
        console.print(table, markup=False)


@records.command()
def merge(
    sources: Annotated[list[Path], typer.Argument(metavar="FROM…", help="Folders of records.")],
    out: Out = Path("runs"),
) -> None:
    """Brings the records of several folders into one; refuses what contradicts, copying nothing."""
    from passt_bench.runner.merge import merge as bring
    from passt_bench.runner.request import check_folder

    check_folder(out)
    done = bring(sources, out)
    console.print(
        f"{len(done.copied)} records copied, {len(done.same)} were there already.", markup=False
    )
    for key in done.replaced:
        console.print(f"{key}: a success took the place of a failure.", markup=False)
    for key in done.kept:
        console.print(f"{key}: another record of the same; the first one stays.", markup=False)
    if done.studies:
        console.print(f"Studies: {', '.join(done.studies)}.", markup=False)
    for key in done.busy:
        console.print(f"{key}: left out, for a command is at it now.", markup=False)
    if done.busy:
        console.print("Give the same command again when that one has ended.", markup=False)
        raise typer.Exit(1)


@records.command()
def clean(
    out: Out = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove it.")] = False,
    unused: Annotated[
        bool, typer.Option("--unused-records", help="Records of no study as well.")
    ] = False,
) -> None:
    """Says what can go from a folder; removes it with --yes, never a record of a study."""
    from passt_bench.runner.maintenance import find_debris, remove

    found = find_debris(out)
    table = Table("what", "count", "MB", "")
    for item in found:
        goes = bool(item.paths) and (unused or not item.results)
        note = "removed" if goes and yes else "goes with --yes" if goes else ""
        if item.paths and item.results and not unused:
            note = "stay, unless --unused-records is given"
        table.add_row(item.what, str(len(item.paths)), f"{item.size / 1e6:.1f}", note)
        if goes and yes:
            remove(item)
    console.print(table)
    if not yes:
        console.print("Nothing was removed.", markup=False)
