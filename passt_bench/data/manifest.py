"""Opens recordings of your own from a CSV file that lists them, their labels and their splits.

Columns ``path`` (relative to the file's folder), ``labels`` (or ``label``; several separated by
``;``) and ``split`` (``train``, ``test``, ``validation``) or ``fold`` (a whole number); optional
``start`` and ``end`` (seconds within the file) and ``source`` (the recording that a clip was cut
from, by default its file; a validation split never separates clips of one source). If every clip
has one label the data are single-label, else multi-label; where a clip has several, others may have
none. Classes are sorted by name, or in the order of a file ``classes.txt`` or ``vocabulary.csv``
beside the manifest.
"""

from __future__ import annotations

import math
import posixpath
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath

from passt_bench.data.clip_table import TEST, TRAIN, VALIDATION, Listing, ListingBuilder
from passt_bench.data.layout import DatasetLayout
from passt_bench.data.tables import Row, columns_of, read_rows, read_vocabulary
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS

MANIFEST = "manifest.csv"
VOCABULARIES = ("classes.txt", "vocabulary.csv")
CODES = {"train": TRAIN, "test": TEST, "validation": VALIDATION, "eval": TEST}
CODES |= {"evaluation": TEST, "valid": VALIDATION, "val": VALIDATION}
_MAX_FOLDS = 100
_COLUMNS = ("path", "labels", "label", "split", "fold", "start", "end", "source")


class Manifest(DatasetLayout):
    """``manifest.csv`` in the folder; or a CSV file of any name in place of the folder."""

    name = "manifest"
    contents = MANIFEST
    marks = (MANIFEST,)

    def folder(self, root: Path | None) -> Path:
        """The CSV file.

        Raises:
            InputError: none was given, or there is none.
        """
        if root is None or not root.exists():
            return super().folder(root)
        file = root / MANIFEST if root.is_dir() else root
        if not file.is_file():
            raise InputError(
                "no manifest",
                source=file,
                field="manifest=DIR",
                remedy="Give a CSV file with the columns path, labels and split (or fold), or the "
                f"folder that holds it as {MANIFEST}; `passt-bench data split manifest={root}` "
                "makes it of a folder with one folder for each class.",
            )
        return file

    def read(self, file: Path) -> Listing:
        """Reads the CSV file.

        Raises:
            InputError: a missing column, a broken row, or a class that the vocabulary lacks.
        """
        beside = next((p for p in map(file.with_name, VOCABULARIES) if p.is_file()), None)
        classes = None if beside is None else read_vocabulary(beside)
        known = frozenset(classes or ())
        builder = ListingBuilder(classes)
        columns = columns_of(file)
        labels, split = _check_columns(file, columns)
        unlabelled: Row | None = None
        several = False  # whether a clip has several labels
        for row in read_rows(file, ("path", labels, split)):
            path, (start, end) = _path(row), _segment(row)
            unlabelled = unlabelled or (None if row.values[labels] else row)
            whole = start == 0 and end is None
            name = path if whole else f"{path}@{start:.10g}-" + (f"{end:.10g}" if end else "")
            row.unlisted("path", name, builder)
            source = row.values.get("source") or (None if whole else path)
            code = row.number(split, 10_000) if split == "fold" else row.choice(split, CODES)
            words = _labels(row, labels)
            several = several or len(words) > 1
            if beside is not None:
                remedy = f"Fix the row, or add the class to {beside}."
                row.known(labels, words, known, beside.name, remedy)
            builder.add(name, path, words, code, source=source, start=start, end=end)
        listing = builder.listing(file.parent, folded=split == "fold")
        if unlabelled is not None and not several:
            remedy = "A clip may have none only where another has several, separated by ';'."
            raise unlabelled.wrong(labels, "empty", remedy)
        unused = [name or "(no name)" for name in columns if name not in _COLUMNS]
        notes = (f"columns that are not used: {', '.join(unused)}",) if unused else ()
        if len(listing.folds) > _MAX_FOLDS:
            problem = f"{len(listing.folds)} folds"
            raise InputError(problem, source=file, field="fold", remedy="Give at most 100.")
        other = "" if file.name == MANIFEST else f"-{file.stem}"
        return replace(listing, notes=notes, folder=f"{file.parent.resolve().name}{other}" or None)


def _check_columns(file: Path, columns: tuple[str, ...]) -> tuple[str, str]:
    """The columns of labels and of splits."""
    for column in columns:
        if column not in _COLUMNS and get_close_matches(column.lower(), _COLUMNS, 1, 0.8):
            remedy = f"Known: {', '.join(_COLUMNS)}. Give it another name if it is something else."
            raise InputError("no such column", source=file, field=column, remedy=remedy)
    split = _one_of(file, columns, "split", "fold")
    labels = _one_of(file, columns, "labels", "label") if "label" in columns else "labels"
    return labels, split


def _one_of(file: Path, columns: tuple[str, ...], one: str, other: str) -> str:
    """The one of two mutually exclusive columns that the file has."""
    if (one in columns) == (other in columns):
        undivided = one == "split" and one not in columns and "path" in columns
        place = file.parent if file.name == MANIFEST else file
        adds = f" `passt-bench data split manifest={place}` adds the column split." * undivided
        raise InputError(
            f"both of {one} and {other}" if one in columns else f"neither {one} nor {other}",
            source=file,
            field="first line",
            value=",".join(columns),
            remedy="Begin with a line that names one of them, e.g. path,labels,split, with commas."
            + adds,
        )
    return one if one in columns else other


def _path(row: Row) -> str:
    """The file relative to the folder, in its shortest form."""
    given = row.text("path")
    if (written := row.written.get("path")) and (row.path.parent / written).is_file():
        given = written  # a name may have blanks at its ends
    path = posixpath.normpath(given)
    # A backslash is part of a name here, but separates folders on Windows.
    windows = posixpath.normpath(given.replace("\\", "/"))
    climbs = any(form == ".." or form.startswith("../") for form in (path, windows))
    if climbs or path.startswith(("/", "\\")) or PureWindowsPath(path).drive:
        raise row.wrong(
            "path",
            "leads out of the folder of the manifest",
            "Give a path relative to that folder; if the files are elsewhere, put a link to them "
            "into it.",
        )
    if "\0" in path:
        raise row.wrong("path", "not a file name")
    if "\\" in path and not (row.path.parent / path).exists():
        raise row.wrong("path", "folders are separated by backslashes", f"Write {windows}.")
    return path


def _labels(row: Row, column: str) -> list[str]:
    if not row.values[column]:
        return []
    labels = [label.strip() for label in row.text(column).split(";")]
    if not all(labels):
        raise row.wrong(column, "an empty label", "Separate labels by one ';'.")
    if len(set(labels)) < len(labels):
        raise row.wrong(column, "a label is given twice")
    return labels


def _segment(row: Row) -> tuple[float, float | None]:
    """Begin and end of the clip in its file."""
    start, end = _seconds(row, "start") or 0.0, _seconds(row, "end")
    if end is not None and end <= start:
        raise row.wrong("end", f"end must be after start, {start:g} s")
    return start, end


def _seconds(row: Row, column: str) -> float | None:
    text = row.values.get(column)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise row.wrong(column, "not a number of seconds")
    return seconds


DATASETS.register("manifest", version=1, summary="your own recordings, listed in a CSV file")(
    Manifest()
)
