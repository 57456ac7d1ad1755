"""Average precision and ROC AUC of one class from ranks, for many weightings of the clips at once.

What a resampling needs: clips are sorted once, and a resample is a weight (how often it drew each
clip). With weights of one both values are scikit-learn's.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix


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
