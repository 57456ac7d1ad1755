"""Randomised blocks: additive fit, contrasts, Holm's correction, equivalence.

Tables are arrays of shape (arms, blocks), NaN where a cell is missing. The model is
``y[arm, block] = mean[arm] + effect[block] + noise``; all functions are pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.sparse.csgraph import connected_components

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAN = float("nan")
VARIANCE_RATIO = 4.0
OUTLIER_LEVEL = 0.01


@dataclass(frozen=True)
class BlockFit:
    """The least-squares fit of arms and blocks, additive.

    Attributes:
        coefficients: (arms + blocks,), only their estimable contrasts mean something.
        inverse: pseudo-inverse of X'X, (arms + blocks, arms + blocks).
        gram: X'X.
        sse: residual sum of squares; exactly 0 where it is nothing but rounding.
        df: residual degrees of freedom.
        arms: number of arms.
    """

    coefficients: Floats
    inverse: Floats
    gram: Floats
    sse: float
    df: int
    arms: int

    @property
    def variance(self) -> float:
        """Residual variance; NaN without degrees of freedom."""
        return self.sse / self.df if self.df > 0 else NAN

    def contrast(self, weights: Floats) -> tuple[float, float]:
        """A weighted sum of arm means, the weights adding up to zero.

        Returns:
            The estimate, and its standard error in units of the residual deviation; both NaN
            where the present cells do not determine it.
        """
        c = np.concatenate([weights, np.zeros(len(self.coefficients) - self.arms)])
        if not np.allclose(self.gram @ self.inverse @ c, c, atol=1e-8):
            return NAN, NAN
        return float(c @ self.coefficients), float(np.sqrt(max(c @ self.inverse @ c, 0.0)))


def fit_blocks(y: Floats) -> BlockFit:
    """Fits arms and blocks to the cells that are present.

    Args:
        y: (arms, blocks), NaN where missing.
    """
    arms, blocks = y.shape
    there = np.isfinite(y)
    rows, columns = np.nonzero(there)
    values = y[rows, columns]
    # X has two ones a row, so its products are counts and sums; X itself would be large.
    gram: Floats = np.diag(
        np.concatenate([there.sum(axis=1), there.sum(axis=0)]).astype(np.float64)
    )
    gram[:arms, arms:] = there
    gram[arms:, :arms] = there.T
    sums = np.concatenate(
        [np.bincount(rows, values, minlength=arms), np.bincount(columns, values, minlength=blocks)]
    )
    inverse = np.asarray(np.linalg.pinv(gram, hermitian=True), dtype=np.float64)
    coefficients = inverse @ sums
    sse = float(np.sum((values - coefficients[rows] - coefficients[arms + columns]) ** 2))
    # Equal differences leave rounding errors, which must not pass for variance.
    rounding = 64 * np.finfo(float).eps * float(np.max(np.abs(values), initial=0.0))
    if sse <= len(values) * rounding**2:
        sse = 0.0
    return BlockFit(coefficients, inverse, gram, sse, len(values) - _rank(there), arms)


def _rank(there: Mask) -> int:
    """The rank of X: arms and blocks with cells, less one for each set that cells connect."""
    arms, blocks = np.flatnonzero(there.any(axis=1)), np.flatnonzero(there.any(axis=0))
    if not len(arms):
        return 0
    graph = np.zeros((len(arms) + len(blocks),) * 2)
    graph[: len(arms), len(arms) :] = there[np.ix_(arms, blocks)]
    parts, _ = connected_components(graph, directed=False)
    return len(graph) - int(parts)


@dataclass(frozen=True)
class Pool:
    """Whose variance is pooled.

    Attributes:
        fit: over the pooled arms; the others' rows are all missing in it.
        pooled: (arms,) in the pool.
        noisy: (arms,) tested by their own paired differences instead.
    """

    fit: BlockFit
    pooled: Mask
    noisy: Mask


def pool_variance(y: Floats) -> Pool:
    """Finds the arms whose residual variance is more than fourfold that of all others.

    Such an arm is *noisy*: its contrasts are tested by paired t. It leaves the pool only where
    the F test is sure of it (p below .01), because taking out an arm that is noisy by chance
    would make the pooled variance too small for the rest.

    Args:
        y: (arms, blocks), NaN where missing.
    """
    fit = fit_blocks(y)
    noisy = np.zeros(len(y), dtype=np.bool_)
    pooled = np.ones(len(y), dtype=np.bool_)
    for arm in range(len(y)):
        rest = fit_blocks(_without(y, np.arange(len(y)) == arm))
        df = fit.df - rest.df
        if rest.df < 1 or df < 1 or fit.sse <= rest.sse:
            continue
        # Under equal variances this is F(df, rest.df) exactly, with cells missing or not.
        ratio = (fit.sse - rest.sse) / df / rest.variance if rest.sse > 0 else np.inf
        noisy[arm] = ratio > VARIANCE_RATIO
        pooled[arm] = not (noisy[arm] and stats.f.sf(ratio, df, rest.df) < OUTLIER_LEVEL)
    return Pool(fit_blocks(_without(y, ~pooled)), pooled, noisy)


def _without(y: Floats, drop: Mask) -> Floats:
    return np.where(drop[:, None], np.nan, y)


@dataclass(frozen=True)
class Contrast:
    """The difference of two arms.

    Attributes:
        n: blocks that both have.
        estimate: the difference; NaN where it cannot be estimated.
        error: its standard error; NaN below two blocks.
        df: degrees of freedom of ``error``.
        unit: standard error of the same contrast in one complete block.
        df_per_block: degrees of freedom that one more block adds.
        pooled: residual variance of the pool, or of the paired differences alone.
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
        """Two-sided p of no difference; without any variance 0 or 1, the limits."""
        if self.error == 0.0:
            return 1.0 if self.estimate == 0.0 else 0.0
        return 2 * t_tail(abs(self.estimate) / self.error, self.df)

    def p_equivalence(self, margin: float) -> float:
        """The p of two one-sided tests (TOST) against |difference| >= margin."""
        inside = margin - abs(self.estimate)
        if self.error == 0.0:
            return 0.0 if inside > 0 else 1.0
        return t_tail(inside / self.error, self.df)


def contrast(y: Floats, pool: Pool, arm: int, baseline: int) -> Contrast:
    """The difference of an arm to the baseline.

    Args:
        y: (arms, blocks), NaN where missing.
        pool: of the same table.
        arm: row of the arm.
        baseline: row of the baseline.
    """
    difference = y[arm] - y[baseline]
    difference = difference[np.isfinite(difference)]
    n = len(difference)
    if pool.noisy[arm] or pool.noisy[baseline]:
        return _paired(difference)
    weights = np.zeros(len(y))
    weights[arm], weights[baseline] = 1.0, -1.0
    estimate, scale = pool.fit.contrast(weights)
    if n == 0:
        return Contrast(0, NAN, NAN, 0, NAN, 1, True)
    deviation = float(np.sqrt(pool.fit.variance))
    error = scale * deviation if n > 1 else NAN
    per_block = int(np.isfinite(_without(y, ~pool.pooled)).any(axis=1).sum()) - 1
    unit = float(np.sqrt(2)) * deviation if n > 1 else NAN
    # Equal values differ by nothing, not by the rounding of the fit.
    if np.ptp(difference) == 0.0 and error == 0.0:
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


def mean_interval(y: Floats, pool: Pool, arm: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of an arm's own mean over further blocks.

    The variance of one observation, between blocks and within, is pooled over the pool's arms.
    Because arms share the blocks, its degrees of freedom are Satterthwaite's, between blocks - 1
    and all. A noisy arm has its own plain t interval.

    Returns:
        Low and high; NaN below two blocks.
    """
    own = y[arm][np.isfinite(y[arm])]
    if len(own) < 2:
        return NAN, NAN
    if pool.noisy[arm]:
        variance, df = float(own.var(ddof=1)), float(len(own) - 1)
    else:
        variance, df = _observation_variance(_without(y, ~pool.pooled), pool.fit)
    half = t_quantile(0.5 + level / 2, df) * float(np.sqrt(variance / len(own)))
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
