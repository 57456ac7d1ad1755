"""Learning rate: a linear warm-up, then a cosine to zero."""

from __future__ import annotations

import math


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of a step, a pure function (so that a resumed run has the same).

    Args:
        step: from 0 to steps - 1.
        steps: of the whole training.
        peak: highest rate.
        warmup: share of the steps with a rising rate.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
