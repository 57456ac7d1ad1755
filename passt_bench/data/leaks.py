"""Finds what stands in a data set more than once, and what stands on both sides of a split.

Clips are numbered by their place in a survey. Equal things share the number of a group; what has no
equal has -1. Both hold for two million clips in a few numbers each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from passt_bench.data.contents import groups_of
from passt_bench.data.survey import Survey


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
