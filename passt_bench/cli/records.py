"""Commands about folders of records: diff, merge, clean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import RUNS, NewRuns, Runs, app, argument, console, flag

records = typer.Typer(no_args_is_help=True, help="Compare, merge and clean up records.")
app.add_typer(records, name="records")


@records.command()
def diff(
    first: Annotated[
        str, argument("A", "A record: its key, the first characters of it, or a path.")
    ],
    second: Annotated[str, argument("B", "Another record.")],
    runs: Runs = RUNS,
) -> None:
    """Show the fields in which two records differ."""
    from passt_bench.records.store import Store
    from passt_bench.runner.maintenance import compare_records, find_record

    store = Store(runs)
    one, other = find_record(first, store), find_record(second, store)
    console.print(f"Same key: {one.key}." if one.key == other.key else f"{one.key} and {other.key}")
    table = Table("field", "A", "B")
    for name, values in compare_records(one, other).items():
        table.add_row(name, *values)
    console.print(table if table.rows else "No differences.")


@records.command()
def merge(
    sources: Annotated[list[Path], argument("FROM…", "Folders of records to copy from.")],
    runs: NewRuns = RUNS,
) -> None:
    """Copy the records of other folders into --runs; nothing if results contradict."""
    from passt_bench.records.run import count_of
    from passt_bench.runner.maintenance import merge as copy

    done = copy(sources, runs)
    copied = count_of(len(done.copied), "record")
    console.print(f"{copied} copied, {len(done.same)} existed already.")
    for key in done.replaced:
        console.print(f"{key}: the successful run replaced a failed one.")
    for key in done.kept:
        console.print(f"{key}: a record that does not contradict it exists here; kept that one.")
    if done.studies:
        console.print(f"Studies: {', '.join(done.studies)}.")


@records.command()
def clean(
    runs: Runs = RUNS,
    yes: Annotated[bool, flag("--yes", "Remove what is listed.")] = False,
    unused: Annotated[
        bool, flag("--unused-records", "Include records that no study refers to.")
    ] = False,
) -> None:
    """List what can be removed from a folder of records; remove it with --yes."""
    from passt_bench.runner.maintenance import find_removable, remove

    removable = find_removable(runs)
    table = Table("kind", "count", "MB", "")
    for item in removable:
        goes = bool(item.paths) and (unused or not item.results)
        note = "removed" if goes and yes else "removed with --yes" if goes else ""
        if item.paths and item.results and not unused:
            note = "kept, unless --unused-records is given"
        table.add_row(item.what, str(len(item.paths)), f"{item.size / 1e6:.1f}", note)
        if goes and yes:
            remove(item)
    console.print(table)
    if not yes:
        console.print("Nothing was removed.")
