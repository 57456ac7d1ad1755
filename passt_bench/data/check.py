"""Checks a data set for missing and broken clips, duplicates, leaks between splits and silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pandas as pd

from passt_bench.console import Progress
from passt_bench.data.clip_table import MISSING, ClipTable
from passt_bench.data.contents import (
    Decoded,
    decode_file,
    duplicates,
    identical,
    named,
    sources_in_several_splits,
    takes_apart,
)
from passt_bench.data.dataset import Dataset
from passt_bench.data.fingerprint import first_few
from passt_bench.data.layout import near_name
from passt_bench.data.opening import AudioFile
from passt_bench.data.scan import audio_below, in_threads
from passt_bench.data.targets import class_counts
from passt_bench.errors import InputError
from passt_bench.records.run import count_of
from passt_bench.spec.codec import written_as

REMEDIES: dict[str, str] = {
    "missing": "Add the files, or remove their rows from the list.",
    "broken": "Replace these files, or remove their rows from the list.",
    "identical across splits": "Keep it in one split: evaluation must not see what training saw.",
    "listed twice": "Remove all rows but one: what is listed twice counts twice.",
    "identical files": "Remove all but one: duplicates count twice.",
    "identical sound": "Remove all but one: duplicates count twice.",
    "one source in two splits": "Keep all clips of a recording in one split or fold.",
    "class without a positive": "Add clips of it, or remove the class: it can be neither "
    "learned nor evaluated there.",
    "digital silence": "Check them: silent, but labeled.",
    "channels that cancel": "Keep one channel of each: mixed to one, hardly anything is left.",
    "not listed": "They were published, but are not listed; report it with your results.",
}
NOTES = ("digital silence", "channels that cancel", "not listed")  # shown, but not a failure
_SAID = (" left out", " without a clip in ")  # by notes of which the findings say more
_FEW = 5  # different lengths that are all listed
_DECODING = 0.8  # share of the time, if files are both decoded and compared


@dataclass(frozen=True)
class Finding:
    """All findings of one kind: how many and which clips, groups of clips, sources or classes."""

    kind: str
    count: int
    names: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class SplitCounts:
    """Numbers of clips of a split."""

    name: str
    expected: int  # as published, or else as listed
    found: int
    missing: int  # listed without a file, or expected but not listed
    broken: int  # with a file that cannot be used


@dataclass(frozen=True)
class ClassCount:
    """Positives of a class in each split, in the order of ``splits``, and among skipped clips."""

    name: str
    found: tuple[int, ...]
    skipped: Annotated[int | None, written_as("lost")]  # None if their labels are unknown


@dataclass(frozen=True)
class Spread:
    """Lengths of clips in seconds."""

    known: int  # clips that were measured
    unknown: int
    shortest: Annotated[float, written_as("least")]
    quartiles: Annotated[tuple[float, float, float], written_as("quarters")]
    longest: Annotated[float, written_as("most")]
    values: dict[str, int]  # rounded to 10 ms → clips, if there are at most five; else empty

    def __str__(self) -> str:
        """In words, e.g. ``1 s (12 clips), 2.5 s (3 clips)``."""
        low, middle, high = self.quartiles
        words = (
            f"{self.shortest:.2f} to {self.longest:.2f} s, half of them between {low:.2f} and "
            f"{high:.2f} s, median {middle:.2f} s"
        )
        if self.values:
            each = ((value, count_of(n, "clip")) for value, n in self.values.items())
            words = ", ".join(f"{value} s ({clips})" for value, clips in each)
        return words + (f"; of {self.unknown} clips not known" if self.unknown else "")


@dataclass(frozen=True)
class Checked:
    """The result of checking a data set."""

    dataset: str
    digest: str  # of the fingerprint, part of the key of every run
    expected: int | None
    found: int
    compared: bool
    decoded: bool
    splits: Annotated[tuple[SplitCounts, ...], written_as("parts")]
    classes: tuple[ClassCount, ...]
    seconds: Spread | None  # stored lengths of the clips; None if not measured
    rates: dict[str, int]  # Hz → clips
    channels: dict[str, int]
    findings: tuple[Finding, ...]  # at most one per kind, the most serious first
    notes: tuple[str, ...]
    refusal: str = ""  # why studies on it are refused; empty if they are not

    @property
    def clean(self) -> bool:
        """Whether nothing was found that would invalidate a study."""
        return not self.refusal and all(item.kind in NOTES for item in self.findings)


def check(
    dataset: Dataset,
    update: Progress,
    *,
    compare: bool = True,
    decode: bool = False,
    threads: int = 1,
) -> Checked:
    """Checks an open data set; ``update`` is called with the share done and the activity.

    Each fold is a split; ``compare`` searches for identical files, and ``decode`` every file for
    NaN, a cut end, silence and identical sound.

    Raises:
        InputError: procedural data, which have nothing to check.
    """
    fingerprint, table = dataset.fingerprint, dataset.clip_table()
    if table is None:
        raise InputError(
            "procedural data have no files to check",
            field="NAME=DIR",
            value=fingerprint.dataset,
            remedy="Give a data set in a folder.",
        )
    clips = _read(dataset, table, compare, decode, threads, update)
    if decode:
        measured = ["seconds", "rate", "channels"]
        if "start" in table.clips:  # a whole file's seconds are not those of its parts
            measured.remove("seconds")
        table = replace(table, clips=table.clips.assign(**clips[measured]))
    splits, classes = _splits(table, clips), _classes(dataset, table, clips)
    missing, broken = _missing_and_broken(table, clips)
    published = max(fingerprint.expected or 0, sum(split.expected for split in splits))
    unlisted = max(0, published - len(table) - len(table.skipped))

    def heard(column: str) -> list[str]:
        found = np.flatnonzero(clips[column]).tolist() if decode else []
        return [named(table, clip) for clip in found]

    names: dict[str, Sequence[str]] = {
        "missing": missing,
        "broken": broken,
        **duplicates(table, clips),
        "one source in two splits": sources_in_several_splits(table),
        "class without a positive": [
            f"{split.name} {item.name}"
            for at, split in enumerate(splits)
            for item in classes
            if not item.found[at]
        ],
        "digital silence": heard("silent"),
        "channels that cancel": heard("cancels"),
        "not listed": [f"{unlisted:,} of {published:,}"] if unlisted else [],
    }
    remedies = {**REMEDIES}
    if table.files is None:
        remedies["broken"] = "Write these rows of the HDF5 file again, or remove them."
    counts = {kind: len(of_kind) for kind, of_kind in names.items()} | {"not listed": unlisted}
    return Checked(
        dataset=fingerprint.dataset,
        digest=fingerprint.digest,
        expected=fingerprint.expected,
        found=fingerprint.found,
        compared=compare,
        decoded=decode,
        splits=splits,
        classes=classes,
        seconds=spread_of(table.clips["seconds"].to_numpy(np.float32)),
        rates=counted(table.clips["rate"].to_numpy()),
        channels=counted(table.clips["channels"].to_numpy()),
        findings=tuple(
            Finding(kind, counts[kind], tuple(of_kind), remedies[kind])
            for kind, of_kind in names.items()
            if counts[kind]
        ),
        notes=(
            *(n for n in fingerprint.notes if not any(said in n for said in _SAID)),
            *_alike_in_several_splits(table),
            *(_not_named(table) if fingerprint.dataset == "manifest" else ()),
        ),
    )


def _alike_in_several_splits(table: ClipTable) -> list[str]:
    """A note if clips of several splits are named like takes, and no list has their recordings."""
    paths = [table.files[file] for file in table.clips["file"]] if table.files else []
    apart = takes_apart(paths, table.split) if paths == list(table.sources) else []
    if not apart:
        return []
    pair = " and ".join(named(table, clip) for clip in apart[0][:2].tolist())
    return [
        f"no column source, and clips of several splits have names like takes of one recording "
        f"({len(apart)} times, first {pair}): if they are, add that column and divide again"
    ]


def _not_named(table: ClipTable) -> list[str]:
    """A note if there are audio files beside the list that it does not name."""
    names = set(table.skipped["name"])
    listed = {*(table.files or ()), *names, *(name.rpartition("@")[0] for name in names)}
    found = audio_below(table.root, "", Counter()) if table.files else ()
    others = [path for path in found if path not in listed]
    count = count_of(len(others), "audio file")
    cure = "`passt-bench data split --again` lists folders of classes again"
    text = f"{count} in the folder that no row names: {first_few(others)}; {cure}"
    return [text] if others else []


def _read(
    dataset: Dataset, table: ClipTable, compare: bool, decode: bool, threads: int, update: Progress
) -> pd.DataFrame:
    """What the files say of each clip.

    The columns are ``file``, ``same`` (group of identical files; -1 if no other is identical),
    ``problem`` and, if files are decoded, the fields of `Decoded`.
    """
    first = of_clip = np.arange(len(table))  # first clip of each file, file of each clip
    if "file" in table.clips:
        _, first, of_clip = np.unique(table.clips["file"], return_index=True, return_inverse=True)

    def sound(number: int) -> AudioFile:
        clip = int(first[number])
        return table.path(clip) or dataset.sound(clip)

    files = pd.DataFrame({"same": np.full(len(first), -1), "problem": ""})
    share = 0.0
    if decode:
        share = _DECODING if compare else 1.0
        decoded = in_threads(
            lambda number: decode_file(sound(number)),
            range(len(first)),
            threads,
            lambda done: update(share * done, "decoding"),
        )
        files = files.assign(**pd.DataFrame(decoded, columns=Decoded._fields))
    if compare:
        known = table.clips.reindex(columns=["bytes", "piece"]).iloc[first]
        files["same"], unreadable = identical(
            known, sound, threads, lambda done: update(share + (1 - share) * done, "comparing")
        )
        for number, problem in unreadable.items():
            files.loc[number, "problem"] = files["problem"][number] or problem
    clips = files.iloc[of_clip].reset_index(drop=True)
    return clips.assign(file=of_clip)


def _splits(table: ClipTable, clips: pd.DataFrame) -> tuple[SplitCounts, ...]:
    """Counts of each split that the data set has."""
    splits = []
    for code, (name, expected) in enumerate(zip(table.splits, table.expected, strict=True)):
        problems = table.skipped["problem"][table.skipped["split"] == code]
        inside, missing = table.split == code, int((problems == MISSING).sum())
        bad = int((clips["problem"][inside] != "").sum())
        found = int(inside.sum()) - bad
        absent = missing + max(0, expected - found - bad - len(problems))
        splits.append(SplitCounts(name, expected, found, absent, len(problems) - missing + bad))
    return tuple(split for split in splits if split.expected or split.found)


def _classes(dataset: Dataset, table: ClipTable, clips: pd.DataFrame) -> tuple[ClassCount, ...]:
    """Positives of each class in the existing splits and among the skipped clips."""
    skipped, usable = table.skipped_targets, (clips["problem"] == "").to_numpy()
    counts = [
        class_counts(dataset.targets, np.flatnonzero((table.split == code) & usable)).tolist()
        for code, expected in enumerate(table.expected)
        if expected or (table.split == code).any()
    ]
    names = dataset.fingerprint.classes
    positives: Sequence[int | None] = [None if len(table.skipped) else 0] * len(names)
    if skipped is not None:
        positives = class_counts(skipped, np.arange(len(skipped))).tolist()
    rows = zip(names, zip(*counts, strict=True), positives, strict=True)
    return tuple(ClassCount(name, found, lost) for name, found, lost in rows)


def _missing_and_broken(table: ClipTable, clips: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Clips without a file, and clips with one that cannot be used and why, skipped ones first."""
    rows = [
        (
            f"{table.splits[split]} {name}{near_name(table.root / name) if at < _FEW else ''}",
            problem,
        )
        for at, (name, split, problem) in enumerate(table.skipped.itertuples(index=False))
    ]
    bad = np.flatnonzero(clips["problem"] != "").tolist()
    rows += [(named(table, clip), clips["problem"][clip]) for clip in bad]
    missing = [name for name, problem in rows if problem == MISSING]
    return missing, [f"{name} ({problem})" for name, problem in rows if problem != MISSING]


def spread_of(seconds: np.ndarray) -> Spread | None:
    """The spread of lengths, NaN where not measured; None if none was measured."""
    known = seconds[~np.isnan(seconds)].astype(np.float64)
    if not len(known):
        return None
    shortest, low, middle, high, longest = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist()
    values = pd.Series(np.round(known, 2)).value_counts().sort_index()
    return Spread(
        known=len(known),
        unknown=len(seconds) - len(known),
        shortest=shortest,
        quartiles=(low, middle, high),
        longest=longest,
        values={f"{v:g}": int(n) for v, n in values.items()} if len(values) <= _FEW else {},
    )


def counted(values: np.ndarray) -> dict[str, int]:
    """Values as text → clips, the most frequent first, without 0, which is not measured."""
    counts = pd.Series(values[values > 0]).value_counts().sort_index()
    counts = counts.sort_values(ascending=False, kind="stable")
    return {str(value): int(count) for value, count in counts.items()}
