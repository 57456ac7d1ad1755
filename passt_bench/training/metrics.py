"""Metrics over clips, in total and per class: average precision, ROC AUC, d', accuracy.

Scores may be logits or probabilities: only their order counts. Logits are better, because a sigmoid
in float32 ties everything beyond about 17. A target is 1, 0, or NaN if unknown (the partial labels
of OpenMIC).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from math import inf, sqrt
from typing import Literal

import numpy as np
from scipy.special import expit, ndtri

from passt_bench.data.fingerprint import first_few
from passt_bench.errors import InputError
from passt_bench.registry import METRICS, Better
from passt_bench.training.clip_bootstrap import RankSums, ScoredClips

PerClass = dict[int, float]
DataKind = Literal["multi_label", "one_class", "partly_labelled"]


class Metric(ABC):
    """Measures how good scores are; a subclass is registered as an instance in `METRICS`.

    Attributes:
        better: 'greater' if higher is better, 'less' if lower is.
        bounds: minimum and maximum of a value; intervals are clipped to them.
        needs_all_labels: whether it cannot be computed if labels are unknown (NaN).
        one_class_a_clip: whether it requires exactly one class per clip.
        default_for: kind of data that `passt-bench evaluate` scores with it by default.
        per_class_name: name of the value of a single class, if it differs from the metric's.
        needs_negatives: whether a class is scored only if some clips do not have it.
        absent: text for classes that cannot be scored, for notes in records.
        uses_margin: whether differences within a margin that suits mAP and accuracy are equality.
        same_classes_as: a metric that scores the same classes, so that one note serves both.
    """

    better: Better = "greater"
    bounds: tuple[float, float] = (-inf, inf)
    needs_all_labels: bool = False
    one_class_a_clip: bool = False
    default_for: DataKind | None = None
    per_class_name: str | None = None
    needs_negatives: bool = False
    absent: str = "are left out"
    uses_margin: bool = False
    same_classes_as: str | None = None

    @abstractmethod
    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        """The value, and the value of each class by its index; InputError if none can be scored.

        Args:
            targets: (N, C), 0 or 1, and NaN where unknown unless it `needs_all_labels`.
            scores: (N, C), finite.
        """

    def correct(self, targets: np.ndarray, scores: np.ndarray) -> np.ndarray | None:
        """Which clips are right, (N,) booleans, if the value is their share; otherwise None.

        A share has Wilson's interval, and McNemar's test between two models.
        """
        return None

    def resample(self, clips: ScoredClips, weights: np.ndarray) -> np.ndarray:
        """The values (B,) of resamples, for an interval; computes each unless overridden.

        ``weights`` (N, B) says how often each resample drew each clip, whole numbers as float32.
        The value is NaN if no class can be scored.
        """
        values = np.full(weights.shape[1], np.nan)
        for number, column in enumerate(weights.T):
            indices = np.repeat(np.arange(len(column)), column.astype(np.int64))
            try:
                values[number], _ = self.compute(clips.targets[indices], clips.scores[indices])
            except InputError:
                continue
        return values


def score(name: str, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """A registered metric of targets and scores (N, C), in total and by class index.

    Raises:
        InputError: the metric is unknown, cannot use the labels, or can score no class.
        ValueError: shapes differ, or scores are not finite.
    """
    if targets.shape != scores.shape or targets.ndim != 2 or not len(targets):
        raise ValueError(f"shapes {targets.shape} and {scores.shape} must be the same (N, C)")
    if not np.isfinite(scores).all():
        raise ValueError("scores contain NaN or infinity")
    check_labels(name, targets)
    metric: Metric = METRICS.get(name).build
    return metric.compute(targets, scores)


def check_labels(name: str, targets: np.ndarray) -> None:
    """Raises InputError if a metric cannot be computed from labels, whatever the scores are."""
    metric: Metric = METRICS.get(name).build
    both = (targets > 0.5).any(axis=0) & (targets <= 0.5).any(axis=0)
    if metric.needs_negatives and not both.any():
        problem = "no class has both a positive and a negative among the clips"
        remedy = "Score clips of several classes, or use another metric."
        raise InputError(problem, field="metrics", value=name, remedy=remedy)
    if metric.needs_all_labels and np.isnan(targets).any():
        others = [item.name for item in METRICS.all() if not item.build.needs_all_labels]
        problem = "some labels are unknown (NaN), and this metric needs them all"
        remedy = f"Use one that skips them: {', '.join(others)}."
        raise InputError(problem, field="metrics", value=name, remedy=remedy)
    if metric.one_class_a_clip and ((targets > 0.5).sum(axis=1) != 1).any():
        problem = "needs one class per clip, but some clips have several, or none"
        remedy = "Use mAP; a study's own metric is replaced with: --set metrics=mAP"
        raise InputError(problem, field="metrics", value=name, remedy=remedy)


def default_metrics(kind: DataKind) -> tuple[str, ...]:
    """The default metrics for a kind of data."""
    return tuple(item.name for item in METRICS.all() if item.build.default_for == kind)


def best_thresholds(targets: np.ndarray, scores: np.ndarray) -> tuple[float, ...]:
    """The probability of each class from which on a clip has it: with the best F1 on these clips.

    Halfway, in logits, between the last clip that then has the class and the next; of equally good
    ones the lowest. 0.5 for a class without a known positive.

    Args:
        targets: (N, C), 0 or 1, NaN where unknown.
        scores: logits (N, C), finite.
    """
    from sklearn.metrics import precision_recall_curve  # slow; not needed for planning

    found = []
    for _, labels, logits in _known(targets, scores.astype(float)):
        if not labels.any():
            found.append(0.5)
            continue
        precision, recall, cuts = precision_recall_curve(labels, logits)
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(f1[:-1].argmax())
        found.append(float(expit(0.5 * (cuts[best] + cuts[max(0, best - 1)]))))
    return tuple(found)


def _mean(per_class: PerClass, needs_negatives: bool) -> tuple[float, PerClass]:
    if not per_class:
        lacking = "both a positive and a negative" if needs_negatives else "a positive"
        problem = f"no class has {lacking} among the clips"
        remedy = f"Score clips among which a class has {lacking}."
        raise InputError(problem, field="metrics", remedy=remedy)
    return float(np.mean(list(per_class.values()))), per_class


def _known(targets: np.ndarray, scores: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each class with its known labels as booleans, and their scores."""
    for c in range(targets.shape[1]):
        known = ~np.isnan(targets[:, c])
        yield c, targets[known, c] > 0.5, scores[known, c]


class _AveragePrecision(Metric):
    """The mean of average precision over the classes with both positives and negatives.

    Without negatives any scores have an average precision of 1. The reference code counts such a
    class, and one without positives as 0, see `mAP_official`.
    """

    bounds = (0.0, 1.0)
    needs_all_labels = True
    needs_negatives = True
    uses_margin = True
    default_for: DataKind | None = "multi_label"
    per_class_name: str | None = "AP"

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        """The mean over classes, and the value of each, see `Metric`."""
        from sklearn.metrics import average_precision_score  # slow; not needed for planning

        per_class = {
            c: float(average_precision_score(labels, values))
            for c, labels, values in _known(targets, scores)
            if labels.any() and not (self.needs_negatives and labels.all())
        }
        return _mean(per_class, self.needs_negatives)

    def resample(self, clips: ScoredClips, weights: np.ndarray) -> np.ndarray:
        return clips.rank_means(weights).precision


class _Official(_AveragePrecision):
    """Macro average precision as the paper reports it.

    ``ex_audioset.py`` of the reference code: the mean of scikit-learn's
    ``average_precision_score(average=None)`` over all classes, which is 0 for a class without
    positives and 1 for one without negatives. If every class has both, it equals `mAP`.
    """

    needs_negatives = False
    default_for = None
    per_class_name = None
    absent = "count as 0"

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        """As `Metric.compute`, with 0 for each class without a positive."""
        _, present = super().compute(targets, scores)
        per_class = {c: present.get(c, 0.0) for c in range(targets.shape[1])}
        return _mean(per_class, self.needs_negatives)

    def resample(self, clips: ScoredClips, weights: np.ndarray) -> np.ndarray:
        return clips.rank_means(weights).official


class _Masked(_AveragePrecision):
    """The metric of OpenMIC: average precision of each class over the clips with a known label.

    ``ex_openmic.py`` of the reference code weights clips by the mask (``sample_weight``), which
    skips those without a label. A class without a known positive, or without a known negative, does
    not enter the mean.
    """

    needs_all_labels = False
    default_for = "partly_labelled"
    per_class_name = None


class _RocAuc(Metric):
    """Area under the ROC curve: how often a positive scores above a negative; a tie counts half.

    The mean over the classes with both positives and negatives among the known labels.
    """

    bounds = (0.0, 1.0)
    needs_negatives = True

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        """The mean over classes, and the value of each, see `Metric`."""
        per_class = {}
        for c, labels, values in _known(targets, scores):
            if labels.any() and not labels.all():
                once = np.ones((len(labels), 1), dtype=np.float32)
                per_class[c] = float(RankSums(labels, values).statistics(once)[1][0])
        return _mean(per_class, self.needs_negatives)

    def resample(self, clips: ScoredClips, weights: np.ndarray) -> np.ndarray:
        return clips.rank_means(weights).area


class _DPrime(_RocAuc):
    """Sensitivity index d' = √2 Φ⁻¹(AUC): distance of two normals in standard deviations.

    The total is d' of the mean AUC, as papers on AudioSet report it since Hershey et al. 2017 (the
    code of PANNs and of AST does the same), and not the mean of the classes' d', in which a nearly
    perfect class would outweigh all others. An area of exactly 0 or 1, whose d' would be infinite,
    is moved by half a pair of clips (Macmillan and Kaplan 1985).
    """

    bounds = (-inf, inf)
    same_classes_as = "AUC"

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        """As `Metric.compute`; the value is that of the mean area, not the mean over classes."""
        area, per_class = super().compute(targets, scores)
        halves = {c: _half_a_pair(targets[:, c]) for c in per_class}
        values = {c: _to_d_prime(x, halves[c]) for c, x in per_class.items()}
        return _to_d_prime(area, float(np.mean(list(halves.values())))), values

    def resample(self, clips: ScoredClips, weights: np.ndarray) -> np.ndarray:
        columns = (clips.targets[:, c] for c in range(clips.targets.shape[1]))
        both = [t for t in columns if (t > 0.5).any() and (t <= 0.5).any()]
        half = float(np.mean([_half_a_pair(t) for t in both]))
        return np.array([_to_d_prime(x, half) for x in super().resample(clips, weights)])


def _half_a_pair(targets: np.ndarray) -> float:
    return float(0.5 / ((targets > 0.5).sum() * (targets <= 0.5).sum()))


def _to_d_prime(area: float, half: float) -> float:
    """The d' of an area; an area of exactly 0 or 1 is moved inward by ``half``."""
    if area in (0, 1):
        area = abs(area - half)
    return float(sqrt(2) * ndtri(area))


class _Accuracy(Metric):
    """Top-1 accuracy of single-label clips; per class, the recall."""

    bounds = (0.0, 1.0)
    needs_all_labels = True
    one_class_a_clip = True
    uses_margin = True
    default_for = "one_class"

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        """The mean over classes, and the value of each, see `Metric`."""
        label, correct = targets.argmax(axis=1), self.correct(targets, scores)
        per_class = {int(c): float(correct[label == c].mean()) for c in np.unique(label)}
        return float(correct.mean()), per_class

    def correct(self, targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
        right: np.ndarray = scores.argmax(axis=1) == targets.argmax(axis=1)
        return right

    def resample(self, clips: ScoredClips, weights: np.ndarray) -> np.ndarray:
        correct = self.correct(clips.targets, clips.scores).astype(np.float32)
        accuracies: np.ndarray = correct @ weights / len(correct)
        return accuracies


for _name, _metric, _summary in (
    (
        "mAP",
        _AveragePrecision(),
        "macro average precision over classes with positives and negatives",
    ),
    ("mAP_official", _Official(), "macro average precision, a class without positives is 0"),
    ("mAP_masked", _Masked(), "macro average precision over the labels that are known"),
    ("AUC", _RocAuc(), "macro area under the ROC curve"),
    ("dprime", _DPrime(), "d-prime computed from the macro AUC"),
    ("accuracy", _Accuracy(), "top-1 accuracy"),
):
    METRICS.register(_name, version=1, summary=_summary)(_metric)


def scored_note(name: str, targets: np.ndarray, classes: Sequence[str]) -> str | None:
    """A sentence for the record on how many classes a metric is the mean of, if not all."""
    metric: Metric = METRICS.get(name).build
    absent, why = np.asarray(~(targets > 0.5).any(axis=0)), "a positive clip"
    if metric.needs_negatives:
        absent |= ~(targets <= 0.5).any(axis=0)
        why = "both positive and negative clips"
    if not absent.any():
        return None
    names = [label for label, is_absent in zip(classes, absent, strict=True) if is_absent]
    return (
        f"{name}: {len(classes) - len(names)} of {len(classes)} classes have {why}; the others "
        f"{metric.absent}: {first_few(names)}"
    )
