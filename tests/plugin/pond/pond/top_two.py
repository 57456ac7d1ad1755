"""A metric: the share of clips with a label among the two classes of the highest scores."""

from __future__ import annotations

import numpy as np

from passt_bench.registry import METRICS
from passt_bench.training.metrics import Metric, PerClass


class TopTwo(Metric):
    """The value of a class is that of the clips which have its label."""

    bounds = (0.0, 1.0)
    needs_all_labels = True

    def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
        highest = np.argsort(scores, axis=1)[:, -2:]
        found = np.take_along_axis(targets, highest, axis=1).max(axis=1)
        present = np.flatnonzero(targets.any(axis=0)).tolist()
        return float(found.mean()), {c: float(found[targets[:, c] > 0].mean()) for c in present}


METRICS.register("top_two", version=6, summary="label among the two highest scores")(TopTwo())
