"""Checks a data set for missing and broken clips, duplicates, leaks between splits and silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from passt_bench.data.clip_table import ClipTable
from passt_bench.data.clips import MISSING
from passt_bench.data.contents import Files, decode_all, identical
from passt_bench.data.dataset import Dataset
from passt_bench.data.findings import (
    PREPARED,
    ROWS,
    Checked,
    ClassCount,
    Finding,
    Kind,
    Part,
    counted,
    finding,
    spread_of,
)
from passt_bench.data.targets import class_counts
from passt_bench.errors import InputError

_DECODING = 0.8  # share of the time, if files are both decoded and compared
_SHOWN = 4  # members of a group that are named
Update = Callable[[float, str], None]


@dataclass(frozen=True)
class CheckOptions:
    """How thoroughly to check.

    Attributes:
        fold: to be held out; None takes each fold as a split.
        compare: whether to search for identical files.
        decode: whether to decode every file, which finds NaN, cut ends, silence and equal sound.
        threads: that read files.
    """

    fold: int | None = None
    compare: bool = True
    decode: bool = False
    threads: int = 1


def check(dataset: Dataset, options: CheckOptions, update: Update) -> Checked:
    """Checks an open data set.

    Args:
        dataset: with files; procedural data have nothing to check.
        options: how thoroughly.
        update: called with the share that is done, and what is being done.

    Raises:
        InputError: procedural data, or no such fold.
    """
    table = _table_of(dataset, options.fold)
    files = Files(dataset, table)
    same = np.full(len(files), -1, dtype=np.int64)
    broken: dict[int, str] = {}
    decoded, share = None, 0.0
    if options.decode:
        share = _DECODING if options.compare else 1.0
        decoded, broken = decode_all(
            files, options.threads, lambda done: update(share * done, "decoding")
        )
        table = replace(
            table,
            seconds=decoded["seconds"][files.of_clip] if table.start is None else table.seconds,
            rates=decoded["rate"][files.of_clip],
            channels=decoded["channels"][files.of_clip],
        )
    if options.compare:
        same, unreadable = identical(
            files.sizes(),
            files.sound,
            options.threads,
            lambda done: update(share + (1 - share) * done, "comparing"),
            pieces=files.separate,
        )
        broken = unreadable | broken
    silent = np.arange(0) if decoded is None else np.flatnonzero(decoded["silent"][files.of_clip])
    unusable = np.isin(files.of_clip, list(broken))
    parts = _parts(table, unusable)
    classes = _classes(dataset, table, unusable)
    found = dataset.fingerprint
    findings = (
        finding("missing", [name for name, reason in _skipped(table) if reason == MISSING]),
        finding("broken", list(_broken(table, files, broken, unusable))),
        *duplicates(table, files, same, decoded),
        finding("one source in two splits", list(divided_sources(table))),
        finding("class without a positive", _lacking(parts, classes)),
        finding("digital silence", [_named(table, clip) for clip in silent.tolist()]),
        _not_listed(table, parts, found.expected or 0),
    )
    return Checked(
        dataset=found.dataset,
        digest=found.digest,
        expected=found.expected,
        found=found.found,
        fold=options.fold,
        compared=options.compare,
        decoded=options.decode,
        parts=parts,
        classes=classes,
        seconds=spread_of(table.seconds),
        rates=counted(table.rates),
        channels=counted(table.channels),
        findings=tuple(_with_remedy(item, table) for item in findings if item.count),
        notes=found.notes,
    )


def _with_remedy(item: Finding, table: ClipTable) -> Finding:
    """The finding with the remedy for where the clips are stored."""
    if table.files is not None:
        return item
    remedies = PREPARED if table.prepared else ROWS
    return replace(item, remedy=remedies.get(item.kind, item.remedy))


def _table_of(dataset: Dataset, fold: int | None) -> ClipTable:
    """The clip table; with a fold held out, the two sides of it are the splits."""
    table = dataset.clip_table()
    if table is None:
        raise InputError(
            "procedural data have no files to check",
            field="NAME=DIR",
            value=dataset.fingerprint.dataset,
            remedy="Give a data set in a folder.",
        )
    if fold is None:
        return table
    if fold not in dataset.folds:
        raise InputError(
            "no such fold",
            field="--fold",
            value=fold,
            remedy=f"There are {', '.join(map(str, dataset.folds)) or 'none'}.",
        )
    held_out = table.splits.index(f"fold {fold}")
    expected = table.expected[held_out]
    return replace(
        table,
        splits=(f"all but fold {fold}", f"fold {fold}"),
        expected=(sum(table.expected) - expected, expected),
        split=(table.split == held_out).astype(np.int8),
        skipped=replace(table.skipped, split=(table.skipped.split == held_out).astype(np.int8)),
    )


def _parts(table: ClipTable, unusable: np.ndarray) -> tuple[Part, ...]:
    """Counts of each split that the data set has."""
    missing = np.array([reason == MISSING for reason in table.skipped.reasons], dtype=bool)
    parts = []
    for code, (name, expected) in enumerate(zip(table.splits, table.expected, strict=True)):
        inside, skipped = table.split == code, missing[table.skipped.split == code]
        bad = int(unusable[inside].sum())
        found = int(inside.sum()) - bad
        unlisted = max(0, expected - found - bad - len(skipped))
        gone = int(skipped.sum())
        parts.append(Part(name, expected, found, gone + unlisted, len(skipped) - gone + bad))
    return tuple(part for part in parts if part.expected or part.found)


def _classes(dataset: Dataset, table: ClipTable, unusable: np.ndarray) -> tuple[ClassCount, ...]:
    """Positives of each class in the splits that there are, and among the skipped clips."""
    counts = []
    for code, expected in enumerate(table.expected):
        inside = table.split == code
        if expected or inside.any():
            counts.append(class_counts(dataset.targets, np.flatnonzero(inside & ~unusable)))
    names, skipped = dataset.fingerprint.classes, table.skipped
    lost: Sequence[int | None] = [None if len(skipped) else 0] * len(names)
    if skipped.targets is not None:
        lost = class_counts(skipped.targets, np.arange(len(skipped))).tolist()
    return tuple(
        ClassCount(name, tuple(int(each[at]) for each in counts), lost[at])
        for at, name in enumerate(names)
    )


def _not_listed(table: ClipTable, parts: Sequence[Part], published: int) -> Finding:
    """How many clips were published, or were in what was prepared, and are not listed."""
    names, others = [], published - sum(part.expected for part in parts)
    for part in parts:
        code = table.splits.index(part.name)
        listed = int((table.split == code).sum()) + int((table.skipped.split == code).sum())
        if part.expected > listed:
            names.append(f"{part.expected - listed:,} of {part.name}")
            others += part.expected - listed
    if not names and others > 0:
        names = [f"{others:,} of all"]
    return finding("not listed", names, max(0, others))


def _skipped(table: ClipTable) -> Iterator[tuple[str, str]]:
    """Split and name of each skipped clip, and the reason."""
    skipped = table.skipped
    for name, split, reason in zip(skipped.names, skipped.split, skipped.reasons, strict=True):
        yield f"{table.splits[split]} {name}", reason


def _broken(
    table: ClipTable, files: Files, broken: Mapping[int, str], unusable: np.ndarray
) -> Iterator[str]:
    """Clips that have a file which cannot be used, skipped ones first."""
    yield from (f"{name} ({reason})" for name, reason in _skipped(table) if reason != MISSING)
    for clip in np.flatnonzero(unusable).tolist():
        yield f"{_named(table, clip)} ({broken[int(files.of_clip[clip])]})"


def _lacking(parts: Sequence[Part], classes: Sequence[ClassCount]) -> list[str]:
    pairs = ((at, part, item) for at, part in enumerate(parts) for item in classes)
    return [f"{part.name} {item.name}" for at, part, item in pairs if not item.found[at]]


def duplicates(
    table: ClipTable, files: Files, same: np.ndarray, decoded: np.ndarray | None
) -> list[Finding]:
    """Finds clips that are there more than once, by list, by bytes and by sound.

    Args:
        table: of the clips.
        files: of the clips.
        same: (files,) groups of identical files, -1 if no other is identical.
        decoded: see `decode_all`; None if nothing was decoded.
    """
    # One clip represents all clips of a file in a split: parts of one file are no duplicates.
    pairs = np.stack([files.of_clip, table.split.astype(np.int64)], axis=1)
    _, clips = np.unique(pairs, axis=0, return_index=True) if len(pairs) else (None, np.arange(0))
    file = files.of_clip[clips]
    alike = [clips[part] for part in equal_sets({"same": same[file]}, same[file] >= 0)]
    heard = []
    if decoded is not None:
        sound = decoded[file]
        first, second = sound["digest"].T
        audible = ~np.isnan(sound["seconds"]) & ~sound["silent"]
        for part in equal_sets({"first": first, "second": second}, audible):
            groups = same[file[part]]
            if groups[0] < 0 or (groups != groups[0]).any():  # else found by their bytes already
                heard.append(clips[part])
    kinds: dict[Kind, Iterable[np.ndarray]] = {
        "listed twice": listed_twice(table),
        "identical files": alike,
        "identical sound": heard,
    }
    across: dict[str, None] = {}
    within: list[Finding] = []
    for kind, groups_of_kind in kinds.items():
        names = []
        for members in groups_of_kind:
            name = _together(table, members)
            if len(set(table.split[members].tolist())) > 1:
                across[name] = None
            else:
                names.append(name)
        within.append(finding(kind, names))
    return [finding("identical across splits", list(across)), *within]


def listed_twice(table: ClipTable) -> list[np.ndarray]:
    """Sets of clips that are the same part of the same file, or have the same name."""
    if table.file is None:
        return equal_sets({"name": _hashes(table.names)})
    if table.start is None:
        return equal_sets({"file": table.file})
    return equal_sets({"file": table.file, "start": table.start, "end": table.end})


def divided_sources(table: ClipTable) -> Iterator[str]:
    """Recordings that have clips in several splits, with one clip of each.

    Clips of one file are of one recording, whatever the list says of their sources.
    """
    named: set[str] = set()
    for members in divided(_hashes(table.sources), table.split):
        together = _together(table, members, ", ")
        named.add(together)
        yield f"{table.sources[int(members[0])]}: {together}"
    if table.file is None or table.files is None:
        return
    for members in divided(table.file, table.split):
        together = _together(table, members, ", ")
        if together not in named:
            yield f"{table.files[table.file[members[0]]]}: {together}"


def divided(groups: np.ndarray, split: np.ndarray) -> list[np.ndarray]:
    """One clip of each split, of each group with clips in several splits.

    Args:
        groups: (N,) group of each clip.
        split: (N,) code of its split.
    """
    pairs = pd.DataFrame({"group": groups, "split": split})
    first = pairs.drop_duplicates().index.to_numpy()
    return [first[part] for part in equal_sets({"group": groups[first]})]


def equal_sets(
    columns: Mapping[str, np.ndarray | None], among: np.ndarray | None = None
) -> list[np.ndarray]:
    """Indices of each set of two or more equal rows, ordered by their first; NaN equals NaN.

    Args:
        columns: (N,) each.
        among: (N,) bool, rows to look at; None is all.
    """
    rows = pd.DataFrame(dict(columns))
    if among is not None:
        rows = rows[among]
    rows = rows[rows.duplicated(keep=False)]
    if not len(rows):
        return []
    number = rows.groupby(list(rows), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    cuts = np.flatnonzero(np.diff(number[order])) + 1
    return np.split(rows.index.to_numpy()[order], cuts)


def _hashes(texts: Sequence[str]) -> np.ndarray:
    """64 bits of each text: two of two million collide in one of ten million data sets."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


def _named(table: ClipTable, clip: int) -> str:
    """A clip's split and name."""
    return f"{table.splits[table.split[clip]]} {table.names[int(clip)]}"


def _together(table: ClipTable, clips: np.ndarray, between: str = " = ") -> str:
    more = len(clips) - _SHOWN
    names = [_named(table, int(clip)) for clip in clips[:_SHOWN]]
    return between.join(names) + (f" and {more} more" if more > 0 else "")
