import random
import time

import pytest
from known_subjects import (
    MIB,
    Allocates,
    BuildsSlowly,
    CannotBuild,
    Fails,
    FailsLater,
    Sleeps,
)

from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.measure.arm import Arm
from passt_bench.measure.session import SessionResult, enough, run_session
from passt_bench.measure.target import PublishedProtocol
from passt_bench.spec import MeasurementSpec

QUICK = MeasurementSpec(
    warmup_steps=1, rounds=6, most_rounds=6, steps=2, half_width=0.5, seconds=60, turn_seconds=20
)


def run(arms: dict, spec: MeasurementSpec = QUICK, **options: object) -> SessionResult:
    return run_session(
        [Arm(name, factory) for name, factory in arms.items()],
        next(iter(arms)), spec, **options,
    )  # fmt: skip


def test_known_times_memory_and_order() -> None:
    seen: list[float] = []
    result = run(
        {"base": Sleeps(0.02), "slow": Sleeps(0.03), "memory": Allocates(64)},
        progress=lambda share, text: seen.append(share),
    )
    assert [arm.status for arm in result.arms.values()] == ["ok"] * 3
    assert result.rounds == 6
    base, slow = result.arms["base"].samples, result.arms["slow"].samples
    assert {len(steps) for steps in base["train_step"]} == {2}
    assert {len(steps) for steps in base["inference_1"]} == {1}
    assert sorted(base) == ["backward", "forward", "inference_1", "train_step", "train_step_cpu"]
    assert 0.02 <= phase_intervals(base)["train_step"].median < 0.03
    assert min(min(steps) for steps in slow["train_step"]) >= 0.03
    ratio = ratio_intervals(slow, base)["train_step"]
    assert ratio.low > 1.2
    assert ratio.median == pytest.approx(1.5, rel=0.15)
    rise = result.arms["memory"].memory["train_rise"]
    assert rise == pytest.approx(64 * MIB, abs=2 * MIB)
    assert result.arms["base"].memory["train_rise"] < 2 * MIB
    assert result.arms["base"].memory["saved_for_backward"] == 0
    assert all(peak > 0 for peak in result.peaks.values())
    assert seen == sorted(seen)
    assert seen[0] >= 0
    assert seen[-1] < 1  # its record is not written yet


def test_failures_become_rows_and_stop_nobody() -> None:
    spec = MeasurementSpec(
        warmup_steps=1, rounds=6, most_rounds=6, steps=1, half_width=9, turn_seconds=10
    )
    result = run(
        {
            "base": Sleeps(0.001),
            "build": CannotBuild(),
            "raise": Fails("raise"),
            "late": Fails("raise", after=10),
            "allocate": Fails("allocate"),
            "memory": Fails("memory"),
            "kill": Fails("kill", after=10),
            "exit": Fails("exit"),
            "stall": Fails("stall", after=1),
        },
        spec,
    )
    found = {name: (arm.status, arm.message) for name, arm in result.arms.items()}
    assert found["base"] == ("ok", None)
    assert found["build"] == ("error", "RuntimeError: no such model")
    assert found["raise"] == found["late"] == ("error", "ValueError: a planted fault")
    assert found["allocate"][0] == found["memory"][0] == "oom"
    assert found["kill"] == ("error", "killed by signal 9 (SIGKILL)")
    assert found["exit"] == ("error", "the process ended with exit status 3")
    assert found["stall"] == ("timeout", "no answer within 10 s")
    assert result.rounds == 6
    assert len(result.arms["base"].samples["train_step"]) == 6
    assert len(result.arms["late"].samples["train_step"]) < 6


def test_what_the_rounds_gave_remains_if_the_baseline_or_a_published_test_fails() -> None:
    arms = {"base": CannotBuild(), "other": Sleeps(0.001), "later": FailsLater()}
    found = run(arms, published=PublishedProtocol(1)).arms
    assert [found[name].status for name in arms] == ["error", "ok", "ok"]
    assert found["other"].message is None
    assert found["later"].message == "the published speed test: oom, MemoryError: too large a batch"
    assert found["later"].published is None
    for name in ("other", "later"):
        assert len(found[name].samples["train_step"]) == QUICK.rounds


def test_no_arm_left_ends_the_session() -> None:
    result = run({"base": CannotBuild()})
    assert result.rounds == 0
    assert result.peaks == {}


def test_rounds_go_on_until_the_width_or_the_limit() -> None:
    spec = MeasurementSpec(
        warmup_steps=1, rounds=6, most_rounds=8, steps=1, half_width=1e-9, turn_seconds=20
    )
    arms = {"base": Sleeps(0.001), "other": Sleeps(0.001)}
    assert run(arms, spec).rounds == 8  # never so exact: the limit says so
    wide = MeasurementSpec(
        warmup_steps=1, rounds=7, most_rounds=50, steps=1, half_width=9, turn_seconds=20
    )
    assert run(arms, wide).rounds == 7
    late = MeasurementSpec(
        warmup_steps=1, rounds=40, most_rounds=50, steps=1, half_width=1e-9, seconds=0.01,
        turn_seconds=20,
    )  # fmt: skip
    seen: list[tuple[str, float]] = []
    result = run(arms, late, progress=lambda share, text: seen.append((text, share)))
    assert result.rounds == 6  # time is over, but fewer give no interval
    shares = [share for text, share in seen if text.startswith("round")]
    assert shares == sorted(shares)
    assert shares[0] < shares[-2] < shares[-1] < 1  # and what is left of the six is still to come


def test_the_limit_counts_from_the_first_round() -> None:
    """Building takes longer than the limit, and the rounds go on all the same."""
    spec = MeasurementSpec(
        warmup_steps=1, rounds=6, most_rounds=12, steps=1, half_width=1e-9, seconds=3,
        turn_seconds=20,
    )  # fmt: skip
    result = run({"base": BuildsSlowly(4), "other": BuildsSlowly(4)}, spec)
    assert result.rounds == 12
    assert result.seconds > 4  # of all of it, building included


def test_the_width_rule_by_hand() -> None:
    def rounds(*values: float) -> dict[str, list[list[float]]]:
        return {"train_step": [[value] for value in values]}

    base = rounds(1, 1, 1, 1, 1, 1)
    exact, wide = rounds(2, 2, 2, 2, 2, 2), rounds(2, 2, 2, 2, 2, 2.4)
    assert enough({"base": base, "exact": exact}, "base", 0.01)
    assert not enough({"base": base, "exact": exact, "wide": wide}, "base", 0.09)
    assert enough({"base": base, "wide": wide}, "base", 0.11)  # half width 0.2 of ratio 2
    assert not enough({"base": base, "new": {}}, "base", 0.5)
    assert enough({"other": exact}, "base", 0.01)  # the baseline failed: no ratio to wait for


def test_stopping_at_the_width_keeps_the_coverage() -> None:
    """Looking after each round costs little coverage: the rule looks at width, not at the value."""
    draws = random.Random(1)
    hits = 0
    for _ in range(200):
        base, other = {"train_step": []}, {"train_step": []}
        while len(base["train_step"]) < 15 or (
            len(base["train_step"]) < 60
            and not enough({"base": base, "other": other}, "base", 0.03)
        ):
            base["train_step"].append([draws.lognormvariate(0, 0.08)])
            other["train_step"].append([draws.lognormvariate(0, 0.08)])
        ratio = ratio_intervals(other, base)["train_step"]
        hits += ratio.low <= 1 <= ratio.high
    assert hits >= 180


def test_arms_need_distinct_names() -> None:
    with pytest.raises(ValueError, match="distinct"):
        run_session([Arm("a", Sleeps(0.1)), Arm("a", Sleeps(0.1))], "a", QUICK)
    with pytest.raises(ValueError, match="'b'"):
        run_session([Arm("a", Sleeps(0.1))], "b", QUICK)


def test_an_interrupt_ends_the_processes() -> None:
    def interrupt(share: float, text: str) -> None:
        if text.startswith("round"):
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run({"base": Sleeps(0.001), "other": Sleeps(0.001)}, progress=interrupt)
    assert time.monotonic() - start < 30
