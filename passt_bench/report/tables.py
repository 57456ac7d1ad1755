"""Writes tables as CSV, Markdown and LaTeX; templates show them as HTML."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan
from typing import Any

from passt_bench.console import csv_text
from passt_bench.errors import check_known
from passt_bench.report.text import MINUS, NAN, NOTHING, Span, latex, markdown

_NUMBER = re.compile(rf"([+{MINUS}]?)(\d[\d ]*)(?:\.(\d+))?×?")


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str  # in CSV, e.g. difference; spans also have difference_low and difference_high
    title: str  # in HTML, Markdown and LaTeX
    show: Callable[[Any], str] | None = None  # formats a value; None for columns of text
    unit: str = ""
    span: bool = False  # whether the values are `Span`
    label: Callable[[str], str] | None = None  # changes a text for display; CSV keeps the original
    get: Callable[[Any], Any] | None = None  # None: an item has a value per column

    @property
    def numeric(self) -> bool:
        """Whether it is right-aligned."""
        return self.show is not None

    @property
    def heading(self) -> str:
        """Title and unit on one line."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    def text(self, value: object) -> str:
        """A cell in HTML, Markdown and LaTeX; in a column of numbers, text is shown as it is."""
        if value is None or (isinstance(value, float) and isnan(value)):
            return NOTHING
        if self.label is not None:
            return self.label(str(value))
        if isinstance(value, str) or self.show is None:
            return str(value)
        return self.show(value)

    def values(self, value: object) -> dict[str, object]:
        """A cell as full numbers, by the names that CSV and JSON have; None where there is none."""
        if self.span:
            value, low, high = value if isinstance(value, Span) else Span(NAN)
            numbers = {"": value, "_low": low, "_high": high}
            return {self.name + end: _finite(number) for end, number in numbers.items()}
        if isinstance(value, str) and self.numeric and not _is_number(value):
            return {self.name: None}
        return {self.name: _finite(value)}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not isfinite(value) else value


def _plain(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, str):
        return csv_text(value)
    return f"{value:.6g}" if isinstance(value, float) else value


@dataclass(frozen=True)
class Table:
    """A table of a report."""

    name: str  # of its files
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]  # one value per column: a `Span`, number, string, or None
    highlight: int | None = None  # index of the baseline's row

    def only(self, names: Sequence[str]) -> Table:
        """The table with these columns, named as in CSV files, in this order (`InputError`)."""
        known = {column.name: number for number, column in enumerate(self.columns)}
        for name in names:
            check_known(name, known, f"no such column in {self.name}", field="--columns")
        chosen = [known[name] for name in names]
        rows = tuple(tuple(row[number] for number in chosen) for row in self.rows)
        return replace(self, columns=tuple(self.columns[number] for number in chosen), rows=rows)

    def texts(self) -> list[list[str]]:
        """All cells in HTML, Markdown and LaTeX."""
        return [
            [column.text(value) for column, value in zip(self.columns, row, strict=True)]
            for row in self.rows
        ]


def table(
    name: str,
    caption: str,
    columns: Sequence[Column],
    items: Iterable[Any],
    highlight: int | None = None,
) -> Table:
    """A table with a row per item, without blank columns except the first column."""
    rows = [[c.get(item) if c.get else item[n] for n, c in enumerate(columns)] for item in items]
    indices = [
        i
        for i, column in enumerate(columns)
        if i == 0 or not rows or any(column.text(row[i]) not in (NOTHING, "") for row in rows)
    ]
    shown = tuple(tuple(row[i] for i in indices) for row in rows)
    return Table(name, caption, tuple(columns[i] for i in indices), shown, highlight)


def to_rows(table: Table) -> list[dict[str, object]]:
    """The rows with full numbers, the ends of intervals apart, under the names of `to_csv`."""
    return [
        {name: each for column, value in zip(table.columns, row, strict=True)
         for name, each in column.values(value).items()}
        for row in table.rows
    ]  # fmt: skip


def to_csv(table: Table) -> str:
    """The table as CSV: full numbers, the ends of intervals apart, no text that is a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([csv_text(name) for column in table.columns for name in column.values(None)])
    for row in to_rows(table):
        writer.writerow([_plain(value) for value in row.values()])
    return buffer.getvalue()


def to_markdown(table: Table) -> str:
    """The table as a Markdown pipe table with its caption above."""
    titles = [markdown(column.heading) for column in table.columns]
    marks = ["--:" if column.numeric else ":--" for column in table.columns]
    rows = [titles, marks, *([markdown(cell) for cell in row] for row in table.texts())]
    lines = [markdown(table.caption), "", *("| " + " | ".join(row) + " |" for row in rows)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table, label: str, *, narrow: bool = False) -> str:
    """The table with booktabs and siunitx: in one column of a page if ``narrow``, else in all.

    Numbers are aligned at their decimal point, intervals beside them; a table that is too wide is
    scaled down.
    """
    cells = zip(*table.texts(), strict=True) if table.rows else [()] * len(table.columns)
    made = [_latex_column(*both) for both in zip(table.columns, cells, strict=True)]
    lines = [_ampersands(row) for row in zip(*(texts for _, texts in made), strict=True)]
    where = "table" if narrow else "table*"
    lines = [
        r"% Needs \usepackage{booktabs,graphicx,siunitx} in the preamble.",
        f"\\begin{{{where}}}",
        r"  \centering\footnotesize\setlength{\tabcolsep}{3pt}\sisetup{retain-explicit-plus}",
        f"  \\caption{{{latex(table.caption)}}}",
        f"  \\label{{tab:{label}}}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        f"  \\begin{{tabular}}{{@{{}}{''.join(spec for spec, _ in made)}@{{}}}}",
        *(f"    {line}" for line in (r"\toprule", lines[0], r"\midrule", *lines[1:])),
        r"    \bottomrule",
        r"  \end{tabular}}",
        f"\\end{{{where}}}",
    ]
    return "\n".join(lines) + "\n"


def _latex_column(column: Column, cells: Sequence[str]) -> tuple[str, list[str]]:
    """The column type in LaTeX, and the texts of the column, its heading first."""
    heading, texts = latex(column.heading), [latex(cell) for cell in cells]
    parts = [cell.partition(" [") for cell in cells]
    found = [_NUMBER.fullmatch(value) for value, _, _ in parts] if column.numeric else []
    numbers = [number.groups("") for number in found if number]
    if not numbers:
        return "r" if column.numeric else "l", [heading, *texts]
    sign = "+" if any(sign for sign, _, _ in numbers) else ""
    digits, places = (max(len(number[i].replace(" ", "")) for number in numbers) for i in (1, 2))
    spec = f"S[table-format={sign}{digits}.{places}]"
    values = [
        value.replace(MINUS, "-").replace("×", "") if number else f"{{{latex(value)}}}"
        for number, (value, _, _) in zip(found, parts, strict=True)
    ]
    if not any(end for _, end, _ in parts):
        return spec, [f"{{{heading}}}", *values]
    ends = [rf"\scriptsize {latex(f'[{end}')}" if between else "" for _, between, end in parts]
    both = [f"{value} & {end}" for value, end in zip(values, ends, strict=True)]
    return spec + r"@{\,}l", [rf"\multicolumn{{2}}{{c}}{{{heading}}}", *both]


def _ampersands(cells: Sequence[str]) -> str:
    # A bracket or star that opens a cell would be read as an argument of the line before.
    return " & ".join("{}" + c if c.startswith(("[", "*")) else c for c in cells) + r" \\"
