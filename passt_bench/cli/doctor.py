"""The command that looks at the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import Out, app, console

_COLOURS = {"good": "green", "note": "yellow", "missing": "red"}


@app.command()
def doctor(
    instruments: Annotated[
        bool, typer.Option("--instruments", help="Check clock, memory and FLOPs as well.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to check them: cpu or cuda.")] = "cpu",
    out: Out = Path("runs"),
) -> None:
    """What this machine has, what disturbs measuring, what is missing for which command."""
    from passt_bench.runner.doctor import examine

    table = Table("what", "state", "found", "remedy", show_lines=False)
    for finding in examine(out):
        state = f"[{_COLOURS[finding.state]}]{finding.state}[/]"
        table.add_row(finding.what, state, finding.detail, finding.remedy)
    console.print(table)
    if instruments and not check(device):
        raise typer.Exit(1)


def check(device: str) -> bool:
    """Shows what the instruments read of known truth; whether all passed."""
    import torch

    from passt_bench.measure.check import check_instruments
    from passt_bench.runner.run import check_available

    check_available(device, source="--device")
    found = check_instruments(torch.device(device))
    table = Table("instrument", "known", "read", "within")
    for item in found:
        colour = "green" if item.passed else "red"
        allowed = f"{100 * item.tolerance:g} %" if item.tolerance else "exactly"
        reading = f"[{colour}]{item.found:,.6g} {item.unit}[/]"
        table.add_row(item.what, f"{item.known:,.6g} {item.unit}", reading, allowed)
    console.print(table)
    return all(item.passed for item in found)
