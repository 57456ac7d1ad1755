"""A metric: the share of labels that are wrong where logits are cut at 0."""

from __future__ import annotations

import numpy as np

from passt_bench.registry import METRICS


@METRICS.register("wrong_labels", version=6, summary="share of wrong labels", better="less")
def wrong_labels(targets: np.ndarray, scores: np.ndarray) -> tuple[float, dict[int, float]]:
    """The share over all labels, and by class index."""
    wrong = (targets > 0.5) != (scores > 0)
    return float(wrong.mean()), {c: float(wrong[:, c].mean()) for c in range(wrong.shape[1])}
