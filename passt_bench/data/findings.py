"""What checking a data set can find, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal[
    "missing",
    "broken",
    "listed twice",
    "identical files",
    "identical sound",
    "identical across splits",
    "one source in two splits",
    "class without a positive",
    "digital silence",
    "not listed",
]
# What to do about each.
REMEDIES: dict[Kind, str] = {
    "missing": "Bring the files, or remove their rows from the list.",
    "broken": "Replace the files, or remove their rows from the list.",
    "listed twice": "Remove all rows but one: what is listed twice counts twice.",
    "identical files": "Remove all but one: a clip that is there twice counts twice.",
    "identical sound": "Remove all but one: a clip that is there twice counts twice.",
    "identical across splits": "Keep it in one split: evaluation must not see what training saw.",
    "one source in two splits": "Keep all clips of a recording in one split or fold.",
    "class without a positive": "Give clips of it, or leave the class out: it can be neither "
    "learned nor scored there.",
    "digital silence": "Listen to them: they hold no sound at all, whatever their label says.",
    "not listed": "They were published, and nothing here names them; say so with your results.",
}
# The same of clips that were prepared from other data, and of rows of HDF5 files.
PREPARED: dict[Kind, str] = {
    "broken": "Mend the data that the clips were made from, and prepare them anew.",
    "not listed": "The data that the clips were made from lacked them, see the notes; say so with "
    "your results.",
}
ROWS: dict[Kind, str] = {
    "broken": "Write these rows of the HDF5 file anew, or leave them out of it.",
    "listed twice": "Keep one of these rows of the HDF5 files: what is listed twice counts twice.",
}
NOTES: tuple[Kind, ...] = ("digital silence", "not listed")  # told, and no reason to fail
_FEW = 5  # different values that are all named


@dataclass(frozen=True)
class Finding:
    """All that was found of one kind.

    Attributes:
        kind: what it is.
        count: how many clips, groups of clips, sources or classes.
        names: of them, as text.
        remedy: what to do about it.
    """

    kind: Kind
    count: int
    names: tuple[str, ...]
    remedy: str


def finding(kind: Kind, names: Sequence[str], count: int | None = None) -> Finding:
    """A finding with its remedy; ``count`` where it is not that of the names."""
    return Finding(kind, len(names) if count is None else count, tuple(names), REMEDIES[kind])


@dataclass(frozen=True)
class Part:
    """Clips of a split.

    Attributes:
        name: of the split.
        expected: as published, or as listed where nothing is.
        found: can be used.
        missing: are listed without a file, or expected and not listed at all.
        broken: have a file that cannot be used.
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
        name: of the class.
        found: in each split, in the order of the parts.
        lost: among the clips that are missing or broken; None where nobody knows their labels.
    """

    name: str
    found: tuple[int, ...]
    lost: int | None


@dataclass(frozen=True)
class Checked:
    """What checking a data set found.

    Attributes:
        dataset: registered name.
        digest: the fingerprint's, which goes into the key of every run.
        expected: clips; None where nobody knows.
        found: clips that are in the fingerprint.
        fold: the fold that was held out; None for all as they are.
        compared: whether identical files were searched for.
        decoded: whether every file was decoded.
        parts: splits.
        classes: in the data set's order.
        seconds: lengths of the clips as they are stored; None where nobody looked.
        rates: Hz as text → clips.
        channels: number as text → clips.
        findings: at most one of a kind, the gravest first.
        notes: those of the fingerprint.
        refusal: why no study may run on it; empty where one may.
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
        """Whether nothing was found that would spoil a study."""
        return not self.refusal and all(item.kind in NOTES for item in self.findings)


@dataclass(frozen=True)
class Spread:
    """Lengths of clips in seconds.

    Attributes:
        known: clips that were looked at.
        unknown: clips that were not.
        least: the shortest.
        quarters: below which a quarter, a half and three quarters of them lie.
        most: the longest.
        values: lengths rounded to 10 ms → clips, where there are at most five; else empty.
    """

    known: int
    unknown: int
    least: float
    quarters: tuple[float, float, float]
    most: float
    values: dict[str, int]

    def __str__(self) -> str:
        """In words, e.g. ``1 s (12 clips), 2.5 s (3 clips)``."""
        if self.values:
            words = ", ".join(f"{value} s ({count} clips)" for value, count in self.values.items())
        else:
            low, middle, high = self.quarters
            words = (
                f"{self.least:.2f} to {self.most:.2f} s, half of them between {low:.2f} and "
                f"{high:.2f} s, median {middle:.2f} s"
            )
        return words + (f"; of {self.unknown} clips not known" if self.unknown else "")


def spread_of(seconds: np.ndarray) -> Spread | None:
    """The spread of lengths, NaN where nobody looked; None where nobody looked at any."""
    known = seconds[~np.isnan(seconds)].astype(np.float64)
    if not len(known):
        return None
    least, low, middle, high, most = np.quantile(known, [0, 0.25, 0.5, 0.75, 1]).tolist()
    values, counts = np.unique(np.round(known, 2), return_counts=True)
    named = dict(zip((f"{value:g}" for value in values), counts.tolist(), strict=True))
    return Spread(
        known=len(known),
        unknown=len(seconds) - len(known),
        least=least,
        quarters=(low, middle, high),
        most=most,
        values=named if len(named) <= _FEW else {},
    )


def counted(values: np.ndarray) -> dict[str, int]:
    """Values as text → clips, the most frequent first; 0 is what nobody looked at."""
    found, counts = np.unique(values[values > 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {str(found[place]): int(counts[place]) for place in order}
