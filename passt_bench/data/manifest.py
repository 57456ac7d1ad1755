"""Recordings of one's own: a CSV file that names them, their labels and their splits.

Columns ``path`` (relative to the file's folder), ``labels`` (or ``label``; several separated by
``;``) and ``split`` (``train``, ``test``, ``validation``) or ``fold`` (a whole number); optional
``start`` and ``end`` (seconds within the file) and ``source`` (the recording that a clip was cut
from, by default its file: no inner split divides one). Where every clip has one label the set is
single-label, else multi-label. Classes are sorted by name, or stand in the order of a file
``classes.txt`` or ``vocabulary.csv`` beside the manifest.
"""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath

from passt_bench.data.clip_table import SPLITS, Lister, Listing
from passt_bench.data.clips import FolderDataset, open_listing
from passt_bench.data.tables import Row, columns_of, read_rows, read_vocabulary
from passt_bench.errors import InputError
from passt_bench.registry import DATASETS
from passt_bench.spec.recipe import DataSpec

MANIFEST = "manifest.csv"
VOCABULARIES = ("classes.txt", "vocabulary.csv")
_CODES = {name: code for code, name in enumerate(SPLITS)}
_CODES |= {"eval": _CODES["test"], "evaluation": _CODES["test"]}
_CODES |= {"valid": _CODES["validation"], "val": _CODES["validation"]}
_MOST_FOLDS = 100
_COLUMNS = ("path", "labels", "label", "split", "fold", "start", "end", "source")


@DATASETS.register("manifest", version=1, summary="your own recordings, listed in a CSV file")
def open_manifest(spec: DataSpec, sampling_rate: int, root: Path | None) -> FolderDataset:
    """Reads a manifest and looks at the files that it names.

    Args:
        spec: clip length; numbers of clips of each split.
        sampling_rate: Hz, to which all files are resampled.
        root: the CSV file, or the folder with ``manifest.csv``.

    Raises:
        InputError: no manifest, a missing column, a broken row, a class that the vocabulary lacks,
            too many files missing or broken, or no clip to evaluate.
    """
    return open_listing(read_manifest(_file(root)), spec, sampling_rate)


def _check_spelling(file: Path, columns: Sequence[str]) -> None:
    """Refuses a column that is probably one of `_COLUMNS`: its values would count for nothing."""
    for column in columns:
        meant = get_close_matches(column.strip().lower(), _COLUMNS, 1, 0.8)
        if column not in _COLUMNS and meant:
            raise InputError(
                "no such column",
                source=file,
                field=column,
                remedy=f"Write {meant[0]!r}, or give it another name if it is something else.",
            )


def _check_head(file: Path, columns: Sequence[str]) -> None:
    """Refuses a first line that is a clip already."""
    if columns and not set(columns).intersection(_COLUMNS):
        raise InputError(
            "its first line names none of the columns",
            source=file,
            field="first line",
            value=",".join(columns),
            remedy="Begin with a line that names them, as path,labels,split.",
        )


def read_manifest(file: Path) -> Listing:
    """What a manifest says; its files are not looked at.

    Raises:
        InputError: see `open_manifest`.
    """
    vocabulary = next((p for p in map(file.with_name, VOCABULARIES) if p.is_file()), None)
    lister = Lister(None if vocabulary is None else read_vocabulary(vocabulary))
    columns = columns_of(file)
    _check_spelling(file, columns)
    _check_head(file, columns)
    folded, labels = _choose(file, columns, "split", "fold"), "labels"
    if "label" in columns:
        _choose(file, columns, "labels", "label")
        labels = "label"
    seen: set[str] = set()
    for row in read_rows(file, ("path", labels, "fold" if folded else "split")):
        path = _path(row)
        start, end = _stretch(row)
        stretched = start > 0 or end is not None
        name = path
        if stretched:
            name = f"{path}@{start:.10g}-" + ("" if end is None else f"{end:.10g}")
        if name in seen:
            raise row.wrong("path", "listed twice")
        seen.add(name)
        given = row.values.get("source") or (path if stretched else None)
        split = _fold(row) if folded else _split(row)
        _check_known(row, labels, words := _labels(row, labels), lister, vocabulary)
        lister.add(name, path, words, split, source=given, start=start, end=end)
    listing = lister.listing(file.parent, folded=folded)
    if len(listing.folds) > _MOST_FOLDS:
        raise InputError(
            f"{len(listing.folds)} folds", source=file, field="fold", remedy="Give 100 at most."
        )
    return listing


def _file(root: Path | None) -> Path:
    if root is None:
        raise InputError(
            "needs a list of the recordings",
            field="data.name",
            value="manifest",
            remedy=f"Give --data manifest=DIR with {MANIFEST} inside, or the CSV file itself.",
        )
    file = root / MANIFEST if root.is_dir() else root
    if not file.is_file():
        raise InputError(
            "no manifest",
            source=file,
            field="--data manifest",
            remedy=f"Give a CSV file with the columns path, labels and split (or fold), or the "
            f"folder that holds it as {MANIFEST}.",
        )
    return file


def _choose(file: Path, columns: tuple[str, ...], one: str, other: str) -> bool:
    """Whether it is the other of two columns that exclude each other."""
    if (one in columns) == (other in columns):
        raise InputError(
            f"both of {one} and {other}" if one in columns else f"neither {one} nor {other}",
            source=file,
            field=f"{one}, {other}",
            remedy="Give one of the two columns.",
        )
    return other in columns


def _path(row: Row) -> str:
    """The file relative to the folder, in its shortest form."""
    given = row.text("path")
    path = posixpath.normpath(given)
    # A backslash is a letter of a name here, and on Windows it divides folders.
    there = posixpath.normpath(given.replace("\\", "/"))
    climbs = any(form == ".." or form.startswith("../") for form in (path, there))
    if climbs or path.startswith(("/", "\\")) or PureWindowsPath(path).drive:
        raise row.wrong(
            "path",
            "leads out of the folder of the manifest",
            "Give a path relative to that folder; where the files lie elsewhere, put a link to "
            "them into it.",
        )
    if "\0" in path:
        raise row.wrong("path", "no name of a file")
    return path


def _labels(row: Row, column: str) -> list[str]:
    labels = [label.strip() for label in row.text(column).split(";")]
    if not all(labels):
        raise row.wrong(column, "an empty label", "Separate labels by one ';'.")
    if len(set(labels)) < len(labels):
        raise row.wrong(column, "a label stands there twice")
    return labels


def _check_known(
    row: Row, column: str, labels: list[str], lister: Lister, vocabulary: Path | None
) -> None:
    unknown = [label for label in labels if label not in lister.classes]
    if vocabulary is not None and unknown:
        raise row.wrong(
            column,
            f"{vocabulary.name} lacks {unknown[0]!r}",
            f"Mend the row, or add the class to {vocabulary}.",
        )


def _split(row: Row) -> int:
    split = row.text("split")
    if split not in _CODES:
        raise row.wrong("split", "no such split", f"There are {', '.join(_CODES)}.")
    return _CODES[split]


def _fold(row: Row) -> int:
    fold = row.text("fold")
    if not fold.isdecimal() or len(fold) > 4:
        raise row.wrong("fold", "not a whole number below 10000")
    return int(fold)


def _stretch(row: Row) -> tuple[float, float | None]:
    """Where the clip begins in its file, and where it ends."""
    start, end = _seconds(row, "start") or 0.0, _seconds(row, "end")
    if end is not None and end <= start:
        raise row.wrong("end", f"the clip ends where it begins, at {start:g} s, or before")
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
