"""Reads CSV files of clips row by row, with errors that name file, line, column and value."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from passt_bench.data.fingerprint import look_of
from passt_bench.errors import InputError

FIX = "Fix or remove the row."


class Row(NamedTuple):
    """A row of a table; its methods refuse a wrong value, see `wrong`."""

    path: Path  # of the table
    line: int  # last line of the row, from 1
    values: dict[str, str]  # column → value, stripped
    written: dict[str, str]  # column → value as written, where it has blanks at an end

    def text(self, column: str) -> str:
        """The value of a column, which must not be empty."""
        value = self.values[column]
        if not value:
            raise self.wrong(column, "empty")
        return value

    def name(self, column: str) -> str:
        """The value of a column, which must not be empty, as written: names may have blanks."""
        return self.written.get(column) or self.text(column)

    def number(self, column: str, below: int) -> int:
        """The value of a column, which must be a whole number below a limit."""
        text = self.text(column)
        if not text.isdecimal() or len(text) > len(str(below)) or int(text) >= below:
            raise self.wrong(column, f"not a whole number below {below}")
        return int(text)

    def choice(self, column: str, values: Mapping[str, int]) -> int:
        """The number that the value of a column stands for, which must be one of the values."""
        text = self.text(column)
        if text not in values:
            raise self.wrong(column, f"no such {column}", f"There are {', '.join(values)}.")
        return values[text]

    def unlisted(self, column: str, name: str, listed: Container[str]) -> str:
        """The name, which must not be listed yet."""
        if name in listed:
            raise self.wrong(column, "listed twice")
        return name

    def known(
        self, column: str, names: Sequence[str], known: Collection[str], where: str, remedy: str
    ) -> list[str]:
        """The names without repetitions; all must be in ``known``, which is called ``where``."""
        for name in names:
            if name not in known:
                alike = [each for each in known if look_of(each) == look_of(name)]
                there = f"{name!a}, but has {alike[0]!a}" if alike else repr(name)
                raise self.wrong(column, f"{where} lacks {there}", remedy)
        return list(dict.fromkeys(names))

    def wrong(self, column: str, problem: str, remedy: str = FIX) -> InputError:
        """The `InputError` that names file, line, column and value."""
        source, value = f"{self.path} line {self.line}", self.values.get(column)
        return InputError(problem, source=source, field=column, value=value, remedy=remedy)


def columns_of(path: Path, delimiter: str = ",") -> tuple[str, ...]:
    """The names in a table's first line."""
    head = next((words for _, _, words in _lines(path, delimiter)), [])
    return tuple(word.strip() for word in head)


def read_rows(
    path: Path,
    columns: Sequence[str],
    *,
    delimiter: str = ",",
    head: bool = True,
    comment: str | None = None,
) -> Iterator[Row]:
    """The rows of a table; empty lines are skipped.

    The required ``columns`` are named in the first line; without a head they are all, in order.
    Lines that begin with ``comment`` are skipped.

    Raises:
        InputError: no such file, not UTF-8, a missing column, a row with more or fewer values than
            columns or of several lines, or no row at all.
    """
    lines = _lines(path, delimiter, comment)
    names = columns_of(path, delimiter) if head else tuple(columns)
    absent = ", ".join(name for name in columns if name not in names)
    if absent:
        found, them = delimiter.join(names), ", ".join(columns)
        remedy = f"Give a first line that names {them}; {delimiter!r} separates values."
        raise InputError("missing columns", source=path, field=absent, value=found, remedy=remedy)
    if len(set(names)) < len(names):
        nameless = names.count("")
        raise InputError(
            f"{nameless} columns have no name" if nameless > 1 else "a column is named twice",
            source=path,
            field=_repeated(names) or "first line",
            value=",".join(names),
            remedy="Give each a name of its own, or remove the commas behind the last name.",
        )
    empty = True
    for first, line, words in islice(lines, int(head), None):
        if len(words) != len(names) or line > first:  # an unclosed quote swallows whole rows
            where = f" in lines {first} to {line}" if line > first else ""
            raise InputError(
                f"{len(words)} values for {len(names)} columns{where}",
                source=f"{path} line {first}",
                remedy="Put values that contain a delimiter in quotes, and close each quote in its "
                "line; within a value it is written twice.",
            )
        empty = False
        written = {n: word for n, word in zip(names, words, strict=True) if word != word.strip()}
        values = dict(zip(names, map(str.strip, words), strict=True))
        yield Row(path, line, values, written)
    if empty:
        raise InputError("no clips are listed", source=path, remedy="Give the complete list.")


def _lines(
    path: Path, delimiter: str, comment: str | None = None
) -> Iterator[tuple[int, int, list[str]]]:
    """First and last line of each row that is not empty, from 1, and its values."""
    with _reading(path), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter, skipinitialspace=True)
        first = 1
        try:
            for words in reader:
                if words and not (comment and words[0].startswith(comment)):
                    yield first, reader.line_num, words
                first = reader.line_num + 1
        except csv.Error as error:
            raise InputError(
                f"not a row of a table ({error})",
                source=f"{path} line {first}",
                remedy="Look for a quote that is not closed: everything after it is one value. A "
                "quote within a value is written twice.",
            ) from None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turns what the system says about a text file into a message with a remedy."""
    try:
        yield
    except FileNotFoundError:
        problem, remedy = "no such file", "Give the folder that holds it."
    except OSError as error:
        problem, remedy = f"cannot be read ({error.strerror})", "Give a readable file."
    except UnicodeDecodeError as error:
        problem, remedy = f"not a text file in UTF-8 ({error})", "Save it as UTF-8."
    else:
        return
    raise InputError(problem, source=path, remedy=remedy)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """Names of classes in order: one per line, or FSD50K's ``vocabulary.csv`` (number, name, …).

    Raises:
        InputError: a repeated name, a number out of order, or no name.
    """
    ordered = True
    if path.suffix == ".csv":
        rows = [[word.strip() for word in words] for _, _, words in _lines(path, ",")]
        names = [words[1] if len(words) > 1 else "" for words in rows]
        ordered = [words[0] for words in rows] == [str(number) for number in range(len(rows))]
    else:
        with _reading(path):
            text = path.read_text(encoding="utf-8-sig")
        names = [line.strip() for line in text.splitlines() if line.strip()]
    twice = _repeated(names)
    if not names or not all(names) or twice or not ordered:
        raise InputError(
            "names are repeated" if twice else "not a list of names",
            source=path,
            field="classes",
            value=twice or None,
            remedy="Give one name per line; in a .csv file number,name with numbers from 0.",
        )
    return tuple(names)


def _repeated(names: Sequence[str]) -> str:
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))
