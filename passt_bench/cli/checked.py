"""Shows what checking a data set found, as tables and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from passt_bench.data.findings import NOTES, Checked, ClassCount, Finding

_NAMED = 5  # things of a kind that text names; JSON names all
_CLASSES = 50  # classes that text lists; of more, the rarest
_RAREST = 10


def as_text(checked: Checked) -> str:
    """All that was found, as JSON."""
    return json.dumps({"clean": checked.clean, **asdict(checked)}, indent=1) + "\n"


def show(console: Console, checked: Checked) -> None:
    """Prints splits, classes, what the files are like, and what is wrong."""
    _splits(console, checked)
    _classes(console, checked)
    lines = [
        f"Lengths: {checked.seconds or 'not known before decoding (--decode)'}.",
        f"Sampling rates: {_counts(checked.rates, 'Hz')}.",
        f"Channels: {_counts(checked.channels, '')}.",
        *(f"Note: {note}." for note in checked.notes),
        f"Fingerprint: {checked.digest}, {_found(checked)}.",
    ]
    for line in lines:
        console.print(line, markup=False)
    for item in checked.findings:
        colour = "yellow" if item.kind in NOTES else "red"
        console.print(_sentence(item), style=colour, markup=False)
    if checked.refusal:
        console.print(f"No study runs on it. {checked.refusal}", style="red", markup=False)
    if checked.clean:
        looked = "every file was decoded" if checked.decoded else "nothing was decoded"
        console.print(f"Nothing is wrong that was looked for ({looked}).", markup=False)
    if not checked.compared:
        console.print("Identical files were not searched for.", markup=False)


def _splits(console: Console, checked: Checked) -> None:
    table = Table("split", "expected", "found", "missing", "broken")
    for part in checked.parts:
        numbers = (part.expected, part.found, part.missing, part.broken)
        table.add_row(part.name, *(f"{number:,}" for number in numbers))
    console.print(table)


def _classes(console: Console, checked: Checked) -> None:
    shown = list(checked.classes)
    rare = len(shown) > _CLASSES
    if rare:
        shown = sorted(shown, key=lambda item: sum(item.found))[:_RAREST]
    title = f"the {_RAREST} rarest of {len(checked.classes)} classes" if rare else "class"
    table = Table(title, *(part.name for part in checked.parts), "lost")
    for item in shown:
        table.add_row(item.name, *(f"{count:,}" for count in item.found), _lost(item))
    console.print(table, markup=False)


def _lost(item: ClassCount) -> str:
    return "?" if item.lost is None else f"{item.lost:,}"


def _counts(counts: dict[str, int], unit: str) -> str:
    if not counts:
        return "not known before decoding (--decode)"
    return ", ".join(
        f"{' '.join((value, unit)).strip()} ({count:,} clips)" for value, count in counts.items()
    )


def _found(checked: Checked) -> str:
    of = "" if checked.expected is None else f" of {checked.expected:,}"
    return f"{checked.found:,}{of} clips"


def _sentence(item: Finding) -> str:
    more = item.count - _NAMED
    names = "; ".join(item.names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    return f"{item.kind}: {item.count:,}: {names}. {item.remedy}"
