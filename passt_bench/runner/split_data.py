"""Divides the clips of a manifest into splits or folds, balanced by class and grouped by source."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from passt_bench.data.clip_table import SPLIT_NAMES, TEST, TRAIN
from passt_bench.data.contents import takes_apart
from passt_bench.data.fingerprint import first_few
from passt_bench.data.manifest import CODES, MANIFEST
from passt_bench.data.scan import audio_below, scan_files
from passt_bench.data.splits import validation_split
from passt_bench.data.tables import columns_of, read_rows
from passt_bench.errors import InputError
from passt_bench.records.files import write_atomically
from passt_bench.records.run import count_of

_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # as Python writes bytes of names that are no text
_FEW = 5  # clips of a class, of fewer the best epoch is chosen by chance
_FOLDERS = "Give a folder that has one folder for each class, or a manifest."


def split_manifest(
    root: Path,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    folds: int | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, list[str]]:
    """Adds a column ``split``, or ``fold``, to a manifest, and writes it.

    Without a manifest one is made of the folders in ``root``: each is a class, with the readable
    audio files below it; or they are called ``train``, ``test`` and ``validation`` and have a
    folder for each class, and are then the splits. Clips of one ``source`` (by default one file)
    stay together; they are drawn in an order that follows from the seed.

    ``root`` is the folder of the manifest, or the CSV file; ``test`` and ``validation`` are shares
    of the clips, or ``folds`` is the number of folds, which count from 1.

    Returns:
        Numbers of clips, classes by splits or folds; and sentences on what a reader should know.

    Raises:
        InputError: there is nothing to divide, a split is given already, fewer than two classes, or
            too few clips.
    """
    file = root / MANIFEST if root.is_dir() else root
    table, notes = (_read(file), []) if file.is_file() else _list(root)
    labels = table["labels" if "labels" in table else "label"]
    words = [[word.strip() for word in text.split(";") if word.strip()] for text in labels]
    classes = sorted({word for row in words for word in row})
    if len(classes) < 2:
        source, value = file if file.is_file() else root, ", ".join(classes)
        problem = "; ".join(["fewer than two classes", *notes]).rstrip(".")
        raise InputError(problem, source=source, field="labels", value=value, remedy=_FOLDERS)
    targets = np.array([[float(name in row) for name in classes] for row in words])
    sources = list(table["source"]) if "source" in table else [""] * len(table)
    sources = [source or path for source, path in zip(sources, table["path"], strict=True)]
    column, rest, order = "split", "train", ["train", "validation", "test"]
    shares = {"test": test, "validation": validation}
    if folds is not None:
        column, rest, order = "fold", str(folds), [str(number + 1) for number in range(folds)]
        shares = dict.fromkeys(order[:-1], 1 / folds)
    if "split" in table and folds is None:
        parts = list(table["split"])
    else:
        parts = _divide(file, sources, targets, shares, rest, seed)
    table = table.drop(columns="split", errors="ignore").assign(**{column: parts})
    write_atomically(file, table.to_csv(index=False).encode())
    of_class = pd.DataFrame({"class": words, "part": parts}).explode("class")
    counts = pd.crosstab(of_class["class"], of_class["part"])
    counts = counts[[part for part in order if part in parts]]
    if "source" not in table:
        notes.append(_on_sources(list(table["path"]), parts))
    few = list(counts.index[counts["validation"] < _FEW]) if "validation" in counts else []
    if few:
        notes.append(
            f"Fewer than {_FEW} clips for validation, so that the best epoch is chosen by chance: "
            f"{first_few(few)}. Rather divide with --into-folds 5, or with --validation 0."
        )
    return counts, notes


def _on_sources(paths: Sequence[str], parts: Sequence[str]) -> str:
    """By what clips without the column ``source`` were kept together."""
    apart = takes_apart(paths, np.array(parts))
    pair = "" if not apart else f" (as perhaps {' and '.join(paths[n] for n in apart[0][:2])})"
    return (
        f"No column source: each of the {len(set(paths))} files counts as a recording of its own. "
        f"If several come from one{pair}, add that column and divide again, or test clips leak."
    )


def _read(file: Path) -> pd.DataFrame:
    names = columns_of(file)
    if given := [name for name in ("split", "fold") if name in names]:
        remedy = (
            "To divide anew, remove this column, or the file if `data split` made it of folders."
        )
        raise InputError("divided already", source=file, field=given[0], remedy=remedy)
    labels = "label" if "label" in names else "labels"
    return pd.DataFrame({**row.values, **row.written} for row in read_rows(file, ("path", labels)))


def _list(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The audio files in the folders of a folder, by their classes, and what was left out."""
    others = Counter[str]()
    found, broken = [], []
    for path in sorted(audio_below(root, "", others)):
        if _NOT_UTF8.search(path):
            broken.append(f"{path!a} (its name is not UTF-8)")
        else:
            found.append(path.split("/"))
    rows = [("/".join(path), path) for path in found if len(path) > 1 and path[0][0] != "."]
    names = dict.fromkeys(path[0] for _, path in rows)
    codes = {CODES.get(name.lower()) for name in names}
    split = bool(names) and all(name.lower() in {*CODES, "dev"} for name in names)
    if split and (None in codes or not {TRAIN, TEST} <= codes):
        raise InputError(
            "these look like splits, not classes",
            source=root,
            field="folders",
            value=", ".join(names),
            remedy="Name them train, test and, if there is one, validation, with a folder for each "
            "class in each of them; or give a folder that has one folder for each class.",
        )
    rows = [row for row in rows if len(row[1]) > 1 + split]
    if not rows:
        problem = f"neither {MANIFEST} nor folders with audio files"
        raise InputError(problem, source=root, remedy=_FOLDERS)
    table = pd.DataFrame(
        {"path": [path for path, _ in rows], "labels": [p[split] for _, p in rows]}
    )
    notes = []
    if split:
        table["split"] = [SPLIT_NAMES[CODES[path[0].lower()]] for _, path in rows]
        notes.append(f"The folders {', '.join(names)} are taken as splits, not as classes.")
    problems = scan_files(root, list(table["path"]))["problem"]
    broken += [f"{path} ({why})" for path, why in zip(table["path"], problems, strict=True) if why]
    if broken:
        notes.append(f"{count_of(len(broken), 'file')} left out: {first_few(broken)}.")
    if loose := len(found) - len(rows):
        others["audio outside of these folders"] = loose
    if others:
        counts = ", ".join(f"{n} {suffix or 'without ending'}" for suffix, n in others.items())
        notes.append(f"Files passed over: {counts}.")
    return table[problems == ""].reset_index(drop=True), notes


def _divide(
    file: Path,
    sources: Sequence[str],
    targets: np.ndarray,
    shares: dict[str, float],
    rest: str,
    seed: int,
) -> list[str]:
    """The part of every clip; ``rest`` is that of the clips that no other part has."""
    parts = np.full(len(sources), rest, dtype=object)
    left, remaining = np.arange(len(sources)), 1.0
    for name, share in shares.items():
        if share == 0:
            continue
        try:
            left, taken = validation_split(left, sources, targets, share / remaining, seed)
        except InputError as error:
            remedy = "Give more clips, or another share or number of folds."
            raise InputError(error.problem, source=file, field=name, remedy=remedy) from None
        parts[taken] = name
        remaining -= share
    return list(parts)
