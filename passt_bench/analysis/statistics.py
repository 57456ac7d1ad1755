"""Fits randomized blocks; computes simultaneous intervals of contrasts, and what they can show.

Tables are arrays of shape (arms, blocks), NaN where a cell is missing. The model is
``y[arm, block] = mean[arm] + effect[block] + noise``, the noise of each arm with a variance of its
own; all functions are pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special  # its stats take half a second to import

from passt_bench.spec.study import INTERVAL_FROM

Floats = NDArray[np.float64]
Method = Literal["own", "hull", "none"]

NAN = float("nan")
ROUNDING = 1e-6  # tolerance for a contrast's weights, which are about 1
SINGULAR = 1e-10  # eigenvalues of X'X below this fraction of the largest count as zero
POWER = 0.8
LEVEL = 0.05
MAX_BLOCKS = 1000
OWN_FROM = 5  # blocks from which an arm's own variance is estimated well enough
DRAWS = 20_000  # of the simulation of simultaneous intervals; they then differ by under 1 %


@dataclass(frozen=True)
class BlockFit:
    """The additive least-squares fit of arms and blocks, with the blocks eliminated."""

    present: NDArray[np.bool_]  # (arms, blocks), the cells that it was fitted to
    means: Floats  # (arms,); only estimable contrasts of them are meaningful
    gram: Floats  # X'X of the arms adjusted for the blocks, (arms, arms)
    inverse: Floats  # its pseudo-inverse
    variances: Floats  # (arms,), residual variance of each arm; NaN without degrees of freedom
    dfs: Floats  # (arms,), their degrees of freedom, which need not be whole

    @property
    def df(self) -> float:
        """Residual degrees of freedom of all arms."""
        return float(self.dfs.sum())

    @property
    def variance(self) -> float:
        """Residual variance pooled over the arms; NaN without degrees of freedom."""
        known = self.dfs > 0
        return float(self.variances[known] @ self.dfs[known]) / self.df if known.any() else NAN

    def estimate(self, weights: Floats) -> float:
        """A sum of means with weights that add up to zero; NaN if the cells do not determine it."""
        if np.abs(self.gram @ (self.inverse @ weights) - weights).max() > ROUNDING:
            return NAN
        return float(weights @ self.means)

    def cell_weights(self, weights: Floats) -> Floats:
        """The weight of each cell in `estimate`, (arms, blocks)."""
        adjusted = self.inverse @ weights
        in_block = adjusted @ self.present / np.maximum(self.present.sum(axis=0), 1)
        return np.where(self.present, adjusted[:, None] - in_block, 0.0)


def fit_blocks(y: Floats) -> BlockFit:
    """Fits arms and blocks to the cells that are present, by the reduced normal equations.

    An arm's degrees of freedom are the sum of its residuals' expected squares under equal noise:
    with a arms and n complete blocks (n - 1)(a - 1)/a.
    """
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
    residuals = np.where(present, centered - means[:, None] + means @ weight, 0.0)
    spread = inverse @ weight
    leverage = weight + np.diag(inverse)[:, None] - 2 * spread + (weight * spread).sum(axis=0)
    dfs = np.where(present, 1 - leverage, 0.0).sum(axis=1)
    dfs[dfs < ROUNDING] = 0.0
    squares = (residuals**2).sum(axis=1)
    # Rounding errors of equal differences must not count as variance.
    rounding = 64 * np.finfo(float).eps * float(np.max(np.abs(values), initial=0.0))
    if squares.sum() <= present.sum() * rounding**2:
        squares = np.zeros_like(squares)
    variances = np.divide(squares, dfs, out=np.full(len(y), NAN), where=dfs > 0)
    return BlockFit(present, means, gram, inverse, variances, dfs)


def fit_passes(y: Floats, folds: Sequence[Floats] = ()) -> BlockFit:
    """`fit_blocks`; of data with folds, whose tables are given, with the larger of two variances.

    The observations in ``y`` are then means over the folds. Their variance is estimated from them,
    and from the residuals within each fold, which has more degrees of freedom but misses what a
    seed does to all of its folds.
    """
    fit = fit_blocks(y)
    if not folds:
        return fit
    each = [fit_blocks(table) for table in folds]
    within = np.mean([other.variances for other in each], axis=0) / len(folds)
    larger = within > fit.variances
    dfs = np.where(larger, np.sum([other.dfs for other in each], axis=0), fit.dfs)
    return replace(fit, variances=np.where(larger, within, fit.variances), dfs=dfs)


@dataclass(frozen=True)
class Contrast:
    """The difference of two arms, or another weighted sum of arm means, with its interval.

    Attributes:
        n: blocks that all of its arms have.
        estimate: the difference; NaN if it cannot be estimated.
        low: lower end of the simultaneous interval; NaN below three blocks.
        high: its upper end.
        single: the interval that is not corrected for the other contrasts.
        error: standard error; of a hull, that of the wider of its intervals.
        df: its degrees of freedom.
        critical: half width of the simultaneous interval in standard errors.
        method: ``own``: each arm has its own variance. ``hull``: of the interval with pooled
            variance and the paired one. ``none``: no interval.
    """

    n: int
    estimate: float
    low: float = NAN
    high: float = NAN
    single: tuple[float, float] = (NAN, NAN)
    error: float = NAN
    df: float = 0.0
    critical: float = NAN
    method: Method = "none"


@dataclass(frozen=True)
class _Test:
    """A way to test several contrasts: the variance of each is a sum of estimated variances."""

    method: Method
    estimates: Floats  # (contrasts,)
    covariance: Floats  # of the estimates, (contrasts, contrasts)
    parts: Floats  # (contrasts, variances)
    dfs: Floats  # (variances,)
    level: float

    @property
    def errors(self) -> Floats:
        """Standard errors, (contrasts,)."""
        return np.sqrt(self.parts.sum(axis=1))

    @property
    def of_errors(self) -> Floats:
        """Degrees of freedom of the errors by Welch and Satterthwaite, (contrasts,)."""
        total = self.parts.sum(axis=1)
        squares = (self.parts**2 / self.dfs).sum(axis=1)
        # Without any noise no interval depends on them.
        return np.divide(total**2, squares, out=np.full(len(total), np.inf), where=squares > 0)

    @property
    def quantiles(self) -> Floats:
        """Half widths of single intervals in standard errors, (contrasts,)."""
        return np.asarray(-special.stdtrit(self.of_errors, self.level / 2), dtype=np.float64)

    def factor(self, draws: int) -> float:
        """How many times wider all intervals cover together, by simulation.

        Single step: of every draw the largest t counts, relative to the quantile of its contrast.
        """
        noisy = self.errors > 0
        if noisy.sum() < 2:
            return 1.0
        # Only correlations are taken from the covariance; deviations are those of the errors.
        covariance, errors = self.covariance[np.ix_(noisy, noisy)], self.errors[noisy]
        scale = errors / np.sqrt(np.maximum(np.diag(covariance), np.finfo(float).tiny))
        values, vectors = np.linalg.eigh(covariance * np.outer(scale, scale))
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        random = np.random.default_rng(20261128)  # so that a table always gives the same intervals
        deviations = random.standard_normal((draws, len(values))) @ root.T
        variances = random.standard_gamma(self.dfs / 2, (draws, len(self.dfs))) * 2 / self.dfs
        t = np.abs(deviations) / np.sqrt(variances @ self.parts[noisy].T)
        largest = (t / self.quantiles[noisy]).max(axis=1)
        return max(1.0, float(np.quantile(largest, 1 - self.level)))

    def contrasts(self, blocks: Sequence[int], draws: int) -> list[Contrast]:
        """The tested contrasts, which have so many blocks."""
        factor, halves = self.factor(draws), self.quantiles * self.errors
        each = (self.estimates, halves, self.errors, self.of_errors, factor * self.quantiles)
        return [
            Contrast(
                n, float(value), float(value - factor * half), float(value + factor * half),
                (float(value - half), float(value + half)), float(error), float(df),
                float(critical), self.method,
            )
            for n, value, half, error, df, critical in zip(blocks, *each, strict=True)
        ]  # fmt: skip


def contrasts(
    y: Floats,
    weights: ArrayLike,
    folds: Sequence[Floats] = (),
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> list[Contrast]:
    """Weighted sums of arm means with intervals that cover all of them with probability 1 - level.

    From five blocks on every arm has its own variance (Welch and Satterthwaite). Below, those are
    too uncertain: the interval is the hull of the one with pooled variance and the paired one, and
    there is none below three blocks.

    Args:
        y: the table.
        weights: of the arms in each contrast, (contrasts, arms); each row adds up to zero.
        folds: the tables of the folds that ``y`` is the mean of, see `fit_passes`.
        level: probability that not all intervals cover.
        draws: of the simulation that makes the intervals cover together.

    Raises:
        ValueError: the weights are not one per arm, are all zero, or do not add up to zero.
    """
    w = np.atleast_2d(np.asarray(weights, dtype=np.float64))
    if w.ndim != 2 or w.shape[1] != len(y) or not (w != 0).any(axis=1).all():
        raise ValueError(f"a weight per arm ({len(y)}), not all zero, is needed: {w.tolist()}")
    if np.abs(w.sum(axis=1)).max(initial=0.0) > 1e-9:
        raise ValueError(f"weights that add up to zero are needed: {w.tolist()}")
    fit = fit_passes(y, folds)
    own_sums = [_sums_in_blocks(y, row) for row in w]
    found = [Contrast(len(d), fit.estimate(row)) for row, d in zip(w, own_sums, strict=True)]
    tested = [k for k, c in enumerate(found) if c.n >= INTERVAL_FROM and np.isfinite(c.estimate)]
    if not tested:
        return found
    own, *others = _tests(fit, w[tested], [own_sums[k] for k in tested], level)
    blocks = [found[k].n for k in tested]
    many = own.contrasts(blocks, draws) if max(blocks) >= OWN_FROM else []
    few = [test.contrasts(blocks, draws) for test in others] if min(blocks) < OWN_FROM else []
    for place, k in enumerate(tested):
        found[k] = many[place] if found[k].n >= OWN_FROM else _hull(*(c[place] for c in few))
        value = own_sums[k][0]
        if found[k].error == 0.0 and np.ptp(own_sums[k]) == 0.0:  # without the fit's rounding
            found[k] = replace(found[k], estimate=value, low=value, high=value)
    return found


def _sums_in_blocks(y: Floats, weights: Floats) -> Floats:
    """The contrast in each block that has all of its arms."""
    used = weights != 0
    sums = weights[used] @ y[used]
    return sums[np.isfinite(sums)]


def _tests(fit: BlockFit, w: Floats, sums: Sequence[Floats], level: float) -> list[_Test]:
    """With each arm's own variance, with pooled variance, and with that of the contrast itself."""
    cells = np.array([fit.cell_weights(row) for row in w])  # (contrasts, arms, blocks)
    estimates = w @ fit.means
    known = fit.dfs > 0
    variances, squares = fit.variances[known], (cells[:, known] ** 2).sum(axis=2)
    covariance = np.einsum("kab,lab,a->kl", cells[:, known], cells[:, known], variances)
    pooled = np.einsum("kab,lab->kl", cells, cells) * fit.variance
    own = squares * variances
    paired = np.array([d.var(ddof=1) / len(d) for d in sums])
    return [
        _Test("own", estimates, covariance, own, fit.dfs[known], level),
        _Test("hull", estimates, pooled, np.diag(pooled)[:, None], np.array([fit.df]), level),
        _Test("hull", np.array([d.mean() for d in sums]), covariance, np.diag(paired),
              np.array([len(d) - 1.0 for d in sums]), level),
    ]  # fmt: skip


def _hull(pooled: Contrast, paired: Contrast) -> Contrast:
    """The hull of two intervals around the estimate of the first."""
    wider = max(pooled, paired, key=lambda c: c.high - c.low)
    lows, highs = zip(pooled.single, paired.single, strict=True)
    return replace(
        wider,
        estimate=pooled.estimate,
        low=min(pooled.low, paired.low),
        high=max(pooled.high, paired.high),
        single=(min(lows), max(highs)),
    )


def baseline_weights(arms: int, baseline: int) -> Floats:
    """The weights of every other arm minus the baseline, (arms - 1, arms)."""
    weights = np.eye(arms)
    weights[:, baseline] -= 1.0
    return np.delete(weights, baseline, axis=0)


def mean_interval(values: Floats) -> tuple[float, float]:
    """The 95 % t interval of the mean of an arm over further blocks; NaN below three blocks."""
    own = values[np.isfinite(values)]
    if len(own) < INTERVAL_FROM:
        return NAN, NAN
    middle = float(own.mean())
    error = float(own.std(ddof=1) / np.sqrt(len(own)))
    half = float(special.stdtrit(len(own) - 1, 1 - LEVEL / 2)) * error
    return middle - half, middle + half


@lru_cache
def planned_contrast(
    arms: int, blocks: int, deviation: float = 1.0, level: float = LEVEL
) -> Contrast:
    """What each contrast with the baseline will be if all arms have the same noise.

    Args:
        arms: of a complete table, the baseline included.
        blocks: of a complete table.
        deviation: standard deviation of the noise of a cell, after block effects.
        level: as in `contrasts`.
    """
    if arms < 2 or blocks < INTERVAL_FROM:
        return Contrast(blocks, 0.0)
    w, variance = baseline_weights(arms, 0), deviation**2 / blocks
    covariance = w @ w.T * variance
    if blocks >= OWN_FROM:
        dfs = np.full(arms, (blocks - 1) * (arms - 1) / arms)
        test = _Test("own", np.zeros(arms - 1), covariance, w**2 * variance, dfs, level)
    else:  # the paired interval is nearly always the wider one
        parts, dfs = np.diag(np.diag(covariance)), np.full(arms - 1, blocks - 1.0)
        test = _Test("hull", np.zeros(arms - 1), covariance, parts, dfs, level)
    return test.contrasts([blocks] * (arms - 1), DRAWS)[0]


def detectable(contrast: Contrast) -> float:
    """The true difference whose interval excludes zero with probability 0.8; NaN without interval.

    It is also the smallest margin within which a variant without any loss is *not worse* as often.
    """
    return _reached(contrast, 1 - POWER)


def smallest_margin(contrast: Contrast) -> float:
    """The smallest margin that has the interval of equal arms inside with probability 0.8."""
    # Union bound over the two ends: each may stick out with half of the probability.
    return _reached(contrast, (1 - POWER) / 2)


def _reached(contrast: Contrast, missed: float) -> float:
    if not np.isfinite(contrast.error):
        return NAN
    reached = special.nctdtrinc(contrast.df, missed, contrast.critical)
    return contrast.error * float(reached)


def blocks_needed(
    contrast: Contrast, margin: float, arms: int, comparisons: int, level: float = LEVEL
) -> tuple[int, int | None] | None:
    """The blocks that decide a contrast with probability 0.8, as a range.

    A verdict is *better*, *worse* or *same*. The true difference is assumed to be the estimate, the
    noise to be at the ends of its own 80 % interval, and other blocks to be like these: a plan, not
    a guarantee. The last is None beyond 1000 blocks; the whole is None if the first is, or without
    an estimate of the noise.
    """
    if not np.isfinite(contrast.error):
        return None
    first = max(contrast.n + 1, OWN_FROM)
    if contrast.error == 0.0:
        return first, first
    n = np.arange(first, MAX_BLOCKS + 1, dtype=np.float64)
    df = 2 * (n - 1) * (arms - 1) / arms
    level /= max(comparisons, 1)  # Bonferroni's, a little more than what will be needed
    ends = []
    for share in (0.9, 0.1):
        chi2 = 2 * special.gammaincinv(contrast.df / 2, share)
        noise = contrast.error * np.sqrt(contrast.n * contrast.df / chi2)
        ends.append(_first_decided(abs(contrast.estimate), noise / np.sqrt(n), df, level, margin))
    low, high = (None if end is None else first + end for end in ends)
    return None if low is None else (low, high)


def _first_decided(
    size: float, error: Floats, df: Floats, level: float, margin: float
) -> int | None:
    power = _power(size / error, df, level / 2)
    if size < margin:
        inside = _power((margin - size) / error, df, level / 2)
        same = inside + _power((margin + size) / error, df, level / 2) - 1
        power = np.maximum(power, same)
    enough = np.flatnonzero(power >= POWER)
    return int(enough[0]) if len(enough) else None


def _power(noncentrality: Floats, df: Floats, level: float) -> Floats:
    """The probability that t exceeds its one-sided critical value."""
    critical = np.asarray(-special.stdtrit(df, level), dtype=np.float64)
    below = np.asarray(special.nctdtr(df, noncentrality, critical), dtype=np.float64)
    return 1 - below
