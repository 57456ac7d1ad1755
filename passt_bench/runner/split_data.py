"""Divides the clips of a manifest into splits or folds, balanced by class and grouped by source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from passt_bench.data.manifest import MANIFEST
from passt_bench.data.scan import audio_below
from passt_bench.data.splits import validation_split
from passt_bench.data.tables import columns_of, read_rows
from passt_bench.errors import InputError
from passt_bench.records.files import write_atomically


def split_manifest(
    root: Path,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    folds: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Adds a column ``split``, or ``fold``, to a manifest, and writes it.

    Without a manifest one is made of the folders in ``root``: each is a class, with the audio files
    below it. Clips of one ``source`` (by default one file) stay together; they are drawn in an
    order that follows from the seed.

    ``root`` is the folder of the manifest, or the CSV file; ``test`` and ``validation`` are shares
    of the clips, or ``folds`` is the number of folds, which count from 1.

    Returns:
        Numbers of clips, classes by splits or folds.

    Raises:
        InputError: there is nothing to divide, a split is given already, or too few clips.
    """
    file = root / MANIFEST if root.is_dir() else root
    table = _read(file) if file.is_file() else _list(root)
    if given := [name for name in ("split", "fold") if name in table]:
        raise InputError(
            "the clips are divided already",
            source=file,
            field=given[0],
            remedy="Remove this column to divide them anew.",
        )
    labels = table["labels" if "labels" in table else "label"]
    words = [[word.strip() for word in text.split(";") if word.strip()] for text in labels]
    classes = sorted({word for row in words for word in row})
    targets = np.array([[float(name in row) for name in classes] for row in words])
    sources = list(table["source"]) if "source" in table else [""] * len(table)
    sources = [source or path for source, path in zip(sources, table["path"], strict=True)]
    column, rest, order = "split", "train", ["train", "validation", "test"]
    shares = {"test": test, "validation": validation}
    if folds is not None:
        column, rest, order = "fold", str(folds), [str(number + 1) for number in range(folds)]
        shares = dict.fromkeys(order[:-1], 1 / folds)
    parts = _divide(file, sources, targets, shares, rest, seed)
    table[column] = parts
    write_atomically(file, table.to_csv(index=False).encode())
    of_class = pd.DataFrame({"class": words, "part": parts}).explode("class")
    counts = pd.crosstab(of_class["class"], of_class["part"])
    return counts[[part for part in order if part in parts]]


def _read(file: Path) -> pd.DataFrame:
    labels = "label" if "label" in columns_of(file) else "labels"
    return pd.DataFrame({**row.values, **row.written} for row in read_rows(file, ("path", labels)))


def _list(root: Path) -> pd.DataFrame:
    """The audio files in the folders of a folder; the name of a folder is a class."""
    rows = [
        (f"{folder.name}/{path}", folder.name)
        for folder in sorted(path for path in root.glob("*/") if not path.name.startswith("."))
        for path in sorted(audio_below(folder, "", Counter[str]()))
    ]
    if not rows:
        raise InputError(
            f"neither {MANIFEST} nor folders with audio files",
            source=root,
            remedy="Give a folder that has one folder for each class, or a manifest.",
        )
    return pd.DataFrame(rows, columns=["path", "labels"])


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
