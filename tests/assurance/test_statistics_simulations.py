"""Coverage and error rates of the intervals by simulation, and the table of docs/statistics.md.

``python tests/assurance/test_statistics_simulations.py [TABLES]`` prints the rows of that table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from scipy import stats

from passt_bench.analysis.compare import LEVELS
from passt_bench.analysis.statistics import (
    Floats,
    baseline_weights,
    contrasts,
    detectable,
    planned_contrast,
)

ARMS, FOLDS = (2, 5, 12), 5
DRAWS = 2000  # of each table's own simulation; fewer than a report takes, without bias
Random = np.random.Generator


@dataclass(frozen=True)
class Table:
    """A simulated study: its observations, those of each fold, and the true means of its arms."""

    y: Floats  # (arms, blocks)
    truth: Floats  # (arms,)
    folds: tuple[Floats, ...] = ()


def _normal(deviations: Callable[[int], Floats]) -> Callable[[Random, int, int], Table]:
    def draw(random: Random, arms: int, n: int) -> Table:
        noise = random.standard_normal((arms, n)) * deviations(arms)[:, None]
        return Table(noise + random.standard_normal(n), np.zeros(arms))

    return draw


def _one(arm: int, ratio: float) -> Callable[[int], Floats]:
    """Deviations of which one arm's variance is so many times the others'."""
    return lambda arms: np.where(np.arange(arms) == arm % arms, ratio**0.5, 1.0)


def _growing(noise: Callable[[Random, tuple[int, int]], Floats]) -> Callable[..., Table]:
    """The worse an arm, the noisier, up to nine times the baseline's variance."""

    def draw(random: Random, arms: int, n: int) -> Table:
        truth = -np.linspace(0, 3, arms)
        y = truth[:, None] + noise(random, (arms, n)) * (1 - truth[:, None] * 2 / 3)
        return Table(y + random.standard_normal(n), truth)

    return draw


def _of(noise: Callable[[Random, tuple[int, int]], Floats]) -> Callable[..., Table]:
    def draw(random: Random, arms: int, n: int) -> Table:
        return Table(noise(random, (arms, n)) + random.standard_normal(n), np.zeros(arms))

    return draw


def _ceiling(random: Random, arms: int, n: int) -> Table:
    """Accuracies of about 98 % on 400 clips; a seed is easy or hard for all arms."""
    p = 1 / (1 + np.exp(-4 - 0.3 * random.standard_normal(n)))
    return Table(random.binomial(400, p, (arms, n)) / 400, np.zeros(arms))


def _missing(random: Random, arms: int, n: int) -> Table:
    """A tenth of the cells failed."""
    y = random.standard_normal((arms, n)) + random.standard_normal(n)
    y[random.random(y.shape) < 0.1] = np.nan
    return Table(y, np.zeros(arms))


def _folds(random: Random, arms: int, n: int) -> Table:
    """Arms are good on different folds, and a seed moves all folds of an arm a little."""
    suited = random.standard_normal((arms, 1, FOLDS))
    y = random.standard_normal((arms, n, FOLDS)) + 0.3 * random.standard_normal((arms, n, 1))
    y += suited + random.standard_normal((n, FOLDS)) + random.standard_normal((n, 1))
    folds = tuple(y[:, :, fold] for fold in range(FOLDS))
    return Table(y.mean(axis=2), suited.mean(axis=(1, 2)), folds)


def _exponential(random: Random, shape: tuple[int, int]) -> Floats:
    return random.exponential(size=shape) - 1


SCENARIOS: dict[str, Callable[[Random, int, int], Table]] = {
    "equal noise": _normal(np.ones),
    "one arm with 3 times the variance": _normal(_one(1, 3)),
    "one arm with 9 times the variance": _normal(_one(1, 9)),
    "baseline with 3 times the variance": _normal(_one(0, 3)),
    "baseline with 9 times the variance": _normal(_one(0, 9)),
    "noise grows as quality falls": _growing(lambda random, shape: random.standard_normal(shape)),
    "skewed (exponential)": _of(_exponential),
    "skewed and growing": _growing(_exponential),
    "heavy tails (t with 3)": _of(lambda random, shape: random.standard_t(3, shape)),
    "near the ceiling": _ceiling,
    "a tenth of the cells missing": _missing,
    "five folds": _folds,
}


@dataclass(frozen=True)
class Rates:
    """Shares over simulated tables."""

    covered: float  # single intervals, averaged over a table's contrasts
    missed: float  # tables with a simultaneous interval that does not cover
    width: float  # mean width of the single intervals; of equal noise, in deviations


def simulate(scenario: str, arms: int, n: int, tables: int, seed: int = 0) -> Rates:
    """Simulates studies of so many arms and seeds."""
    random = np.random.default_rng([seed, arms, n, list(SCENARIOS).index(scenario)])
    weights, covered, missed, widths = baseline_weights(arms, 0), [], 0, []
    for _ in range(tables):
        table = SCENARIOS[scenario](random, arms, n)
        truth = weights @ table.truth
        found = contrasts(table.y, weights, table.folds, draws=DRAWS)
        tested = [(c, t) for c, t in zip(found, truth, strict=True) if np.isfinite(c.low)]
        if tested:
            covered.append(np.mean([c.single[0] <= t <= c.single[1] for c, t in tested]))
            widths.append(np.mean([c.single[1] - c.single[0] for c, _ in tested]))
        missed += any(not c.low <= t <= c.high for c, t in tested)
    return Rates(float(np.mean(covered)), missed / tables, float(np.mean(widths)))


# What is outside the bounds that hold for all others, with its reason in docs/statistics.md:
# scenario and arms → lowest and highest coverage, most studies with a miss.
KNOWN: dict[tuple[str, int], tuple[float, float, float]] = {
    ("skewed and growing", 2): (0.90, 0.95, 0.10),
    ("skewed and growing", 12): (0.93, 0.97, 0.085),
    ("skewed (exponential)", 5): (0.93, 0.985, 0.065),
    ("skewed (exponential)", 12): (0.93, 0.985, 0.065),
    ("heavy tails (t with 3)", 5): (0.93, 0.985, 0.065),
    ("heavy tails (t with 3)", 12): (0.93, 0.985, 0.065),
    ("a tenth of the cells missing", 5): (0.93, 0.985, 0.065),
    ("a tenth of the cells missing", 12): (0.93, 0.985, 0.065),
    ("one arm with 9 times the variance", 5): (0.93, 0.985, 0.065),
}


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("arms", ARMS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_intervals_cover_from_five_seeds_on(scenario: str, arms: int, n: int, pytestconfig) -> None:
    tables = 10_000 if pytestconfig.getoption("--long") else 1000
    slack = 3 * np.sqrt(0.05 * 0.95 / tables)
    low, high, most = KNOWN.get((scenario, arms), (0.93, 0.97, 0.065))
    rates = simulate(scenario, arms, n, tables)
    assert low - slack < rates.covered < (0.99 if scenario == "near the ceiling" else high) + slack
    assert rates.missed < most + slack


@pytest.mark.parametrize("arms", ARMS)
def test_below_five_seeds_intervals_err_on_the_wide_side(arms: int) -> None:
    for scenario in ("equal noise", "baseline with 9 times the variance"):
        rates = simulate(scenario, arms, 3, 1000)
        assert rates.covered > 0.93 and rates.missed < 0.065


@pytest.mark.parametrize(("arms", "n"), [(5, 5), (12, 5), (5, 10)])
def test_the_detectable_difference_is_found_in_four_of_five(arms: int, n: int) -> None:
    random, hits = np.random.default_rng(1), 0
    weights, effect = baseline_weights(arms, 0), detectable(planned_contrast(arms, n))
    for _ in range(1500):
        y = random.standard_normal((arms, n))
        y[1] += effect
        hits += contrasts(y, weights, draws=DRAWS)[0].low > 0
    low, high = stats.binom.interval(0.998, 1500, 0.8)
    assert low - 15 < hits < high + 45  # a little more than planned


@pytest.mark.parametrize("looks", [(5, 7, 10), (5, 6, 7, 8, 10), (3, 6)])
@pytest.mark.parametrize("arms", [2, 5])
def test_looking_several_times_keeps_the_rate_of_false_alarms(
    arms: int, looks: tuple[int, ...]
) -> None:
    random, weights, alarms, tables = (
        np.random.default_rng(arms),
        baseline_weights(arms, 0),
        0,
        1500,
    )
    for _ in range(tables):
        y = random.standard_normal((arms, looks[-1]))
        seen = (
            contrasts(y[:, :n], weights, level=LEVELS[len(looks) - 1], draws=DRAWS) for n in looks
        )
        alarms += any(not c.low <= 0 <= c.high for found in seen for c in found)
    assert alarms / tables < 0.06 + 2 * np.sqrt(0.06 * 0.94 / tables)


def _row(scenario: str, tables: int) -> str:
    cells = []
    for n, arms in product((5, 10), ARMS):
        rates = simulate(scenario, arms, n, tables)
        cells.append(f"{100 * rates.covered:.1f} / {100 * rates.missed:.1f}")
    return f"| {scenario} | {' | '.join(cells)} |"


if __name__ == "__main__":
    number = int(sys.argv[1]) if sys.argv[1:] else 10_000
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(_row, SCENARIOS, [number] * len(SCENARIOS)):
            print(row, flush=True)
