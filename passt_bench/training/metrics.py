"""Metrics over clips: average precision and accuracy, in total and per class.

Scores may be logits or probabilities: only their order counts. Logits are better, for a sigmoid in
float32 makes ties of everything beyond about 17.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score

from passt_bench.registry import METRICS

PerClass = dict[int, float]
Metric = Callable[[np.ndarray, np.ndarray], tuple[float, PerClass]]


def _check(targets: np.ndarray, scores: np.ndarray) -> None:
    if targets.shape != scores.shape or targets.ndim != 2 or not len(targets):
        raise ValueError(f"targets {targets.shape} and scores {scores.shape} must be one (N, C)")
    if not np.isfinite(scores).all():
        raise ValueError("scores hold NaN or infinity")


@METRICS.register("mAP", version=1, summary="macro average precision over classes with positives")
def mean_average_precision(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Macro average precision.

    Args:
        targets: (N, C), 0 or 1.
        scores: (N, C), finite.

    Returns:
        The mean over the classes that have a positive, and average precision by class index. A
        class without positives is left out (the reference code counts it as 0).
    """
    _check(targets, scores)
    per_class = {
        c: float(average_precision_score(targets[:, c] > 0.5, scores[:, c]))
        for c in range(targets.shape[1])
        if (targets[:, c] > 0.5).any()
    }
    if not per_class:
        raise ValueError("no class has a positive")
    return float(np.mean(list(per_class.values()))), per_class


@METRICS.register("accuracy", version=1, summary="share of clips whose class has the top score")
def accuracy(targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
    """Top-1 accuracy of single-label clips.

    Args:
        targets: (N, C), one-hot.
        scores: (N, C), finite.

    Returns:
        Share of right clips, and the same (recall) by class index.
    """
    _check(targets, scores)
    right = scores.argmax(axis=1) == targets.argmax(axis=1)
    label = targets.argmax(axis=1)
    per_class = {int(c): float(right[label == c].mean()) for c in np.unique(label)}
    return float(right.mean()), per_class
