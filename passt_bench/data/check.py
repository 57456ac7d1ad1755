"""Checks a data set for missing and broken clips, duplicates, leaks between splits and silence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from passt_bench.console import Progress
from passt_bench.data.clip_table import ClipTable
from passt_bench.data.clips import MISSING
from passt_bench.data.contents import Files, decode_all, identical
from passt_bench.data.dataset import Dataset
from passt_bench.data.findings import (
    OF_PREPARED,
    OF_ROWS,
    REMEDIES,
    Checked,
    ClassCount,
    Finding,
    Kind,
    Part,
    counted,
    spread_of,
)
from passt_bench.data.targets import class_counts
from passt_bench.errors import InputError

_DECODING = 0.8  # share of the time, if files are both decoded and compared
_SHOWN = 4  # members of a group that are named


@dataclass(frozen=True)
class CheckOptions:
    """How thoroughly to check.

    Attributes:
        fold: fold to hold out; None treats each fold as a split.
        compare: whether to search for identical files.
        decode: whether to decode every file, which finds NaN, cut ends, silence and equal sound.
        threads: number of threads.
    """

    fold: int | None = None
    compare: bool = True
    decode: bool = False
    threads: int = 1


def check(dataset: Dataset, options: CheckOptions, update: Progress) -> Checked:
    """Checks an open data set.

    Args:
        dataset: the data set; procedural data have nothing to check.
        options: how thoroughly to check.
        update: called with the share done and the activity.

    Raises:
        InputError: procedural data, or no such fold.
    """
    seen = _read(dataset, options, update)
    table, found = seen.table, dataset.fingerprint
    parts, classes = _parts(seen), _classes(dataset, seen)
    missing, broken = _missing_and_broken(seen)
    unlisted, count = _not_listed(table, parts, found.expected or 0)
    names: dict[Kind, Sequence[str]] = {
        "missing": missing,
        "broken": broken,
        **_duplicates(seen),
        "one source in two splits": list(divided_sources(table)),
        "class without a positive": [
            f"{part.name} {item.name}"
            for at, part in enumerate(parts)
            for item in classes
            if not item.found[at]
        ],
        "digital silence": [_named(table, clip) for clip in seen.silent.tolist()],
        "not listed": unlisted,
    }
    other = OF_PREPARED if table.prepared else {} if table.files is not None else OF_ROWS
    remedies = REMEDIES | other
    counts = {kind: len(of_kind) for kind, of_kind in names.items()} | {"not listed": count}
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
        findings=tuple(
            Finding(kind, counts[kind], tuple(of_kind), remedies[kind])
            for kind, of_kind in names.items()
            if counts[kind]
        ),
        notes=found.notes,
    )


@dataclass(frozen=True)
class _Seen:
    """The clips, and the result of reading their files."""

    table: ClipTable
    files: Files
    same: np.ndarray  # (files,) group of identical files; -1 if no other is identical
    decoded: np.ndarray | None  # see `decode_all`
    broken: Mapping[int, str]  # index of a file → why it cannot be read

    @property
    def unusable(self) -> np.ndarray:
        """(N,) whether a clip's file cannot be read."""
        return np.isin(self.files.of_clip, list(self.broken))

    @property
    def silent(self) -> np.ndarray:
        """Indices of the silent clips, as far as they were decoded."""
        if self.decoded is None:
            return np.arange(0)
        return np.flatnonzero(self.decoded["silent"][self.files.of_clip])


def _read(dataset: Dataset, options: CheckOptions, update: Progress) -> _Seen:
    table = _table_of(dataset, options.fold)
    files, share = Files(dataset, table), 0.0
    same = np.full(len(files), -1, dtype=np.int64)
    broken: dict[int, str] = {}
    decoded = None
    if options.decode:
        share = _DECODING if options.compare else 1.0
        decoded, broken = decode_all(
            files, options.threads, lambda done: update(share * done, "decoding")
        )
        measured = decoded[files.of_clip]
        table = replace(
            table,
            seconds=measured["seconds"] if table.start is None else table.seconds,
            rates=measured["rate"],
            channels=measured["channels"],
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
    return _Seen(table, files, same, decoded, broken)


def _table_of(dataset: Dataset, fold: int | None) -> ClipTable:
    """The clip table; with a fold held out, that fold and the rest are the splits."""
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


def _parts(seen: _Seen) -> tuple[Part, ...]:
    """Counts of each split that the data set has."""
    table, unusable = seen.table, seen.unusable
    missing = np.array([reason == MISSING for reason in table.skipped.reasons], dtype=bool)
    parts = []
    for code, (name, expected) in enumerate(zip(table.splits, table.expected, strict=True)):
        inside, skipped = table.split == code, missing[table.skipped.split == code]
        bad = int(unusable[inside].sum())
        found = int(inside.sum()) - bad
        unlisted = max(0, expected - found - bad - len(skipped))
        absent = int(skipped.sum())
        parts.append(Part(name, expected, found, absent + unlisted, len(skipped) - absent + bad))
    return tuple(part for part in parts if part.expected or part.found)


def _classes(dataset: Dataset, seen: _Seen) -> tuple[ClassCount, ...]:
    """Positives of each class in the existing splits and among the skipped clips."""
    table, skipped = seen.table, seen.table.skipped
    usable = ~seen.unusable
    counts = []
    for code, expected in enumerate(table.expected):
        inside = table.split == code
        if expected or inside.any():
            counts.append(class_counts(dataset.targets, np.flatnonzero(inside & usable)))
    names = dataset.fingerprint.classes
    positives: Sequence[int | None] = [None if len(skipped) else 0] * len(names)
    if skipped.targets is not None:
        positives = class_counts(skipped.targets, np.arange(len(skipped))).tolist()
    return tuple(
        ClassCount(name, tuple(int(each[at]) for each in counts), positives[at])
        for at, name in enumerate(names)
    )


def _missing_and_broken(seen: _Seen) -> tuple[list[str], list[str]]:
    """Clips without a file, and clips with one that cannot be used and why, skipped ones first."""
    table, skipped, files = seen.table, seen.table.skipped, seen.files
    missing, broken = [], []
    for name, split, reason in zip(skipped.names, skipped.split, skipped.reasons, strict=True):
        where = f"{table.splits[split]} {name}"
        if reason == MISSING:
            missing.append(where)
        else:
            broken.append(f"{where} ({reason})")
    for clip in np.flatnonzero(seen.unusable).tolist():
        broken.append(f"{_named(table, clip)} ({seen.broken[int(files.of_clip[clip])]})")
    return missing, broken


def _not_listed(table: ClipTable, parts: Sequence[Part], published: int) -> tuple[list[str], int]:
    """How many clips were published, or in the source of prepared clips, but are not listed."""
    names, others = [], published - sum(part.expected for part in parts)
    for part in parts:
        code = table.splits.index(part.name)
        listed = int((table.split == code).sum()) + int((table.skipped.split == code).sum())
        if part.expected > listed:
            names.append(f"{part.expected - listed:,} of {part.name}")
            others += part.expected - listed
    if not names and others > 0:
        names = [f"{others:,} of all"]
    return names, max(0, others)


def _duplicates(seen: _Seen) -> dict[Kind, list[str]]:
    """Clips that occur more than once, by list, by bytes or by sound."""
    table, of_clip = seen.table, seen.files.of_clip
    # One clip represents all clips of a file in a split: parts of one file are no duplicates.
    pairs = pd.DataFrame({"file": of_clip, "split": table.split})
    clips = pairs.drop_duplicates().sort_values(["file", "split"]).index.to_numpy()
    same = seen.same[of_clip[clips]]
    alike = [clips[part] for part in equal_sets({"same": same}, same >= 0)]
    heard = []
    if seen.decoded is not None:
        sound = seen.decoded[of_clip[clips]]
        first, second = sound["digest"].T
        audible = ~np.isnan(sound["seconds"]) & ~sound["silent"]
        for part in equal_sets({"first": first, "second": second}, audible):
            if same[part[0]] < 0 or (same[part] != same[part[0]]).any():  # else found by bytes
                heard.append(clips[part])
    found: dict[Kind, list[str]] = {"identical across splits": []}
    sets: dict[Kind, list[np.ndarray]] = {
        "listed twice": listed_twice(table),
        "identical files": alike,
        "identical sound": heard,
    }
    for kind, sets_of_kind in sets.items():
        found[kind] = []
        for members in sets_of_kind:
            across = len(np.unique(table.split[members])) > 1
            found["identical across splits" if across else kind].append(_together(table, members))
    across_splits = dict.fromkeys(found["identical across splits"])
    return {**found, "identical across splits": list(across_splits)}


def listed_twice(table: ClipTable) -> list[np.ndarray]:
    """Sets of clips that are the same part of the same file, or have the same name."""
    if table.file is None:
        return equal_sets({"name": _hashes(table.names)})
    if table.start is None or table.end is None:
        return equal_sets({"file": table.file})
    return equal_sets({"file": table.file, "start": table.start, "end": table.end})


def divided_sources(table: ClipTable) -> Iterator[str]:
    """Recordings that have clips in several splits, with one clip of each.

    Clips of one file are of one recording, even if the list names several sources.
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
    """For each group with clips in several splits, one clip of each split.

    Args:
        groups: (N,) group of each clip.
        split: (N,) code of each clip's split.
    """
    pairs = pd.DataFrame({"group": groups, "split": split})
    first = pairs.drop_duplicates().index.to_numpy()
    return [first[part] for part in equal_sets({"group": groups[first]})]


def equal_sets(
    columns: Mapping[str, np.ndarray], among: np.ndarray | None = None
) -> list[np.ndarray]:
    """Indices of each set of two or more equal rows, ordered by their first; NaN equals NaN.

    Args:
        columns: (N,) each.
        among: (N,) bool, rows to compare; None is all.
    """
    rows = pd.DataFrame(dict(columns))
    rows = rows if among is None else rows[among]
    rows = rows[rows.duplicated(keep=False)]
    if not len(rows):
        return []
    number = rows.groupby(list(rows), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    cuts = np.flatnonzero(np.diff(number[order])) + 1
    return np.split(rows.index.to_numpy()[order], cuts)


def _hashes(texts: Sequence[str]) -> np.ndarray:
    """64-bit hashes of texts: with two million, the chance of a collision is 1 in 10 million."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


def _named(table: ClipTable, clip: int) -> str:
    """A clip's split and name."""
    return f"{table.splits[table.split[clip]]} {table.names[int(clip)]}"


def _together(table: ClipTable, clips: np.ndarray, between: str = " = ") -> str:
    more = len(clips) - _SHOWN
    names = [_named(table, int(clip)) for clip in clips[:_SHOWN]]
    return between.join(names) + (f" and {more} more" if more > 0 else "")
