"""The cost session against known truth: equal variants, and one that is 1.05 times as slow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from known_subjects import Products, Sleeps, burn

from passt_bench.intervals import ratio_intervals
from passt_bench.measure.session import Arm, SessionResult, _Session, run_session
from passt_bench.processes import PipedChild
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
    return ratio_intervals(other, base, result.restarts)["train_step"]


@pytest.mark.parametrize("restarts", [2, 3, 5])
@pytest.mark.parametrize("process", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("noise", [0.005, 0.05])
def test_intervals_of_time_ratios_cover(restarts: int, process: float, noise: float) -> None:
    """Cost sessions that end by their own rule, on a machine whose speed drifts by 1 % a turn."""
    random, sessions, covered = np.random.default_rng([restarts, int(1000 * process)]), 1000, 0
    spec = MeasurementSpec(restarts=restarts, seconds=1e9)
    arms = [Arm("base", Sleeps(0)), Arm("other", Sleeps(0))]
    for _ in range(sessions):
        session, speed = _Session(arms, "base", spec, lambda share, text: None), 0.0
        session._running = dict.fromkeys(session.results)  # type: ignore[arg-type]
        for _ in range(restarts):
            effects = process * random.standard_normal(2)
            session.rounds.append(0)
            while not session._enough():
                for arm in random.permutation(2):
                    speed += 0.01 * random.standard_normal()
                    turn = np.exp(speed + effects[arm] + noise * random.standard_normal())
                    samples = session.results[arms[arm].name].samples
                    samples.setdefault("train_step", []).append([float(turn)])
                session.rounds[-1] += 1
        base, other = (session.results[arm.name].samples for arm in arms)
        found = ratio_intervals(other, base, session.rounds)["train_step"]
        covered += found.low <= 1 <= found.high
    assert 0.93 < covered / sessions < 0.97


@pytest.mark.parametrize("busy", [False, True], ids=["left alone", "beside a busy process"])
def test_equal_variants_have_a_ratio_of_one(busy: bool, capsys: pytest.CaptureFixture[str]) -> None:
    spec = MeasurementSpec(
        warmup_steps=6, restarts=3, rounds=15, most_rounds=15, steps=4, half_width=0.03, seconds=60
    )
    load = PipedChild(burn, 7200.0, daemon=True) if busy else None
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
    """Ten restarts tell 1.05 from 1, although processes may differ by 2 %."""
    spec = MeasurementSpec(
        warmup_steps=6, restarts=10, rounds=10, most_rounds=400, steps=4, half_width=0.015,
        seconds=60,
    )  # fmt: skip
    held = 0
    for seed in range(5):
        result = _session(STEP, PLANTED, spec, seed)
        ratio = _ratio(result)
        with capsys.disabled():
            found = f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
            print(f"\nplanted 1.05: {found} after {result.restarts} rounds")
        assert ratio.low > 1, "not found"
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
