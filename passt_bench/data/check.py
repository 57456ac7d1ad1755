"""Looks a data set over: what is there of what should be, and what would spoil a study on it.

Clips are numbered by their place in a survey. Equal things share the number of a group; what has no
equal has -1. Both hold for two million clips in a few numbers each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from passt_bench.data.clip_table import Survey
from passt_bench.data.clips import MISSING
from passt_bench.data.contents import Decoded, Sounds, decode_all, groups_of, same_bytes
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

_DECODING = 0.8  # share of the time, where files are both decoded and compared
Update = Callable[[float, str], None]
_SHOWN = 4  # members of a group that are named


@dataclass(frozen=True)
class Look:
    """How closely to look.

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


def check(dataset: Dataset, look: Look, update: Update) -> Checked:
    """Looks over a data set that is open.

    Args:
        dataset: with files; procedural data have nothing to check.
        look: how closely.
        update: told the share that is done, and what is being done.

    Raises:
        InputError: procedural data, or no such fold.
    """
    survey = _surveyed(dataset, look.fold)
    sounds = Sounds(dataset, survey)
    decoded, share = None, 0.0
    if look.decode:
        share = _DECODING if look.compare else 1.0
        decoded = decode_all(sounds, look.threads, lambda done: update(share * done, "decoding"))
    broken = dict(decoded.problems) if decoded else {}
    same = np.full(len(sounds), -1, dtype=np.int64)
    if look.compare:
        same, unreadable = same_bytes(
            sounds.sizes(),
            sounds.sound,
            look.threads,
            lambda done: update(share + (1 - share) * done, "comparing"),
            pieces=sounds.apart,
        )
        broken = unreadable | broken
    survey = _with_lengths(survey, sounds, decoded)
    spoilt = np.isin(sounds.of_clip, np.fromiter(broken, dtype=np.int64, count=len(broken)))
    parts = _parts(survey, spoilt)
    classes = _classes(dataset, survey, spoilt)
    found = dataset.fingerprint
    findings = (
        _missing(survey),
        finding("broken", [*_lost(survey), *_spoilt(survey, sounds, broken, spoilt)]),
        *duplicates(survey, sounds, same, decoded),
        finding("one source in two splits", list(divided_sources(survey))),
        finding("class without a positive", list(_lacking(parts, classes))),
        finding("digital silence", list(_silent(survey, sounds, decoded))),
        _not_listed(survey, parts, found.expected or 0),
    )
    return Checked(
        dataset=found.dataset,
        digest=found.digest,
        expected=found.expected,
        found=found.found,
        fold=look.fold,
        compared=look.compare,
        decoded=look.decode,
        parts=parts,
        classes=classes,
        seconds=spread_of(survey.seconds),
        rates=counted(survey.rates),
        channels=counted(survey.channels),
        findings=tuple(_mendable(item, survey) for item in findings if item.count),
        notes=found.notes,
    )


def _mendable(item: Finding, survey: Survey) -> Finding:
    """The finding with the remedy for where the clips lie."""
    if survey.files is not None:
        return item
    remedies = PREPARED if survey.prepared else ROWS
    return replace(item, remedy=remedies.get(item.kind, item.remedy))


def _surveyed(dataset: Dataset, fold: int | None) -> Survey:
    """What was found; with a fold held out, the two sides of it are the splits."""
    survey = dataset.survey()
    if survey is None:
        raise InputError(
            "procedural data have no files to check",
            field="NAME=DIR",
            value=dataset.fingerprint.dataset,
            remedy="Give a data set that lies in a folder.",
        )
    if fold is None:
        return survey
    if fold not in dataset.folds:
        raise InputError(
            "no such fold",
            field="--fold",
            value=fold,
            remedy=f"There are {', '.join(map(str, dataset.folds)) or 'none'}.",
        )
    held_out = survey.splits.index(f"fold {fold}")
    both = (sum(survey.expected) - survey.expected[held_out], survey.expected[held_out])
    return replace(
        survey,
        splits=(f"all but fold {fold}", f"fold {fold}"),
        expected=both,
        split=(survey.split == held_out).astype(np.int8),
        lost=replace(survey.lost, split=(survey.lost.split == held_out).astype(np.int8)),
    )


def _with_lengths(survey: Survey, sounds: Sounds, decoded: Decoded | None) -> Survey:
    """The survey with what decoding told in place of what headers promise."""
    if decoded is None:
        return survey
    whole = survey.start is None
    return replace(
        survey,
        seconds=decoded.seconds[sounds.of_clip] if whole else survey.seconds,
        rates=decoded.rates[sounds.of_clip],
        channels=decoded.channels[sounds.of_clip],
    )


def _parts(survey: Survey, spoilt: np.ndarray) -> tuple[Part, ...]:
    """Counts of each split; of one that the data set does not have there are none."""
    parts = []
    for code, name in enumerate(survey.splits):
        inside = survey.split == code
        bad = int(spoilt[inside].sum())
        found = int(inside.sum()) - bad
        reasons = [
            survey.lost.reasons[at] for at in np.flatnonzero(survey.lost.split == code).tolist()
        ]
        unlisted = max(0, survey.expected[code] - found - bad - len(reasons))
        missing = reasons.count(MISSING)
        broken = len(reasons) - missing + bad
        parts.append(Part(name, survey.expected[code], found, missing + unlisted, broken))
    return tuple(part for part in parts if part.expected or part.found)


def _classes(dataset: Dataset, survey: Survey, spoilt: np.ndarray) -> tuple[ClassCount, ...]:
    """Positives of each class in the splits that there are, and among the lost clips."""
    names = dataset.fingerprint.classes
    gone = {label for labels in survey.lost.labels for label in labels}
    others = sorted(gone.difference(names))  # ESC-50's classes are those of the clips found
    counts = []
    for code in range(len(survey.splits)):
        inside = np.flatnonzero((survey.split == code) & ~spoilt)
        if survey.expected[code] or (survey.split == code).any():
            counts.append([*class_counts(dataset.targets, inside), *(0 for _ in others)])
    lost = Counter(label for labels in survey.lost.labels for label in labels)
    known = len(survey.lost.labels) == len(survey.lost)
    return tuple(
        ClassCount(name, tuple(int(each[at]) for each in counts), lost[name] if known else None)
        for at, name in enumerate((*names, *others))
    )


def _missing(survey: Survey) -> Finding:
    names = [
        f"{survey.splits[split]} {name}"
        for name, split, reason in zip(
            survey.lost.names, survey.lost.split, survey.lost.reasons, strict=True
        )
        if reason == MISSING
    ]
    return finding("missing", names)


def _not_listed(survey: Survey, parts: tuple[Part, ...], published: int) -> Finding:
    """How many clips were published, or stood in what was prepared, and are not named here."""
    names, others = [], published - sum(part.expected for part in parts)
    for part in parts:
        code = survey.splits.index(part.name)
        listed = int((survey.split == code).sum()) + int((survey.lost.split == code).sum())
        if part.expected > listed:
            names.append(f"{part.expected - listed:,} of {part.name}")
            others += part.expected - listed
    if not names and others > 0:
        names = [f"{others:,} of all"]
    return finding("not listed", names, max(0, others))


def _lost(survey: Survey) -> Iterator[str]:
    """Clips that were left out although they have a file."""
    lost = survey.lost
    for name, split, reason in zip(lost.names, lost.split, lost.reasons, strict=True):
        if reason != MISSING:
            yield f"{survey.splits[split]} {name} ({reason})"


def _spoilt(
    survey: Survey, sounds: Sounds, broken: dict[int, str], spoilt: np.ndarray
) -> Iterator[str]:
    """Clips that are in the fingerprint although their files cannot be used."""
    for clip in np.flatnonzero(spoilt).tolist():
        yield f"{named(survey, clip)} ({broken[int(sounds.of_clip[clip])]})"


def _lacking(parts: tuple[Part, ...], classes: tuple[ClassCount, ...]) -> Iterator[str]:
    for place, part in enumerate(parts):
        yield from (f"{part.name} {item.name}" for item in classes if not item.found[place])


def _silent(survey: Survey, sounds: Sounds, decoded: Decoded | None) -> Iterator[str]:
    if decoded is not None:
        for clip in np.flatnonzero(decoded.silent[sounds.of_clip]).tolist():
            yield named(survey, clip)


def duplicates(
    survey: Survey, sounds: Sounds, same: np.ndarray, decoded: Decoded | None
) -> list[Finding]:
    """Clips that are there more than once, by list, by bytes and by sound.

    Args:
        survey: of the clips.
        sounds: their files.
        same: (files,) groups of identical files, -1 for those alone.
        decoded: what decoding told; None where nothing was decoded.
    """
    # One clip stands for all those of a file in a split: stretches of a file are no duplicates.
    pairs = np.stack([sounds.of_clip, survey.split.astype(np.int64)], axis=1)
    _, clips = np.unique(pairs, axis=0, return_index=True) if len(pairs) else (None, np.arange(0))
    files = sounds.of_clip[clips]
    heard = np.full(len(sounds), -1, dtype=np.int64)
    if decoded is not None:
        heard = np.where(np.isnan(decoded.seconds), -1, groups_of(decoded.digests))
        heard[decoded.silent] = -1
    kinds: tuple[tuple[Kind, Iterable[np.ndarray]], ...] = (
        ("listed twice", sets_of(listed_twice(survey))),
        ("identical files", (clips[part] for part in sets_of(same[files]))),
        (
            "identical sound",
            (clips[part] for part in sets_of(heard[files]) if not _equal(same[files[part]])),
        ),
    )
    across: list[str] = []
    found = []
    for kind, groups in kinds:
        within: list[str] = []
        for members in groups:
            one_split = _equal(survey.split[members])
            (within if one_split else across).append(_together(survey, members))
        found.append(finding(kind, within))
    return [finding("identical across splits", list(dict.fromkeys(across))), *found]


def _equal(values: np.ndarray) -> bool:
    """Whether all are the same, and not those of things that stand alone."""
    return bool((values == values[0]).all() and values[0] >= 0)


def divided_sources(survey: Survey) -> Iterator[str]:
    """Recordings of which clips stand in several splits, with one clip of each.

    Clips of one file are of one recording, whatever else their list says of their sources.
    """
    told: set[str] = set()
    for members in divided(repeated(survey.sources), survey.split):
        together = _together(survey, members, ", ")
        told.add(together)
        yield f"{survey.sources[int(members[0])]}: {together}"
    if survey.file is None or survey.files is None:
        return
    for members in divided(groups_of(survey.file), survey.split):
        together = _together(survey, members, ", ")
        if together not in told:
            yield f"{survey.files[survey.file[members[0]]]}: {together}"


def named(survey: Survey, clip: int) -> str:
    """A clip's split and name."""
    return f"{survey.splits[survey.split[clip]]} {survey.names[int(clip)]}"


def _together(survey: Survey, clips: np.ndarray, between: str = " = ") -> str:
    more = len(clips) - _SHOWN
    names = [named(survey, int(clip)) for clip in clips[:_SHOWN]]
    return between.join(names) + (f" and {more} more" if more > 0 else "")


def repeated(texts: Sequence[str]) -> np.ndarray:
    """Groups of equal texts, (N,) int64; -1 for a text that stands once."""
    hashes = np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))
    groups = groups_of(hashes)
    numbers: dict[str, int] = {}
    for place in np.flatnonzero(groups >= 0).tolist():  # equal hashes are no proof
        groups[place] = numbers.setdefault(texts[place], len(numbers))
    return groups


def listed_twice(survey: Survey) -> np.ndarray:
    """Groups of clips that are the same part of the same file, or have the same name."""
    if survey.file is None:
        return repeated(survey.names)
    if survey.start is None or survey.end is None:
        return groups_of(survey.file)
    ends = np.where(np.isnan(survey.end), np.inf, survey.end)
    return groups_of(np.stack([survey.file, survey.start, ends], axis=1))


def sets_of(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Places of each group with more than one member, in the order of their first."""
    members = np.flatnonzero(groups >= 0)
    order = members[np.argsort(groups[members], kind="stable")]
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    found = [part for part in np.split(order, cuts) if len(part) > 1]
    yield from sorted(found, key=lambda part: int(part[0]))


def divided(groups: np.ndarray, split: np.ndarray) -> Iterator[np.ndarray]:
    """One clip of each split, of each group that stands in several splits.

    Args:
        groups: (N,) groups of clips.
        split: (N,) codes of their splits.
    """
    members = np.flatnonzero(groups >= 0)
    pairs = np.stack([groups[members], split[members].astype(np.int64)], axis=1)
    if not len(pairs):
        return
    _, first = np.unique(pairs, axis=0, return_index=True)
    alone = np.full(len(groups), -1, dtype=np.int64)
    alone[members[first]] = groups[members[first]]
    yield from sets_of(alone)
