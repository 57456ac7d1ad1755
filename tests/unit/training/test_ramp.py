"""The published course of the rate: exponential warm-up, constant, linear decay, constant."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passt_bench.spec import TrainingSpec
from passt_bench.training.schedule import learning_rate, ramp, rate_at

PUBLISHED = TrainingSpec(epochs=130, learning_rate=2e-5, schedule="ramp")


def test_the_published_multipliers() -> None:
    first = [ramp(PUBLISHED, epoch) for epoch in range(7)]
    assert first == pytest.approx([0.0174, 0.0408, 0.165, 0.449, 0.819, 1, 1], abs=5e-4)
    assert [ramp(PUBLISHED, epoch) for epoch in (49, 50)] == [1, 1]
    assert ramp(PUBLISHED, 51) == pytest.approx(1 - 0.99 / 50)
    assert ramp(PUBLISHED, 75) == pytest.approx(0.01 + 0.99 / 2)
    assert [ramp(PUBLISHED, epoch) for epoch in (100, 101, 129)] == pytest.approx([0.01] * 3)


def test_it_never_falls_in_ten_epochs() -> None:
    assert [ramp(PUBLISHED, epoch) for epoch in range(5, 10)] == [1] * 5


def test_no_warm_up_and_a_decay_from_the_beginning() -> None:
    training = replace(PUBLISHED, ramp_epochs=0, decay_start=0, decay_epochs=1, min_lr_ratio=0.5)
    assert [ramp(training, epoch) for epoch in range(3)] == [1, 0.5, 0.5]


def test_the_rate_is_constant_within_an_epoch() -> None:
    rates = [rate_at(PUBLISHED, step, 3) for step in range(9)]
    expected = [2e-5 * ramp(PUBLISHED, epoch) for epoch in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
    assert rates == expected


def test_the_cosine_is_what_it_was() -> None:
    training = TrainingSpec(epochs=4, learning_rate=1e-3, warmup=0.2)
    rates = [rate_at(training, step, 5) for step in range(20)]
    assert rates == [learning_rate(step, 20, 1e-3, 0.2) for step in range(20)]


def test_the_cosine_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert learning_rate(0, 1, 1.0, 0.0) == 1.0
