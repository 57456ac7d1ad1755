"""The cost session against known truth: equal variants, and one that is 1.05 times as slow."""

from __future__ import annotations

import pytest
import torch
from known_subjects import Products, burn

from passt_bench.intervals import ratio_intervals
from passt_bench.measure.session import Arm, SessionResult, run_session
from passt_bench.processes import Child
from passt_bench.records.session import Interval
from passt_bench.runner.doctor import check_ratios
from passt_bench.spec import MeasurementSpec

SESSIONS = 100
STEP = 60  # products: about a millisecond
PLANTED = 63  # 1.05 times as many


def _session(first: int, second: int, spec: MeasurementSpec, seed: int) -> SessionResult:
    arms = [Arm("base", Products(first)), Arm("other", Products(second))]
    return run_session(arms, "base", spec, seed=seed)


def _ratio(result: SessionResult) -> Interval:
    assert {arm.status for arm in result.arms.values()} == {"ok"}
    base, other = result.arms["base"].samples, result.arms["other"].samples
    return ratio_intervals(other, base)["train_step"]


@pytest.mark.parametrize("busy", [False, True], ids=["left alone", "beside a busy process"])
def test_equal_variants_have_a_ratio_of_one(busy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    spec = MeasurementSpec(
        warmup_steps=6, rounds=15, most_rounds=15, steps=4, half_width=0.03, seconds=60
    )
    load = Child(burn, None, 1800.0, daemon=True) if busy else None
    found = [_ratio(_session(STEP, STEP, spec, seed)) for seed in range(SESSIONS)]
    if load is not None:
        load.kill()
    held = sum(ratio.low <= 1 <= ratio.high for ratio in found)
    halves = sorted((ratio.high - ratio.low) / 2 for ratio in found)
    with capsys.disabled():
        print(
            f"\n{held} of {SESSIONS} intervals contain 1 ({'busy' if busy else 'left alone'}); "
            f"median half width {100 * halves[SESSIONS // 2]:.2f} %"
        )
    assert held >= 0.9 * SESSIONS


def test_a_planted_slowdown_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Rounds go on until the interval is narrow enough to tell 1.05 from 1."""
    spec = MeasurementSpec(
        warmup_steps=6, rounds=9, most_rounds=400, steps=4, half_width=0.015, seconds=60
    )
    held = 0
    for seed in range(5):
        result = _session(STEP, PLANTED, spec, seed)
        ratio = _ratio(result)
        with capsys.disabled():
            found = f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            print(f"\nplanted 1.05: {found} after {result.rounds} rounds")
        assert ratio.low > 1, "not found"
        width_reached = (ratio.high - ratio.low) / 2 <= spec.half_width * ratio.median
        limited = result.rounds == spec.most_rounds or result.seconds > spec.seconds
        assert width_reached or limited
        held += ratio.low <= PLANTED / STEP <= ratio.high
    assert held >= 3


def test_the_same_model_twice_is_equal_and_a_planted_slowdown_is_found(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Training steps of a model: both intervals lie within 5 % of the truth."""
    checks = list(check_ratios(torch.device("cpu")))
    with capsys.disabled():
        for check in checks:
            print(f"\n{check.what}: {check.measured:.3f}", end="")
    assert [check.known for check in checks] == [1.0, 1.0, 1.15, 1.15]
    assert {check.tolerance for check in checks} == {0.05}
    assert [check for check in checks if not check.passed] == []
