"""Power analysis: what a number of blocks can detect, and how many are needed."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from passt_bench.analysis.blocks import NAN, Floats

POWER = 0.8
LEVEL = 0.05
MAX_BLOCKS = 1000


def detectable(error: float, df: float, comparisons: int = 1) -> float:
    """The true difference that a two-sided t test detects with probability 0.8.

    The level is .05 divided by the number of comparisons, the worst case of Holm's correction.

    Args:
        error: standard error of the difference.
        df: its degrees of freedom.
        comparisons: number of comparisons of the study.

    Returns:
        The difference in the metric's unit; NaN without degrees of freedom.
    """
    if not (df > 0 and np.isfinite(error)):
        return NAN
    critical = stats.t.isf(LEVEL / comparisons / 2, df)
    return error * float(special.nctdtrinc(df, 1 - POWER, critical))


def smallest_margin(error: float, df: float) -> float:
    """The smallest margin within which true equality is confirmed with probability 0.8.

    Args:
        error: standard error of the difference.
        df: its degrees of freedom.

    Returns:
        The margin in the metric's unit; NaN without degrees of freedom.
    """
    if not (df > 0 and np.isfinite(error)):
        return NAN
    # Union bound over the two one-sided tests: each may fail with half of the probability.
    return error * float(special.nctdtrinc(df, (1 - POWER) / 2, stats.t.isf(LEVEL, df)))


def blocks_to_settle(
    difference: float,
    unit: float,
    df_per_block: int,
    margin: float,
    *,
    comparisons: int = 1,
    more_than: int = 1,
) -> int | None:
    """The minimum number of blocks that gives a verdict with probability 0.8.

    A verdict is ``better`` or ``worse`` in Holm's worst case, or ``same``. The true difference is
    assumed to be the given one, usually observed, so this is an estimate, not a guarantee.

    Args:
        difference: the true difference.
        unit: standard error of the difference in one block.
        df_per_block: residual degrees of freedom that a block adds.
        margin: margin of equivalence.
        comparisons: number of comparisons of the study.
        more_than: number of existing blocks.

    Returns:
        The number of blocks; None beyond 1000 or without an estimate of the noise.
    """
    first = max(more_than + 1, 2)
    if not (np.isfinite(unit) and np.isfinite(difference)) or df_per_block < 1:
        return None
    if unit == 0.0:
        return first
    n = np.arange(first, MAX_BLOCKS + 1, dtype=np.float64)
    df: Floats = df_per_block * (n - 1)
    error: Floats = unit / np.sqrt(n)
    size = abs(difference)
    power = _power(size / error, df, LEVEL / comparisons / 2)
    if size < margin:
        inside = _power((margin - size) / error, df, LEVEL)
        same = inside + _power((margin + size) / error, df, LEVEL) - 1
        power = np.maximum(power, same)
    enough = n[power >= POWER]
    return int(enough[0]) if len(enough) else None


def _power(noncentrality: Floats, df: Floats, level: float) -> Floats:
    """The probability that t exceeds its one-sided critical value."""
    critical = np.asarray(stats.t.isf(level, df), dtype=np.float64)
    below = np.asarray(special.nctdtr(df, noncentrality, critical), dtype=np.float64)
    return 1 - below
