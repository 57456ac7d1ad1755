"""Metrics over clips, in total and per class: average precision, ROC AUC, d', accuracy.

Scores may be logits or probabilities: only their order counts. Logits are better, for a sigmoid in
float32 makes ties of everything beyond about 17. A target is 1, 0, or NaN where nobody knows (the
partial labels of OpenMIC).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import sqrt

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import ndtri

from passt_bench.errors import InputError
from passt_bench.registry import METRICS


class RankSums:
    """The clips of one class in order, and their weights added up rank by rank.

    Only the scores of positives matter as thresholds, K of them: a clip is a positive at one, a
    negative tied with one, or a negative between two. Clips with an unknown label are left out.

    Args:
        targets: (N,), 0 or 1, NaN where unknown.
        scores: (N,), finite.

    Raises:
        ValueError: no positive.
    """

    def __init__(self, targets: np.ndarray, scores: np.ndarray) -> None:
        positive = np.flatnonzero(targets > 0.5)
        negative = np.flatnonzero(targets <= 0.5)  # NaN is neither
        if not len(positive):
            raise ValueError("a class without positives has no ranks")
        thresholds, group = np.unique(scores[positive], return_inverse=True)
        k = self._k = len(thresholds)
        left = np.searchsorted(thresholds, scores[negative], side="left")
        above = np.searchsorted(thresholds, scores[negative], side="right")
        # Rows: positives of each threshold from the highest on; negatives tied with each; negatives
        # right above each; and those below all.
        rows = np.concatenate([k - 1 - group, np.where(left < above, 2 * k - above, 3 * k - above)])
        order = np.argsort(rows, kind="stable")
        ends = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=3 * k + 1))])
        clips = np.concatenate([positive, negative])[order]
        ones = np.ones(len(clips), dtype=np.float32)
        self._sum = csr_matrix((ones, clips, ends), shape=(3 * k + 1, len(targets)))

    def statistics(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Average precision and AUC of each weighting.

        Args:
            weights: (N, B), whole numbers as float32.

        Returns:
            Both (B,); NaN where no positive has weight, of AUC also where no negative has.
        """
        k = self._k
        sums = (self._sum @ weights).astype(np.float64)
        positives, tied = sums[:k], sums[k : 2 * k]
        above = np.cumsum(tied + sums[2 * k : 3 * k], axis=0)  # negatives not below a threshold
        found = np.cumsum(positives, axis=0)
        everything = found + above
        precision = np.divide(found, everything, out=np.zeros_like(found), where=everything > 0)
        negatives = above[-1] + sums[3 * k]
        ordered = (positives * (negatives - above + tied / 2)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            average = (positives * precision).sum(axis=0) / found[-1]
            area = ordered / (found[-1] * negatives)
        return average, area


PerClass = dict[int, float]
Metric = Callable[[np.ndarray, np.ndarray], tuple[float, PerClass]]
WHOLE = ("mAP", "mAP_official", "accuracy")  # need the label of every class of every clip


def check_labels(metric: str, targets: np.ndarray) -> None:
    """Refuses labels that a metric of this package cannot use.

    Raises:
        InputError: some are unknown (NaN), and the metric needs them all.
    """
    if metric in WHOLE and np.isnan(targets).any():
        raise InputError(
            "some labels are unknown (NaN), and this metric needs them all",
            field="metrics",
            value=metric,
            remedy="Use mAP_masked, AUC or dprime, which leave them out.",
        )


def _check(targets: np.ndarray, scores: np.ndarray) -> None:
    if targets.shape != scores.shape or targets.ndim != 2 or not len(targets):
        raise ValueError(f"targets {targets.shape} and scores {scores.shape} must be one (N, C)")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity")


def _mean(per_class: PerClass, lacking: str) -> tuple[float, PerClass]:
    if not per_class:
        raise InputError(
            f"no class has {lacking} among the clips",
            field="metrics",
            remedy="Score clips of which some have the classes.",
        )
    return float(np.mean(list(per_class.values()))), per_class


def _average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """Of one class."""
    from sklearn.metrics import average_precision_score  # a second, which planning need not wait

    return float(average_precision_score(labels, scores))


@METRICS.register(
    "mAP",
    version=1,
    summary="macro average precision over classes with positives",
    better="greater",
)
def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Macro average precision.

    Args:
        targets: (N, C), 0 or 1.
        scores: (N, C), finite.

    Returns:
        The mean over the classes that have a positive, and average precision by class index. A
        class without positives is left out (the reference code counts it as 0).

    Raises:
        InputError: labels are unknown, or no class has a positive.
        ValueError: scores that are not finite.
    """
    _check(targets, scores)
    check_labels("mAP", targets)
    per_class = {
        c: _average_precision(targets[:, c] > 0.5, scores[:, c])
        for c in range(targets.shape[1])
        if (targets[:, c] > 0.5).any()
    }
    return _mean(per_class, "a positive")


@METRICS.register(
    "mAP_official",
    version=1,
    summary="macro average precision, a class without positives is 0",
    better="greater",
)
def official_average_precision(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Macro average precision as the paper reports it.

    ``ex_audioset.py`` of the reference code: the mean of scikit-learn's
    ``average_precision_score(average=None)`` over all classes, which is 0 for a class without
    positives. Where every class has one it is `mean_average_precision`, whose arguments and errors
    it has.
    """
    _check(targets, scores)
    check_labels("mAP_official", targets)
    _, present = mean_average_precision(targets, scores)
    return _mean({c: present.get(c, 0.0) for c in range(targets.shape[1])}, "a positive")


@METRICS.register(
    "mAP_masked",
    version=1,
    summary="macro average precision over the labels that are known",
    better="greater",
)
def masked_average_precision(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """OpenMIC's: each class's average precision over the clips whose label is known.

    ``ex_openmic.py`` of the reference code weights clips by the mask (``sample_weight``), which
    leaves those without a label out. A class without a known positive is left out of the mean.

    Args:
        targets: (N, C), 0, 1, or NaN where unknown.
        scores: (N, C), finite.

    Returns:
        The mean, and average precision by class index.

    Raises:
        InputError: no class has a positive.
        ValueError: scores that are not finite.
    """
    _check(targets, scores)
    per_class = {}
    for c, labels, values in _known(targets, scores):
        if labels.any():
            per_class[c] = _average_precision(labels, values)
    return _mean(per_class, "a known positive")


def _known(targets: np.ndarray, scores: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each class with the labels that are known, as truth values, and their scores."""
    for c in range(targets.shape[1]):
        known = ~np.isnan(targets[:, c])
        yield c, targets[known, c] > 0.5, scores[known, c]


@METRICS.register("AUC", version=1, summary="macro area under the ROC curve", better="greater")
def area_under_curve(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Area under the ROC curve: how often a positive scores above a negative; a tie is half.

    Args:
        targets: (N, C), 0, 1, or NaN where unknown; unknown labels are left out.
        scores: (N, C), finite.

    Returns:
        The mean over the classes with both positives and negatives, and the area by class index.

    Raises:
        InputError: no class has both.
        ValueError: scores that are not finite.
    """
    _check(targets, scores)
    per_class = {}
    for c, labels, values in _known(targets, scores):
        if labels.any() and not labels.all():
            alone = np.ones((len(labels), 1), dtype=np.float32)
            per_class[c] = float(RankSums(labels, values).statistics(alone)[1][0])
    return _mean(per_class, "both a positive and a negative")


@METRICS.register(
    "dprime", version=1, summary="d' of the macro AUC, from its normal score", better="greater"
)
def d_prime(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Sensitivity index d' = √2 Φ⁻¹(AUC): how many standard deviations apart two normals would be.

    The total is d' of the mean AUC, as papers on AudioSet report it since Hershey et al. 2017 (the
    code of PANNs and of AST computes it so), and not the mean of the classes' d', in which a class
    that is nearly perfect would outweigh all others. An area of exactly 0 or 1, whose d' would be
    infinite, counts as half a pair of clips away from it (Macmillan and Kaplan 1985).

    Args and errors are those of `area_under_curve`.

    Returns:
        d' of the mean area, and d' by class index.
    """
    area, per_class = area_under_curve(targets, scores)
    halves = {c: half_a_pair(targets[:, c]) for c in per_class}
    values = {c: to_d_prime(x, halves[c]) for c, x in per_class.items()}
    return to_d_prime(area, float(np.mean(list(halves.values())))), values


def half_a_pair(targets: np.ndarray) -> float:
    """What half a pair of a positive and a negative is of one class's (N,) area."""
    return float(0.5 / ((targets > 0.5).sum() * (targets <= 0.5).sum()))


def to_d_prime(area: float, least: float) -> float:
    """The d' of an area; one of exactly 0 or 1 is taken to be that far from it."""
    if area in (0, 1):
        area = abs(area - least)
    return float(sqrt(2) * ndtri(area))


@METRICS.register(
    "accuracy", version=1, summary="share of clips whose class has the top score", better="greater"
)
def accuracy(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Top-1 accuracy of single-label clips.

    Args:
        targets: (N, C), one-hot.
        scores: (N, C), finite.

    Returns:
        Share of right clips, and the same (recall) by class index.

    Raises:
        InputError: labels are unknown.
        ValueError: scores that are not finite.
    """
    _check(targets, scores)
    check_labels("accuracy", targets)
    right = scores.argmax(axis=1) == targets.argmax(axis=1)
    label = targets.argmax(axis=1)
    per_class = {int(c): float(right[label == c].mean()) for c in np.unique(label)}
    return float(right.mean()), per_class


def scored_note(metric: str, targets: np.ndarray, classes: Sequence[str]) -> str | None:
    """How many classes a metric is a mean of, where that is not all.

    Args:
        metric: name.
        targets: (N, C) that were scored.
        classes: names.

    Returns:
        A sentence for the record, or None where every class was scored.
    """
    absent = np.asarray(~(targets > 0.5).any(axis=0))
    why, what = "a positive clip", "are left out"
    if metric in ("AUC", "dprime"):
        absent |= ~(targets <= 0.5).any(axis=0)
        why = "both positive and negative clips"
    elif metric == "mAP_official":
        what = "count as 0"
    if not absent.any():
        return None
    names = [name for name, lacking in zip(classes, absent, strict=True) if lacking]
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"{metric}: {len(classes) - len(names)} of {len(classes)} classes have {why}; the others "
        f"{what}: {shown}"
    )
