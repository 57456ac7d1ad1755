"""Divides a manifest's clips into splits or folds, balanced by label and grouped by source."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from passt_bench.data.clip_table import SPLIT_NAMES, TEST, TRAIN
from passt_bench.data.contents import equal_sets, identical, takes_apart
from passt_bench.data.fingerprint import first_few
from passt_bench.data.manifest import CODES, MANIFEST
from passt_bench.data.scan import audio_below, scan_files
from passt_bench.data.splits import FEW, is_small, stratified
from passt_bench.data.tables import columns_of, read_rows
from passt_bench.errors import InputError
from passt_bench.records.files import write_atomically
from passt_bench.records.run import count_of

_NOT_UTF8 = re.compile("[\ud800-\udfff]")  # as Python writes bytes of names that are no text
_THREADS = 8
_NO_LABEL = "(no label)"  # instead of a class, in the counts
_FOLDERS = "Give a folder that has one folder for each class, or a manifest."


def split_manifest(
    root: Path,
    *,
    test: float = 0.2,
    validation: float = 0.1,
    folds: int | None = None,
    seed: int = 0,
    again: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Adds a column ``split``, or ``fold``, to a manifest, and writes it.

    Without a manifest one is made of the folders in ``root``: each is a class, with the readable
    audio files below it; or they are called ``train``, ``test`` and ``validation`` and have a
    folder for each class, and are then the splits. Clips of one ``source`` (by default one file)
    stay together, and those of identical files; see `splits.stratified`.

    ``root`` is the folder of the manifest, or the CSV file; ``test`` and ``validation`` are shares
    of the clips, or ``folds`` is the number of folds, which count from 1. ``again`` replaces
    splits or folds that the manifest has, and lists the folders again if it was made of them.

    Returns:
        Numbers of clips, classes by splits or folds; and sentences on what a reader should know.

    Raises:
        InputError: there is nothing to divide, it is divided already, fewer than two classes, or
            too few clips.
    """
    file = root / MANIFEST if root.is_dir() else root
    if not file.is_file():
        table, notes = _list(root)
    else:
        table, notes = _read(file, again), []
        if again:
            table, notes = _list_again(file, table)
    labels = table["labels" if "labels" in table else "label"]
    marks = labels.str.strip().str.replace(r"\s*;\s*", ";", regex=True).str.get_dummies(";")
    marks = marks.rename(columns={"": _NO_LABEL})
    if len(marks.columns) < 2:
        source, value = file if file.is_file() else root, ", ".join(marks.columns)
        problem = "; ".join(["fewer than two classes", *notes]).rstrip(".")
        raise InputError(problem, source=source, field="labels", value=value, remedy=_FOLDERS)
    column, order = "split", ["train", "validation", "test"]
    shares = {"test": test, "validation": validation, "train": 1 - test - validation}
    if folds is not None:
        column, order = "fold", [str(number + 1) for number in range(folds)]
        shares = dict.fromkeys(order, 1 / folds)
    if "split" in table and folds is None:
        parts = list(table["split"])
    else:
        groups, alike = _groups(file.parent, table)
        parts = _divide(file, groups, marks.to_numpy(), shares, seed)
        notes += [f"Identical files stay in one part: {first_few(alike)}."] if alike else []
    table = table.drop(columns="split", errors="ignore").assign(**{column: parts})
    write_atomically(file, table.to_csv(index=False).encode())
    counts = marks.groupby(parts).sum().T[[part for part in order if part in parts]]
    if "source" not in table:
        notes.append(_on_sources(list(table["path"]), parts))
    classes = counts.drop(_NO_LABEL, errors="ignore")
    if "validation" in counts and is_small(classes["validation"].to_numpy()):
        few = list(classes.index[classes["validation"] < FEW])
        divide = f"passt-bench data split {shlex.quote(f'manifest={root}')}"
        notes.append(
            f"Fewer than {FEW} clips for validation, too few to choose an epoch: {first_few(few)}; "
            f"`train` trains to the end. Rather divide into folds: `{divide} --into-folds 5 "
            f"--again`; or leave validation out: `{divide} --test {test:g} --validation 0 --again`."
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


def _read(file: Path, again: bool) -> pd.DataFrame:
    labels = "label" if "label" in columns_of(file) else "labels"
    rows = read_rows(file, ("path", labels))
    table = pd.DataFrame({**row.values, **row.written} for row in rows)
    for column in [name for name in ("split", "fold") if name in table and not again]:
        found = table[column].value_counts(sort=False).items()
        there = ", ".join(f"{number} {part or '(none)'}" for part, number in found)
        problem, remedy = "it is divided already", "To replace this division, add --again."
        raise InputError(problem, source=file, field=column, value=there, remedy=remedy)
    return table.drop(columns=["split", "fold"], errors="ignore")


def _list_again(file: Path, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The clips now in the folders of classes, if the rows are those that `_list` made of them.

    Otherwise the rows stay. The notes say what came and went, or what no row names.
    """
    rows = dict(zip(table["path"], table.get("labels", table["path"]), strict=True))
    fresh, notes = table[:0], list[str]()
    if file.name == MANIFEST and {*table} == {"path", "labels"}:
        with suppress(InputError):  # no folders of classes
            fresh, notes = _list(file.parent)
    now = dict(zip(fresh["path"], fresh.iloc[:, 1], strict=True))
    if now and all(label in path.split("/")[:-1] and now.get(path, label) == label
                   for path, label in rows.items()):  # fmt: skip
        table, what = fresh, "The folders were listed again: {}."
    else:
        now, notes = dict.fromkeys(audio_below(file.parent, "", Counter())), []
        what = (
            "The rows stay, because not all labels are the folders' names, or there are more "
            f"columns, but {{}}. Change the rows; or remove {MANIFEST}, to list the folders again."
        )
    new, gone = ([path for path in a if path not in b] for a, b in ((now, rows), (rows, now)))
    told = [
        f"{count_of(len(paths), 'file')} {how} ({first_few(paths)})"
        for paths, how in ((new, "not listed before"), (gone, "listed before and not found now"))
        if paths
    ]
    return table, [*notes, *([what.format(", ".join(told))] if told else [])]


def _groups(root: Path, table: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """Numbers of the groups of clips that stay together, (N,); and the sets of identical files."""
    of_clip, files = pd.factorize(table["path"])
    known = scan_files(root, list(files))[["bytes", "piece"]]
    same, _ = identical(known, lambda number: root / files[number], _THREADS, lambda share: None)
    content = np.where(same < 0, np.arange(len(files)), len(files) + same)[of_clip]
    named = table.get("source", table["path"])
    source = pd.factorize(named.where(named != "", table["path"]))[0] + 2 * len(files)
    # Clips are the edges of a graph, between their sources and contents.
    nodes = 2 * len(files) + len(table)
    graph = coo_array((np.ones(len(table)), (source, content)), shape=(nodes, nodes))
    groups = pd.factorize(connected_components(graph, directed=False)[1][content])[0]
    alike = equal_sets(pd.DataFrame({"same": same})[same >= 0])
    return groups, [" = ".join(files[members]) for members in alike]


def _list(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """The audio files in the folders of a folder, by their classes, and what was left out."""
    others = Counter({".csv": -(root / MANIFEST).is_file()})
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
    if counted := +others:
        counts = ", ".join(f"{n} {suffix or 'without ending'}" for suffix, n in counted.items())
        notes.append(f"Files passed over: {counts}.")
    return table[problems == ""].reset_index(drop=True), notes


def _divide(
    file: Path, groups: np.ndarray, targets: np.ndarray, shares: dict[str, float], seed: int
) -> list[str]:
    """The part of every clip; no part with a share is empty."""
    wanted = [name for name, share in shares.items() if share > 0]
    found = stratified(groups, targets, [shares[name] for name in wanted], seed)
    parts = [wanted[number] for number in found]
    if empty := [name for name in wanted if name not in parts]:
        problem = f"none of {len(groups)} clips of {groups.max() + 1} sources is left for it"
        remedy = "Give more clips, or another share or number of folds."
        raise InputError(problem, source=file, field=empty[0], remedy=remedy)
    return parts
