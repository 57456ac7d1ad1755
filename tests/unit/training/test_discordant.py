"""The interval of a paired difference where few clips, or none, tell two models apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from passt_bench.training.clip_bootstrap import (
    discordant_interval,
    paired_differences,
    rarer_than_none,
)


def exactly(one: float, other: float, clips: int) -> float:
    """How often the interval covers, of clips that only one of two models has right so often."""
    count, truth, covered = np.arange(clips + 1), one - other, 0.0
    for first in count:
        rest = binom.pmf(first, clips, one) * binom.pmf(
            count[: clips - first + 1], clips - first, other / (1 - one)
        )
        for second in np.flatnonzero(rest > 1e-9):
            low, high = discordant_interval(int(first), int(second), clips)
            covered += rest[second] * (low <= truth <= high)
    return covered


@pytest.mark.parametrize("clips", [10, 50, 150])
@pytest.mark.parametrize(
    ("one", "other"), [(0.02, 0.0), (0.01, 0.01), (0.05, 0.01), (0.2, 0.05), (0.1, 0.1), (0.4, 0.3)]
)
def test_the_interval_of_discordant_clips_covers(one: float, other: float, clips: int) -> None:
    assert exactly(one, other, clips) > 0.947  # summed over all outcomes, not simulated


@pytest.mark.parametrize(
    ("clips", "verdict"), [(10, "undecided"), (100, "undecided"), (200, "same")]
)
def test_few_clips_without_a_discordant_one_show_no_equality(clips: int, verdict: str) -> None:
    targets = np.eye(2)[np.arange(clips) % 2]
    models = targets.astype(np.float32), 0.5 * targets + 0.1  # right on all clips
    names = ("accuracy", "mAP")
    known = dict.fromkeys(names, 1.0)
    for name, item in paired_differences((known, known), targets, models, 0.02, 100).items():
        bound = 1 - 0.05 ** (1 / clips)  # the share of which none is seen so often in 5 %
        assert item.high == -item.low
        assert bound * (1 - 1e-9) <= item.high <= 1.02 * bound, name
        assert item.verdict == verdict
    assert rarer_than_none(10) == pytest.approx(0.2589, abs=1e-4)
    assert 300 * rarer_than_none(300) == pytest.approx(3, rel=0.01)  # the rule of three
