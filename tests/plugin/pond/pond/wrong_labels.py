"""A metric: the share of labels that are wrong where logits are cut at 0."""

from __future__ import annotations

import numpy as np

from passt_bench.registry import METRICS
from passt_bench.training.metrics import Metric, PerClass


class WrongLabels(Metric):
    """The share over all labels, and by class."""

    better = "less"
    bounds = (0.0, 1.0)
    needs_all_labels = True

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        wrong = (targets > 0.5) != (scores > 0)
        return float(wrong.mean()), {c: float(wrong[:, c].mean()) for c in range(wrong.shape[1])}


METRICS.register("wrong_labels", version=6, summary="share of wrong labels")(WrongLabels())
