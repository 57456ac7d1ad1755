"""Contrasts of arms, their intervals, Holm's correction and equivalence tests.

Tables are arrays of shape (arms, blocks), NaN where a cell is missing, see `blocks`; all functions
are pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from passt_bench.analysis.blocks import NAN, BlockFit, Floats, Pool, drop_arms, fit_blocks


@dataclass(frozen=True)
class Contrast:
    """The difference of two arms, or another weighted sum of arm means.

    Attributes:
        n: blocks that all of its arms have.
        estimate: the difference; NaN if it cannot be estimated.
        error: its standard error; NaN below two blocks.
        df: degrees of freedom of ``error``.
        unit: standard error of the same contrast in one complete block.
        df_per_block: degrees of freedom that one more block adds.
        pooled: whether the variance is that of the pool, or only of the paired differences.
    """

    n: int
    estimate: float
    error: float
    df: int
    unit: float
    df_per_block: int
    pooled: bool

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The t interval, not corrected for multiplicity."""
        half = t_quantile(0.5 + level / 2, self.df) * self.error
        return self.estimate - half, self.estimate + half

    def p(self) -> float:
        """Two-sided p value for H0: no difference; 0 or 1 if the variance is 0."""
        if self.error == 0.0:
            return 1.0 if self.estimate == 0.0 else 0.0
        return 2 * t_tail(abs(self.estimate) / self.error, self.df)

    def p_equivalence(self, margin: float) -> float:
        """The p value of two one-sided tests (TOST) for H0: |difference| >= margin."""
        inside = margin - abs(self.estimate)
        if self.error == 0.0:
            return 0.0 if inside > 0 else 1.0
        return t_tail(inside / self.error, self.df)


def contrast(y: Floats, pool: Pool, arm: int, baseline: int) -> Contrast:
    """The difference of an arm to the baseline.

    Args:
        y: (arms, blocks), NaN where missing.
        pool: pool of the same table.
        arm: row of the arm.
        baseline: row of the baseline.
    """
    weights = np.zeros(len(y))
    weights[arm], weights[baseline] = 1.0, -1.0
    return weighted_contrast(y, pool, weights)


def weighted_contrast(y: Floats, pool: Pool, weights: ArrayLike) -> Contrast:
    """A weighted sum of arm means, e.g. one kind against another, or an interaction.

    Tested as `contrast` is: with the pooled variance, or, where one of its arms is noisy, by a t
    test over the blocks' own sums.

    Args:
        y: (arms, blocks), NaN where missing.
        pool: pool of the same table.
        weights: (arms,), which add up to zero.

    Raises:
        ValueError: the weights are not one per arm, are all zero, or do not add up to zero.
    """
    w = np.asarray(weights, dtype=np.float64)
    used = w != 0
    if w.shape != (len(y),) or not used.any() or abs(w.sum()) > 1e-9:
        raise ValueError(f"{len(y)} weights that add up to zero are needed, but got {w.tolist()}")
    difference = w[used] @ y[used]
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if n == 0:  # no test, but other arms may determine the difference
        return Contrast(0, fit_blocks(y).contrast(w)[0], NAN, 0, NAN, 1, True)
    if (pool.noisy & used).any():
        return _paired(difference)
    estimate, scale = pool.fit.contrast(w)
    deviation = float(np.sqrt(pool.fit.variance))
    error = scale * deviation if n > 1 else NAN
    per_block = int(np.isfinite(drop_arms(y, ~pool.pooled)).any(axis=1).sum()) - 1
    unit = float(np.sqrt(w @ w)) * deviation if n > 1 else NAN
    # For equal values, avoids the rounding of the fit.
    if error == 0.0 and np.ptp(difference) == 0.0:
        estimate = float(difference[0])
    return Contrast(n, estimate, error, pool.fit.df, unit, per_block, True)


def _paired(difference: Floats) -> Contrast:
    n = len(difference)
    mean = float(difference.mean()) if n else NAN
    unit = float(difference.std(ddof=1)) if n > 1 else NAN
    return Contrast(n, mean, unit / float(np.sqrt(max(n, 1))), max(n - 1, 0), unit, 1, False)


def holm(p: Floats) -> Floats:
    """Holm's step-down correction; NaN stays NaN and does not count.

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    corrected = np.full(len(p), np.nan)
    order = [int(i) for i in np.argsort(p, kind="stable") if np.isfinite(p[i])]
    running = 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * float(p[i])))
        corrected[i] = running
    return corrected


def mean_interval(y: Floats, pool: Pool, arm: int) -> tuple[float, float]:
    """The 95 % interval of an arm's own mean over further blocks.

    The variance of one observation, between blocks and within, is pooled over the pool's arms.
    Because arms share the blocks, its degrees of freedom are Satterthwaite's, between blocks - 1
    and all. A noisy arm has its own t interval.

    Returns:
        Low and high; NaN below two blocks.
    """
    own = y[arm][np.isfinite(y[arm])]
    if len(own) < 2:
        return NAN, NAN
    if pool.noisy[arm]:
        variance, df = float(own.var(ddof=1)), float(len(own) - 1)
    else:
        variance, df = _observation_variance(drop_arms(y, ~pool.pooled), pool.fit)
    half = t_quantile(0.975, df) * float(np.sqrt(variance / len(own)))
    return float(own.mean()) - half, float(own.mean()) + half


def _observation_variance(y: Floats, fit: BlockFit) -> tuple[float, float]:
    """Variance of one observation around its arm's mean, and its degrees of freedom."""
    counts = np.isfinite(y).sum(axis=1)
    total = sum(float(((row - row.mean()) ** 2).sum()) for row in map(_present, y[counts > 0]))
    df_total = int((counts[counts > 0] - 1).sum())
    df_blocks = df_total - fit.df
    between = max(total - fit.sse, 0.0)
    spread = between**2 / df_blocks if df_blocks else 0.0
    spread += fit.sse**2 / fit.df if fit.df else 0.0
    df = total**2 / spread if spread > 0 else float(df_total)
    return total / df_total, df


def _present(row: Floats) -> Floats:
    present: Floats = row[np.isfinite(row)]
    return present


def t_quantile(level: float, df: float) -> float:
    """Quantile of Student's t; NaN without degrees of freedom."""
    return float(stats.t.ppf(level, df)) if df > 0 else NAN


def t_tail(t: float, df: float) -> float:
    """Upper tail of Student's t; NaN without degrees of freedom."""
    return float(stats.t.sf(t, df)) if df > 0 else NAN
