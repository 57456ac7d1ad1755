"""The result of checking a data set: counts, findings and their remedies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from passt_bench.spec.codec import written_as

Kind = Literal[
    "missing",
    "broken",
    "identical across splits",
    "listed twice",
    "identical files",
    "identical sound",
    "one source in two splits",
    "class without a positive",
    "digital silence",
    "not listed",
]
REMEDIES: dict[Kind, str] = {
    "missing": "Add the files, or remove their rows from the list.",
    "broken": "Replace the files, or remove their rows from the list.",
    "identical across splits": "Keep it in one split: evaluation must not see what training saw.",
    "listed twice": "Remove all rows but one: what is listed twice counts twice.",
    "identical files": "Remove all but one: duplicates count twice.",
    "identical sound": "Remove all but one: duplicates count twice.",
    "one source in two splits": "Keep all clips of a recording in one split or fold.",
    "class without a positive": "Add clips of it, or leave the class out: it can be neither "
    "learned nor evaluated there.",
    "digital silence": "Listen to them: they are silent, despite their labels.",
    "not listed": "They were published, but are not listed; report it with your results.",
}
# Those that differ for clips that were prepared from other data, and for rows of HDF5 files.
OF_PREPARED: dict[Kind, str] = {
    "broken": "Fix the data that the clips were made from, and prepare them again.",
    "not listed": "The data that the clips were made from lacked them, see the notes; report it "
    "with your results.",
}
OF_ROWS: dict[Kind, str] = {
    "broken": "Write these rows of the HDF5 file again, or remove them.",
    "listed twice": "Keep one of these rows of the HDF5 files: what is listed twice counts twice.",
}
NOTES: tuple[Kind, ...] = ("digital silence", "not listed")  # shown, but not a failure
_FEW = 5  # different lengths that are all listed


@dataclass(frozen=True)
class Finding:
    """All findings of one kind.

    Attributes:
        kind: kind of problem.
        count: number of clips, groups of clips, sources or classes.
        names: their names.
        remedy: what to do about it.
    """

    kind: Kind
    count: int
    names: tuple[str, ...]
    remedy: str


@dataclass(frozen=True)
class Part:
    """Numbers of clips of a split.

    Attributes:
        name: name of the split.
        expected: clips as published, or else as listed.
        found: usable clips.
        missing: clips listed without a file, or expected but not listed.
        broken: clips with a file that cannot be used.
    """

    name: str
    expected: int
    found: int
    missing: int
    broken: int


@dataclass(frozen=True)
class ClassCount:
    """Positives of a class.

    Attributes:
        name: name of the class.
        found: positives in each split, in the order of the parts.
        skipped: positives among missing and broken clips; None if their labels are unknown.
    """

    name: str
    found: tuple[int, ...]
    skipped: Annotated[int | None, written_as("lost")]


@dataclass(frozen=True)
class Spread:
    """Lengths of clips in seconds.

    Attributes:
        known: clips that were measured.
        unknown: clips that were not.
        shortest: the shortest.
        quartiles: the quartiles.
        longest: the longest.
        values: lengths rounded to 10 ms → clips, if there are at most five; else empty.
    """

    known: int
    unknown: int
    shortest: Annotated[float, written_as("least")]
    quartiles: Annotated[tuple[float, float, float], written_as("quarters")]
    longest: Annotated[float, written_as("most")]
    values: dict[str, int]

    def __str__(self) -> str:
        """In words, e.g. ``1 s (12 clips), 2.5 s (3 clips)``."""
        low, middle, high = self.quartiles
        words = (
            f"{self.shortest:.2f} to {self.longest:.2f} s, half of them between {low:.2f} and "
            f"{high:.2f} s, median {middle:.2f} s"
        )
        if self.values:
            words = ", ".join(f"{value} s ({count} clips)" for value, count in self.values.items())
        return words + (f"; of {self.unknown} clips not known" if self.unknown else "")


@dataclass(frozen=True)
class Checked:
    """The result of checking a data set.

    Attributes:
        dataset: registered name.
        digest: digest of the fingerprint, part of the key of every run.
        expected: expected clips; None if unknown.
        found: clips of the fingerprint.
        fold: fold held out; None for the splits as they are.
        compared: whether identical files were searched for.
        decoded: whether every file was decoded.
        parts: numbers of clips of each split.
        classes: positives of each class, in the data set's order.
        seconds: stored lengths of the clips; None if not measured.
        rates: Hz as text → clips.
        channels: number as text → clips.
        findings: at most one per kind, the most serious first.
        notes: notes of the fingerprint.
        refusal: why studies on it are refused; empty if they are not.
    """

    dataset: str
    digest: str
    expected: int | None
    found: int
    fold: int | None
    compared: bool
    decoded: bool
    parts: tuple[Part, ...]
    classes: tuple[ClassCount, ...]
    seconds: Spread | None
    rates: dict[str, int]
    channels: dict[str, int]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    refusal: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing was found that would invalidate a study."""
        return not self.refusal and all(item.kind in NOTES for item in self.findings)


def spread_of(seconds: np.ndarray) -> Spread | None:
    """The spread of lengths, NaN where not measured; None if none was measured."""
    known = seconds[~np.isnan(seconds)].astype(np.float64)
    if not len(known):
        return None
    shortest, low, middle, high, longest = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist()
    values, counts = np.unique(np.round(known, 2), return_counts=True)
    named = dict(zip((f"{value:g}" for value in values), counts.tolist(), strict=True))
    return Spread(
        known=len(known),
        unknown=len(seconds) - len(known),
        shortest=shortest,
        quartiles=(low, middle, high),
        longest=longest,
        values=named if len(named) <= _FEW else {},
    )


def counted(values: np.ndarray) -> dict[str, int]:
    """Values as text → clips, the most frequent first, without 0, which is not measured."""
    found, counts = np.unique(values[values > 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(found[place]): int(counts[place]) for place in order}
