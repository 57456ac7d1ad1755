"""Fits randomized blocks, and finds the arms that share one variance.

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
ROUNDING = 1e-6  # tolerance for a contrast's weights, which are about 1
SINGULAR = 1e-10  # eigenvalues of X'X below this fraction of the largest count as zero


@dataclass(frozen=True)
class BlockFit:
    """The additive least-squares fit of arms and blocks.

    Attributes:
        coefficients: (arms + blocks,); only estimable contrasts of them are meaningful.
        inverse: pseudo-inverse of X'X, (arms + blocks, arms + blocks).
        gram: X'X.
        sse: residual sum of squares; exactly 0 if it is only rounding.
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
        """A weighted sum of arm means; the weights add up to zero.

        Returns:
            The estimate, and its standard error in units of the residual deviation; both NaN if
            the present cells do not determine it.
        """
        c = np.concatenate([weights, np.zeros(len(self.coefficients) - self.arms)])
        if np.abs(self.gram @ (self.inverse @ c) - c).max() > ROUNDING:
            return NAN, NAN
        return float(c @ self.coefficients), float(np.sqrt(max(c @ self.inverse @ c, 0.0)))


def fit_blocks(y: Floats) -> BlockFit:
    """Fits arms and blocks to the cells that are present.

    Args:
        y: (arms, blocks), NaN where missing.
    """
    arms, blocks = y.shape
    present = np.isfinite(y)
    rows, columns = np.nonzero(present)
    values = y[rows, columns]
    # X has two ones per row, so its products are counts and sums; X itself would be large.
    gram: Floats = np.diag(
        np.concatenate([present.sum(axis=1), present.sum(axis=0)]).astype(np.float64)
    )
    gram[:arms, arms:] = present
    gram[arms:, :arms] = present.T
    sums = np.concatenate(
        [np.bincount(rows, values, minlength=arms), np.bincount(columns, values, minlength=blocks)]
    )
    # NumPy's default cut-off (1e-15 times the size) keeps rounded zeros, whose inverses dominate.
    # The smallest nonzero eigenvalue is far above this cut-off: the cells connect some dozens of
    # arms and blocks.
    inverse = np.asarray(np.linalg.pinv(gram, rtol=SINGULAR, hermitian=True), dtype=np.float64)
    coefficients = inverse @ sums
    sse = float(np.sum((values - coefficients[rows] - coefficients[arms + columns]) ** 2))
    # Rounding errors of equal differences must not count as variance.
    rounding = 64 * np.finfo(float).eps * float(np.max(np.abs(values), initial=0.0))
    if sse <= len(values) * rounding**2:
        sse = 0.0
    return BlockFit(coefficients, inverse, gram, sse, len(values) - _rank(present), arms)


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
    """The arms whose variance is pooled, and those that are too noisy.

    Attributes:
        fit: fit of the pooled arms; the other arms' rows are missing.
        pooled: (arms,), whether an arm is in the pool.
        noisy: (arms,), whether an arm is tested by its own paired differences instead.
    """

    fit: BlockFit
    pooled: Mask
    noisy: Mask


def pool_variance(y: Floats) -> Pool:
    """Finds the arms whose residual variance is more than fourfold that of all others.

    Such an arm is *noisy*: its contrasts are tested by paired t. It leaves the pool only if
    the F test is significant (p below .01), because removing an arm that is noisy by chance would
    make the pooled variance too small for the rest.

    Args:
        y: (arms, blocks), NaN where missing.
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
