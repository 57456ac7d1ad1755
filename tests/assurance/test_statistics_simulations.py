"""Error rates of the verdicts, by simulation; the figures are in docs/statistics.md."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from passt_bench.analysis.statistics import contrast, detectable, holm, mean_interval, pool_variance

VARIANTS = 10  # nine comparisons
SHARED = 1.0  # standard deviation of the block effects; the noise has 1


@dataclass(frozen=True)
class Rates:
    """Shares of the simulated studies; ``found`` is how often arm 1 was called different."""

    rounds: int
    alarms: float
    found: float
    covered: float
    mean_covered: float
    same: float


def simulate(
    n: int,
    rounds: int,
    *,
    effect: float = 0.0,
    margin: float = 1.0,
    arms: int = VARIANTS,
    deviations: dict[int, float] | None = None,
    exponential: bool = False,
) -> Rates:
    """Studies in which arm 1 differs by ``effect`` from all others, which are equal."""
    rng = np.random.default_rng(20261102 + n)
    scale = np.ones((arms, 1))
    for arm, deviation in (deviations or {}).items():
        scale[arm] = deviation
    counts = np.zeros(5)
    for _ in range(rounds):
        noise = rng.exponential(size=(arms, n)) - 1 if exponential else rng.normal(size=(arms, n))
        y = noise * scale + SHARED * rng.standard_normal(n)
        y[1] += effect
        pool = pool_variance(y)
        contrasts = [contrast(y, pool, arm, 0) for arm in range(1, arms)]
        p = holm(np.array([c.p() for c in contrasts]))
        low, high = contrasts[0].interval()
        mean_low, mean_high = mean_interval(y, pool, 2 if arms > 2 else 0)
        counts += [
            (p[1:] if effect else p).min(initial=1.0) < 0.05,
            p[0] < 0.05,
            low < effect < high,
            mean_low < 0 < mean_high,
            contrasts[0].p_equivalence(margin) < 0.05,
        ]
    return Rates(rounds, *(counts / rounds))


def limits(rate: float, rounds: int) -> tuple[float, float]:
    """Where a simulated share of a true rate lies in all but two of a thousand runs."""
    low, high = stats.binom.interval(0.998, rounds, rate)
    return low / rounds, high / rounds


@pytest.mark.parametrize(("n", "arms"), [(3, VARIANTS), (5, VARIANTS), (3, 2), (3, 3)])
def test_intervals_cover_and_false_alarms_keep_their_rate(n: int, arms: int) -> None:
    rates = simulate(n, 2000, arms=arms)
    low, high = limits(0.95, rates.rounds)
    assert low < rates.covered < high
    assert low < rates.mean_covered < (high if arms == VARIANTS else 1)
    assert rates.alarms < limits(0.05, rates.rounds)[1]


@pytest.mark.parametrize("n", [3, 5])
def test_same_is_wrong_at_the_margin_in_one_of_twenty(n: int) -> None:
    rates = simulate(n, 2000, effect=2.0, margin=2.0)
    assert rates.same < limits(0.05, rates.rounds)[1]
    assert rates.same > 0.02


@pytest.mark.parametrize(("n", "least"), [(3, 0.87), (5, 0.97)])
def test_blocks_find_what_pairwise_tests_do_not(n: int, least: float) -> None:
    # Three standard deviations of one paired difference.
    rates = simulate(n, 800, effect=3 * np.sqrt(2))
    assert rates.found > least
    # Pairwise t at Holm's first step, the best it can hope for when the others are equal.
    power = stats.nct.sf(stats.t.isf(0.025 / (VARIANTS - 1), n - 1), n - 1, 3 * np.sqrt(n))
    assert power < (0.2 if n == 3 else 0.85)


@pytest.mark.parametrize("n", [3, 5])
def test_the_detectable_difference_is_found_in_four_of_five(n: int) -> None:
    df = (VARIANTS - 1) * (n - 1)
    effect = detectable(float(np.sqrt(2 / n)), df, VARIANTS - 1)
    rates = simulate(n, 1500, effect=effect)
    assert 0.74 < rates.found < 0.88


@pytest.mark.parametrize(
    ("deviations", "n", "most"),
    [
        ({3: 4.0}, 3, 0.11),
        ({3: 4.0}, 5, 0.08),
        ({0: 4.0}, 3, 0.13),
        ({0: 4.0}, 5, 0.08),
        (dict.fromkeys(range(5, 10), 3.0), 3, 0.1),
    ],
)
def test_unequal_noise_inflates_little(deviations: dict[int, float], n: int, most: float) -> None:
    # Pooling regardless would cry wolf in 14 to 25 of a hundred studies in the first four.
    assert simulate(n, 1500, deviations=deviations).alarms < most


def test_skewed_noise_does_not_cry_wolf() -> None:
    rates = simulate(3, 1500, exponential=True)
    assert rates.alarms < limits(0.05, rates.rounds)[1]
    assert rates.covered > 0.93
