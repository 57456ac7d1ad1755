"""Divides clips into balanced splits, and chooses balanced subsets of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from passt_bench.data.targets import Targets, class_counts
from passt_bench.errors import InputError

_ROWS = 1 << 16  # clips at a time
FEW = 5  # clips of a class


def is_small(counts: np.ndarray) -> bool:
    """Whether of most classes there are too few clips to choose an epoch or thresholds by."""
    return bool(np.median(counts) < FEW)


def stratified(
    groups: np.ndarray, targets: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """Divides clips into parts that have about their share of every label; the part of each, (N,).

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011): groups, which stay together,
    join the part that lacks most of their rarest label, of several the one that lacks most clips;
    the rarest label and big groups come first. A label with groups enough is in every part.

    ``groups`` (N,) count from 0; ``targets`` (N, C) are 0 or 1; ``shares`` add up to 1.
    """
    targets = np.column_stack([targets, ~targets.any(axis=1)])  # no label counts as one more
    sizes = np.bincount(groups)
    labels = np.zeros((len(sizes), targets.shape[1]))  # clips of each group and label
    np.add.at(labels, groups, targets)
    room, totals = len(groups) * np.array(shares), labels.sum(axis=0)
    lacking = np.outer(shares, totals)
    of_label = (labels > 0).sum(axis=0)
    for part in range(len(shares) - 1):
        enough = of_label >= part + 2
        lacking[part][enough] = np.maximum(lacking[part], totals / np.maximum(of_label, 1))[enough]
    lacking[-1] = totals - lacking[:-1].sum(axis=0)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    parts = np.full(len(sizes), -1)
    while (left := labels[parts < 0].sum(axis=0)).any():
        label = np.where(left > 0, left, np.inf).argmin()
        for group in order[(parts[order] < 0) & (labels[order, label] > 0)]:
            parts[group] = part = np.lexsort((room, lacking[:, label]))[-1]
            lacking[part] -= labels[group]
            room[part] -= sizes[group]
    return np.asarray(parts[groups])


def validation_split(
    train: np.ndarray, sources: Sequence[str], targets: Targets, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divides training clips into clips to train on and clips to validate on.

    Clips of one source stay together. Sources are drawn in random order; one joins the validation
    split if the numbers of clips per class then are closer to their share, so that classes stay
    balanced. The share of a class with two clips or more is at least one clip.

    ``train`` and both results are ascending indices of clips; ``sources`` and ``targets`` (N, C)
    are those of every clip of the data set.

    Raises:
        InputError: no source fits the share.
    """
    groups: dict[str, list[int]] = {}
    for index in train:
        groups.setdefault(sources[index], []).append(int(index))
    names = sorted(groups)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(names))
    totals = class_counts(targets, train)
    shortfall = np.maximum(share * totals, np.minimum(totals // 2, 1))
    validation: list[int] = []
    for name in (names[i] for i in order):
        labels = class_counts(targets, np.array(groups[name]))
        if np.abs(shortfall - labels).sum() < np.abs(shortfall).sum():
            validation += groups[name]
            shortfall = shortfall - labels
    if not 0 < len(validation) < len(train):
        raise InputError(
            f"{len(train)} clips of {len(groups)} sources cannot be divided",
            field="training.validation_share",
            value=share,
            remedy="Give more clips or another share, or set training.checkpoint_selection to "
            "'last'.",
        )
    chosen = np.array(sorted(validation), dtype=np.int64)
    return np.setdiff1d(train, chosen), chosen


def first_stratified(indices: np.ndarray, targets: Targets, count: int) -> np.ndarray:
    """The first ``count`` clips, taken from each class in turn, so that classes are balanced.

    Of several classes of a clip, the first counts. The result is ascending.
    """
    starts = range(0, len(indices), _ROWS)
    rows = (targets[indices[start : start + _ROWS]] > 0.5 for start in starts)
    labels = np.concatenate([block.argmax(axis=1) for block in rows])
    turn = pd.Series(labels).groupby(labels).cumcount()
    order = np.lexsort((labels, turn))
    return np.asarray(np.sort(indices[order[:count]]))


def limited(indices: np.ndarray, targets: Targets, count: int | None, field: str) -> np.ndarray:
    """The clips of a split, or the first ``count`` by `first_stratified`; None is all.

    Raises:
        InputError: the split has fewer clips; the message names ``field``.
    """
    if count is None:
        return indices
    if count > len(indices):
        raise InputError(
            "more clips than the split has",
            field=field,
            value=count,
            remedy=f"Give at most {len(indices)}, or leave it out for all.",
        )
    return first_stratified(indices, targets, count)
