"""Lists of clips as CSV files, read row by row, so that a million rows need no memory."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from passt_bench.errors import InputError

MEND = "Mend or remove the row."


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        path: of the table.
        line: where the row ends in it, from 1.
        values: by column, without blanks around them.
    """

    path: Path
    line: int
    values: dict[str, str]

    def text(self, column: str) -> str:
        """What stands in a column.

        Raises:
            InputError: nothing.
        """
        value = self.values[column]
        if not value:
            raise self.wrong(column, "empty")
        return value

    def wrong(self, column: str, problem: str, remedy: str = MEND) -> InputError:
        """The message that names file, line, column and value."""
        return InputError(
            problem,
            source=f"{self.path} line {self.line}",
            field=column,
            value=self.values.get(column),
            remedy=remedy,
        )


def columns_of(path: Path, delimiter: str = ",") -> tuple[str, ...]:
    """The names in a table's first line.

    Raises:
        InputError: no such file, none in UTF-8, or values that something else separates.
    """
    names = tuple(next((words for _, _, words in _lines(path, delimiter)), ()))
    other = {";": "semicolons", "\t": "tabs"}
    found = [mark for mark in other if len(names) == 1 and mark in names[0]]
    if found and delimiter == ",":
        raise InputError(
            f"its values are separated by {other[found[0]]}",
            source=path,
            field="first line",
            value=names[0],
            remedy="Separate values by commas; a value that holds one stands in quotes.",
        )
    return names


def read_rows(
    path: Path,
    columns: Sequence[str],
    *,
    delimiter: str = ",",
    head: bool = True,
    comment: str | None = None,
) -> Iterator[Row]:
    """The rows of a table; empty lines are passed over.

    Args:
        path: a CSV file in UTF-8, with a byte order mark or without.
        columns: that must be there; without a first line that names them, all, in their order.
        delimiter: between values.
        head: whether the first line names the columns.
        comment: with what lines begin that are no rows.

    Raises:
        InputError: no such file, none in UTF-8, a missing column, a row with more or fewer values
            than columns or of several lines, or no row at all.
    """
    lines = _lines(path, delimiter, comment)
    names = columns_of(path, delimiter) if head else tuple(columns)
    absent = [name for name in columns if name not in names]
    if absent:
        raise InputError(
            "missing columns",
            source=path,
            field=", ".join(absent),
            remedy=f"Give a first line that names {', '.join(columns)}.",
        )
    if len(set(names)) < len(names):
        raise InputError(
            "a column stands there twice",
            source=path,
            field=", ".join(sorted({name for name in names if names.count(name) > 1})),
            remedy="Remove one of them.",
        )
    empty = True
    for first, line, words in islice(lines, int(head), None):
        if len(words) != len(names) or line > first:  # an open quote takes in whole rows
            raise _uneven(path, (first, line), len(words), len(names))
        empty = False
        yield Row(path, line, dict(zip(names, words, strict=True)))
    if empty:
        raise InputError("no clips are listed", source=path, remedy="Give the complete list.")


def _uneven(path: Path, lines: tuple[int, int], values: int, columns: int) -> InputError:
    """A row with another number of values than there are columns, or of several lines."""
    first, last = lines
    problem = f"{values} values for {columns} columns"
    if last == first:
        remedy = "Put values that hold a delimiter in quotes."
    else:
        problem += f": a quote is opened here and closed only in line {last}, or not at all"
        remedy = "Close the quote: all behind it is one value. A quote within a value is written "
        remedy += "twice, and no value goes over several lines."
    return InputError(problem, source=f"{path} line {first}", remedy=remedy)


def _lines(
    path: Path, delimiter: str, comment: str | None = None
) -> Iterator[tuple[int, int, list[str]]]:
    """Where each row that is not empty begins and ends, from 1, and its values."""
    with _told(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        first = 1
        try:
            for words in reader:
                if words and not (comment and words[0].startswith(comment)):
                    yield first, reader.line_num, [word.strip() for word in words]
                first = reader.line_num + 1
        except csv.Error as error:
            raise _no_row(f"{path} line {first}", error) from None


def _no_row(source: str, error: csv.Error) -> InputError:
    limit = csv.field_size_limit()
    long = "field limit" in str(error)
    return InputError(
        f"a value of more than {limit:,} characters" if long else f"no row of a table ({error})",
        source=source,
        remedy="Look for a quote that is not closed: all behind it is one value. A quote within a "
        "value is written twice.",
    )


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Says by the name of the file why it cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise InputError(
            "no such file", source=path, remedy="Give the folder that holds it."
        ) from None
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror})", source=path, remedy="Give a file to be read."
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"not a text file in UTF-8 ({error})", source=path, remedy="Save it as UTF-8."
        ) from None


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Names of classes in their order.

    Args:
        path: a text file with a name a line, or FSD50K's ``vocabulary.csv`` (number, name, …).

    Raises:
        InputError: a name that stands there twice, a number out of turn, or no name.
    """
    turn = True
    if path.suffix == ".csv":
        rows = [words for _, _, words in _lines(path, ",")]
        names = [words[1] if len(words) > 1 else "" for words in rows]
        turn = [words[0] for words in rows] == [str(number) for number in range(len(rows))]
    else:
        with _told(path):
            text = path.read_text(encoding="utf-8-sig")
        names = [line.strip() for line in text.splitlines() if line.strip()]
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if not names or not all(names) or twice or not turn:
        raise InputError(
            "names stand there twice" if twice else "not a list of names",
            source=path,
            field="classes",
            value=", ".join(twice) or None,
            remedy="Give one name a line; in a .csv file number,name with numbers from 0.",
        )
    return tuple(names)
