"""Writes tables as CSV, Markdown and LaTeX; templates show them as HTML."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from operator import itemgetter
from typing import Any

from passt_bench.report.text import NAN, NOTHING, Span, latex, markdown

# Points of a LaTeX page in one column, of a character in \\small, and between columns.
_PAGE, _CHARACTER, _BETWEEN = 345.0, 4.3, 12.0


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: in CSV, e.g. ``difference``; a column of spans adds ``difference_low`` and ``_high``.
        title: for people.
        show: a value as text; None for columns of text.
        unit: for people, under the title.
        span: whether the values are `Span`.
        label: a name as text for people; programs get the name itself.
        get: the value of an item, where the table is made by `table_of`.
    """

    name: str
    title: str
    show: Callable[[Any], str] | None = None
    unit: str = ""
    span: bool = False
    label: Callable[[str], str] | None = None
    get: Callable[[Any], Any] = itemgetter(0)

    @property
    def numeric(self) -> bool:
        """Whether it is set flush right."""
        return self.show is not None

    @property
    def heading(self) -> str:
        """Title and unit in a line."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: object) -> str:
        """A cell for people; text in a column of numbers, such as a status, is shown as it is."""
        if value is None or _is_nan(value):
            return NOTHING
        if self.label is not None:
            return self.label(str(value))
        if isinstance(value, str) or self.show is None:
            return str(value)
        return self.show(value)

    def plain(self, value: object) -> list[object]:
        """A cell for programs, as full numbers; empty where there is none."""
        if self.span:
            known = value if isinstance(value, Span) else Span(NAN)
            return [_plain(known.value), _plain(known.low), _plain(known.high)]
        if isinstance(value, str) and self.numeric and not _is_number(value):
            return [""]
        return [_plain(value)]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and isnan(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if isfinite(value) else ""
    return value


@dataclass(frozen=True)
class Table:
    """A table of a report.

    Attributes:
        name: of its files.
        caption: a sentence or two.
        rows: one value a column; a `Span` or number, a string, or None.
        highlight: number of a row to be set apart (the baseline), or None.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    highlight: int | None = None

    def texts(self) -> list[list[str]]:
        """All cells for people."""
        return [
            [column.text(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Any]],
    highlight: int | None = None,
) -> Table:
    """A table without the columns in which every row is blank; the first column stays."""
    kept = [
        i
        for i, column in enumerate(columns)
        if i == 0 or not rows or any(column.text(row[i]) not in (NOTHING, "") for row in rows)
    ]
    shown = tuple(tuple(row[i] for i in kept) for row in rows)
    return Table(name, caption, tuple(columns[i] for i in kept), shown, highlight)


def table_of(
    items: Iterable[Any],
    name: str,
    caption: str,
    columns: Sequence[Column],
    highlight: int | None = None,
) -> Table:
    """A table with a row per item; each column knows how to get its value."""
    rows = [[column.get(item) for column in columns] for item in items]
    return table(name, caption, columns, rows, highlight)


def to_csv(table: Table) -> str:
    """Full numbers with the ends of intervals in columns of their own."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    header = []
    for column in table.columns:
        ends = ("", "_low", "_high") if column.span else ("",)
        header += [column.name + end for end in ends]
    writer.writerow(header)
    for row in table.rows:
        cells = zip(table.columns, row, strict=True)
        writer.writerow([part for column, value in cells for part in column.plain(value)])
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """A pipe table with its caption above."""
    titles = [markdown(column.heading) for column in table.columns]
    marks = ["--:" if column.numeric else ":--" for column in table.columns]
    lines = [markdown(table.caption), "", _pipes(titles), _pipes(marks)]
    lines += [_pipes([markdown(cell) for cell in row]) for row in table.texts()]
    return "\n".join(lines) + "\n"


def _pipes(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def to_latex(table: Table, label: str) -> str:
    """A ``table*`` in the style of booktabs, scaled to the page where it is wide."""
    wide = _width(table) > _PAGE
    needs = r"\usepackage{booktabs,graphicx}" if wide else r"\usepackage{booktabs}"
    titles = [latex(column.heading) for column in table.columns]
    body = [r"\toprule", _ampersands(titles), r"\midrule"]
    body += [_ampersands([latex(cell) for cell in row]) for row in table.texts()]
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        f"% Needs {needs} in the preamble.",
        r"\begin{table*}",
        r"  \centering",
        f"  \\caption{{{latex(table.caption)}}}",
        f"  \\label{{tab:{label}}}",
        r"  \resizebox{\textwidth}{!}{%" if wide else r"  \small",
        f"  \\begin{{tabular}}{{@{{}}{spec}@{{}}}}",
        *(f"    {line}" for line in [*body, r"\bottomrule"]),
        r"  \end{tabular}" + ("}" if wide else ""),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _width(table: Table) -> float:
    """About how wide LaTeX sets the table, in points."""
    columns = zip([c.title + c.unit for c in table.columns], *table.texts(), strict=True)
    return sum(_CHARACTER * max(map(len, cells)) + _BETWEEN for cells in columns)


def _ampersands(cells: Sequence[str]) -> str:
    # A cell that opens with a bracket would be read as an argument of the line before.
    return " & ".join("{}" + cell if cell.startswith("[") else cell for cell in cells) + r" \\"
