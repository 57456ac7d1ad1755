"""Fits randomized blocks and computes contrasts, intervals, Holm's correction and power.

Tables are arrays of shape (arms, blocks), NaN where a cell is missing. The model is
``y[arm, block] = mean[arm] + effect[block] + noise``; all functions are pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAN = float("nan")
VARIANCE_RATIO = 4.0
OUTLIER_LEVEL = 0.01
ROUNDING = 1e-6  # tolerance for a contrast's weights, which are about 1
SINGULAR = 1e-10  # eigenvalues of X'X below this fraction of the largest count as zero
POWER = 0.8
LEVEL = 0.05
MAX_BLOCKS = 1000


@dataclass(frozen=True)
class BlockFit:
    """The additive least-squares fit of arms and blocks, with the blocks eliminated."""

    means: Floats  # (arms,); only estimable contrasts of them are meaningful
    gram: Floats  # X'X of the arms adjusted for the blocks, (arms, arms)
    inverse: Floats  # its pseudo-inverse
    sse: float  # residual sum of squares; exactly 0 if it is only rounding
    df: int  # residual degrees of freedom

    @property
    def variance(self) -> float:
        """Residual variance; NaN without degrees of freedom."""
        return self.sse / self.df if self.df > 0 else NAN

    def contrast(self, weights: Floats) -> tuple[float, float]:
        """A weighted sum of arm means, and its standard error per residual deviation.

        The weights add up to zero. Both are NaN if the present cells do not determine the sum.
        """
        if np.abs(self.gram @ (self.inverse @ weights) - weights).max() > ROUNDING:
            return NAN, NAN
        variance = max(float(weights @ self.inverse @ weights), 0.0)
        return float(weights @ self.means), float(np.sqrt(variance))


def fit_blocks(y: Floats) -> BlockFit:
    """Fits arms and blocks to the cells that are present, by the reduced normal equations."""
    present = np.isfinite(y)
    values = np.where(present, y, 0.0)
    weight = present / np.maximum(present.sum(axis=0), 1)  # of a cell in the mean of its block
    gram: Floats = np.diag(present.sum(axis=1).astype(np.float64)) - present @ weight.T
    # NumPy's default cut-off (1e-15 times the size) keeps rounded zeros, whose inverses dominate.
    # The smallest nonzero eigenvalue is far above this cut-off: the cells connect some dozens of
    # arms and blocks.
    inverse = np.asarray(np.linalg.pinv(gram, rtol=SINGULAR, hermitian=True), dtype=np.float64)
    centered = np.where(present, values - (values * weight).sum(axis=0), 0.0)
    means = inverse @ centered.sum(axis=1)
    fitted = means[:, None] - means @ weight
    sse = float(np.sum((centered - np.where(present, fitted, 0.0)) ** 2))
    # Rounding errors of equal differences must not count as variance.
    rounding = 64 * np.finfo(float).eps * float(np.max(np.abs(values), initial=0.0))
    count = int(present.sum())
    if sse <= count * rounding**2:
        sse = 0.0
    return BlockFit(means, gram, inverse, sse, count - _rank(present))


def _rank(present: Mask) -> int:
    """The rank of X: arms and blocks with cells, minus the number of connected components."""
    arms, blocks = np.flatnonzero(present.any(axis=1)), np.flatnonzero(present.any(axis=0))
    if not len(arms):
        return 0
    graph = np.zeros((len(arms) + len(blocks),) * 2)
    graph[: len(arms), len(arms) :] = present[np.ix_(arms, blocks)]
    parts, _ = connected_components(graph, directed=False)
    return len(graph) - int(parts)


@dataclass(frozen=True)
class Pool:
    """The arms whose variance is pooled, and those that are too noisy."""

    fit: BlockFit  # of the pooled arms; the other arms' rows are missing
    pooled: Mask  # (arms,), whether an arm is in the pool
    noisy: Mask  # (arms,), whether an arm is tested by its own paired differences instead


def pool_variance(y: Floats) -> Pool:
    """Finds the arms whose residual variance is more than fourfold that of all others.

    Such an arm is *noisy*: its contrasts are tested by paired t. It leaves the pool only if
    the F test is significant (p below .01), because removing an arm that is noisy by chance would
    make the pooled variance too small for the rest.
    """
    fit = fit_blocks(y)
    noisy = np.zeros(len(y), dtype=np.bool_)
    pooled = np.ones(len(y), dtype=np.bool_)
    for arm in range(len(y)):
        rest = fit_blocks(drop_arms(y, np.arange(len(y)) == arm))
        df = fit.df - rest.df
        if rest.df < 1 or df < 1 or fit.sse <= rest.sse:
            continue
        # Under equal variances this is F(df, rest.df) exactly, with cells missing or not.
        ratio = (fit.sse - rest.sse) / df / rest.variance if rest.sse > 0 else np.inf
        noisy[arm] = ratio > VARIANCE_RATIO
        pooled[arm] = not (noisy[arm] and stats.f.sf(ratio, df, rest.df) < OUTLIER_LEVEL)
    return Pool(fit_blocks(drop_arms(y, ~pooled)), pooled, noisy)


def drop_arms(y: Floats, drop: Mask) -> Floats:
    """The table with the rows of the arms in ``drop``, (arms,), set to missing."""
    return np.where(drop[:, None], np.nan, y)


@dataclass(frozen=True)
class Contrast:
    """The difference of two arms, or another weighted sum of arm means."""

    n: int  # blocks that all of its arms have
    estimate: float  # the difference; NaN if it cannot be estimated
    error: float  # its standard error; NaN below two blocks
    df: int  # degrees of freedom of the error
    unit: float  # standard error of the same contrast in one complete block
    df_per_block: int  # degrees of freedom that one more block adds
    pooled: bool  # whether the variance is that of the pool, or only of the paired differences

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
    """The difference of an arm (a row of the table) to the baseline."""
    weights = np.zeros(len(y))
    weights[arm], weights[baseline] = 1.0, -1.0
    return weighted_contrast(y, pool, weights)


def weighted_contrast(y: Floats, pool: Pool, weights: ArrayLike) -> Contrast:
    """A weighted sum of arm means, e.g. one kind against another, or an interaction.

    Tested with the variance of the table's pool, or, where one of its arms is noisy, by a t test
    over the blocks' own sums.

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
        unit = float(difference.std(ddof=1)) if n > 1 else NAN
        error = unit / float(np.sqrt(n))
        return Contrast(n, float(difference.mean()), error, n - 1, unit, 1, False)
    estimate, scale = pool.fit.contrast(w)
    deviation = float(np.sqrt(pool.fit.variance))
    error = scale * deviation if n > 1 else NAN
    per_block = int(np.isfinite(drop_arms(y, ~pool.pooled)).any(axis=1).sum()) - 1
    unit = float(np.sqrt(w @ w)) * deviation if n > 1 else NAN
    # For equal values, avoids the rounding of the fit.
    if error == 0.0 and np.ptp(difference) == 0.0:
        estimate = float(difference[0])
    return Contrast(n, estimate, error, pool.fit.df, unit, per_block, True)


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
    """The 95 % interval of an arm's own mean over further blocks; NaN below two blocks.

    The variance of one observation, between blocks and within, is pooled over the pool's arms.
    Because arms share the blocks, its degrees of freedom are Satterthwaite's, between blocks - 1
    and all. A noisy arm has its own t interval.
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
    arms = [row[np.isfinite(row)] for row in y if np.isfinite(row).any()]
    total = sum(float(((row - row.mean()) ** 2).sum()) for row in arms)
    df_total = sum(len(row) - 1 for row in arms)
    df_blocks = df_total - fit.df
    between = max(total - fit.sse, 0.0)
    spread = between**2 / df_blocks if df_blocks else 0.0
    spread += fit.sse**2 / fit.df if fit.df else 0.0
    df = total**2 / spread if spread > 0 else float(df_total)
    return total / df_total, df


def t_quantile(level: float, df: float) -> float:
    """Quantile of Student's t; NaN without degrees of freedom."""
    return float(stats.t.ppf(level, df)) if df > 0 else NAN


def t_tail(t: float, df: float) -> float:
    """Upper tail of Student's t; NaN without degrees of freedom."""
    return float(stats.t.sf(t, df)) if df > 0 else NAN


def detectable(error: float, df: float, comparisons: int = 1) -> float:
    """The true difference that a two-sided t test detects with probability 0.8.

    For a difference with that standard error and degrees of freedom (NaN without any). The level
    is .05 divided by the number of comparisons, the worst case of Holm's correction.
    """
    if not (df > 0 and np.isfinite(error)):
        return NAN
    critical = stats.t.isf(LEVEL / comparisons / 2, df)
    return error * float(special.nctdtrinc(df, 1 - POWER, critical))


def smallest_margin(error: float, df: float) -> float:
    """The smallest margin within which true equality is confirmed with probability 0.8."""
    if not (df > 0 and np.isfinite(error)):
        return NAN
    # Union bound over the two one-sided tests: each may fail with half of the probability.
    return error * float(special.nctdtrinc(df, (1 - POWER) / 2, stats.t.isf(LEVEL, df)))


def blocks_needed_for_verdict(
    difference: float,
    unit: float,
    df_per_block: int,
    margin: float,
    *,
    comparisons: int = 1,
    more_than: int = 1,
) -> int | None:
    """The minimum number of blocks, above ``more_than``, that gives a verdict.

    A verdict is ``better`` or ``worse`` in Holm's worst case, or ``same``, with probability 0.8.
    The true difference is assumed to be the given one, usually observed, so this is an estimate,
    not a guarantee. ``unit`` and ``df_per_block`` are those of a `Contrast`. None beyond 1000
    blocks or without an estimate of the noise.
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
