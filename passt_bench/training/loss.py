"""Losses over logits and (mixed) targets, and the error for non-finite values.

Labels may be unknown. Shapes: B batch, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F


def loss_of(kind: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of a batch.

    ``bce`` is binary cross-entropy over all labels, ``ce`` cross-entropy with (mixed) one-hot
    targets. ``masked_bce`` is binary cross-entropy over the known labels, see `with_known`: their
    weighted mean. The reference code
    (``ex_openmic.py:157-187``) takes the mean over all entries, so that its loss falls with the
    share of known labels, and weights a mixed clip only by the mask of its first clip: the second
    clip's labels are ignored where the first's are unknown, and count as absent where only the
    first's are known.

    Args:
        kind: name in a recipe.
        logits: (B, C).
        targets: (B, C); for ``masked_bce`` (B, 2, C), or (B, C) with NaN for unknown labels.
    """
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, targets)
    if kind == "ce":
        return F.cross_entropy(logits, targets)
    if targets.ndim == 2:
        targets = torch.stack([targets.nan_to_num(), (~targets.isnan()).to(targets)], dim=1)
    positive, known = targets.unbind(dim=1)
    # Known * BCE(logits, positive / known), without the division.
    total = (known * F.softplus(logits) - positive * logits).sum()
    return total / known.sum().clamp(min=1e-6)  # 0 for a batch without known labels


def with_known(targets: np.ndarray) -> np.ndarray:
    """Converts targets with NaN for unknown labels to sums and weights, which can be mixed.

    Mixing is then the same weighted sum for both: a mixture of two clips has, for each label, the
    weighted sum of the known targets and the sum of their weights. Its loss is the weighted mean of
    the two clips' losses, whichever of their labels are known.

    Args:
        targets: (B, C), 0, 1 or NaN.

    Returns:
        (B, 2, C) float32: positive (0 where unknown), and known (1 or 0).
    """
    known = ~np.isnan(targets)
    stacked: np.ndarray = np.stack([np.where(known, targets, 0), known], axis=1).astype(np.float32)
    return stacked


class Diverged(RuntimeError):
    """The loss or the outputs of the trained model are not finite."""
