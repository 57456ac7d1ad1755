"""Cost sessions over subjects of known cost, and the processes of their arms."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from known_subjects import MIB, Allocates, Fails, LacksMemory, NotesCores, Sleeps, burn

from passt_bench.intervals import phase_intervals, ratio_intervals
from passt_bench.measure.machine import all_cores, cores_of_round, own_seconds
from passt_bench.measure.session import Arm, ArmProcess, SessionResult, run_session
from passt_bench.measure.target import PublishedProtocol, build
from passt_bench.spec import EngineSpec, MeasurementSpec

QUICK = MeasurementSpec(
    warmup_steps=1, restarts=1, rounds=6, most_rounds=6, steps=2, half_width=0.5, seconds=60,
    turn_seconds=20,
)  # fmt: skip


def run(arms: dict, spec: MeasurementSpec = QUICK, **options: object) -> SessionResult:
    made = [Arm(name, factory) for name, factory in arms.items()]
    return run_session(made, next(iter(arms)), spec, **options)


def test_known_times_memory_and_order() -> None:
    seen: list[float] = []
    result = run(
        {"base": Sleeps(0.02), "slow": Sleeps(0.03), "memory": Allocates()},
        progress=lambda share, text: seen.append(share),
    )
    assert [arm.status for arm in result.arms.values()] == ["ok"] * 3
    assert result.restarts == (6,)
    base, slow = result.arms["base"].samples, result.arms["slow"].samples
    assert {len(steps) for steps in base["train_step"]} == {2}
    assert {len(steps) for steps in base["inference_1"]} == {1}
    assert sorted(base) == ["backward", "forward", "inference_1", "train_step", "train_step_cpu"]
    assert phase_intervals(base)["train_step"].median >= 0.02
    assert min(min(steps) for steps in slow["train_step"]) >= 0.03
    ratio = ratio_intervals(slow, base)["train_step"]
    assert ratio.low > 1
    assert ratio.median == pytest.approx(1.5, rel=0.2)
    memory = result.arms["memory"].memory
    for phase, known in {"train": 64, "large": 256, "small": 16}.items():  # whatever was before
        assert memory[f"{phase}_rise"] == pytest.approx(known * MIB, abs=2 * MIB)
    for phase in ("heap", "heap_again"):  # what the allocator held back counts again
        assert 0.75 * 32 * MIB < memory[f"{phase}_rise"] < 1.5 * 32 * MIB
    assert "peak_not_reset" not in memory
    assert result.arms["base"].memory["train_rise"] < 2 * MIB
    assert result.arms["base"].memory["saved_for_backward"] == 0
    assert all(peak > 0 for peak in result.peaks.values())
    assert set(result.disturbance) == {"before", "after", "warnings"}  # a GPU's clock on a GPU
    assert seen == sorted(seen)
    assert seen[0] >= 0
    assert seen[-1] < 1  # its record is not written yet


def test_failures_become_rows_and_stop_nobody() -> None:
    result = run(
        {
            "base": Sleeps(0.001),
            "build": Fails("build"),
            "raise": Fails("raise"),
            "late": Fails("raise", after=10),
            "allocate": Fails("allocate"),
            "memory": Fails("memory"),
            "kill": Fails("kill", after=10),
            "exit": Fails("exit"),
            "stall": Fails("stall", after=1),
            "published": Fails("published"),
        },
        replace(QUICK, steps=1, half_width=9, turn_seconds=5),
        published=PublishedProtocol(1),
    )
    found = {name: (arm.status, arm.message) for name, arm in result.arms.items()}
    assert found["base"] == ("ok", None)
    assert found["build"] == ("error", "RuntimeError: no such model")
    assert found["raise"] == found["late"] == ("error", "ValueError: a planted fault")
    assert found["allocate"][0] == found["memory"][0] == "oom"
    assert found["kill"] == ("error", "killed by signal 9 (SIGKILL)")
    assert found["exit"] == ("error", "the process ended with exit status 3")
    assert found["stall"] == ("timeout", "no answer within 5 s")
    late = "the published speed test: oom, MemoryError: too large a batch"
    assert found["published"] == ("ok", late)  # what the rounds gave remains
    assert result.arms["published"].published is None
    assert result.restarts == (6,)
    for name in ("base", "published"):
        assert len(result.arms[name].samples["train_step"]) == 6
    assert len(result.arms["late"].samples["train_step"]) < 6


@pytest.mark.parametrize(
    ("step", "compiled"),
    [(0, "off"), (1, "default"), (3, "default"), (1, "off")],
    ids=["built", "compiled", "warmed up", "not compiled"],
)
def test_who_lacked_memory_beside_others_starts_once_more(
    tmp_path: Path, step: int, compiled: str
) -> None:
    engine, seen = EngineSpec(compile=compiled), []
    arms = [
        Arm("base", Sleeps(0.001)),
        Arm("short", LacksMemory(tmp_path / "short", step), engine),
        Arm("other", Sleeps(0.001)),
        Arm("large", LacksMemory(tmp_path / "large", step, processes=9), engine),
    ]
    spec = replace(QUICK, half_width=9)
    found = run_session(arms, "base", spec, progress=lambda share, text: seen.append(share))
    assert [arm.status for arm in found.arms.values()] == ["ok", "ok", "ok", "oom"]
    short = found.arms["short"]
    assert len(short.samples["train_step"]) == 6 and short.memory and short.message is None
    assert (short.compile_seconds is None) == (compiled == "off")
    for name in ("short", "large"):
        assert len(set((tmp_path / name).read_text().split())) == 2  # two processes, no third
    alone = LacksMemory(tmp_path / "alone", step)
    assert run({"base": alone}).arms["base"].status == "oom"  # nobody else took the memory
    assert seen == sorted(seen)


def test_a_restart_has_new_processes_and_leaves_out_what_failed(tmp_path: Path) -> None:
    """Two lack memory in their second process, one of them also when it starts once more."""
    processes = {"base": 0, "short": 1, "large": 9}
    arms = {
        name: LacksMemory(tmp_path / name, 1, processes=lacking, after=1)
        for name, lacking in processes.items()
    }
    seen: list[tuple[float, str]] = []
    spec = replace(QUICK, restarts=2, rounds=7, most_rounds=7)
    result = run(arms, spec, progress=lambda share, text: seen.append((share, text)))
    assert result.restarts == (4, 3)
    assert [arm.status for arm in result.arms.values()] == ["ok", "ok", "oom"]
    rounds = [len(arm.samples["train_step"]) for arm in result.arms.values()]
    assert rounds == [7, 7, 4]  # what came before the failure remains
    starts = {name: (tmp_path / name).read_text().split() for name in processes}
    assert {name: len(set(pids)) for name, pids in starts.items()} == dict(
        zip(processes, (2, 3, 3), strict=True)
    )
    assert all(arm.memory for arm in result.arms.values())
    shares = [share for share, _ in seen]
    assert shares == sorted(shares) and shares[-1] < 1
    texts = [text for _, text in seen]
    assert texts[0] == "building, restart 1 of 2"
    assert texts[-1] == "round 7, restart 2 of 2"


def test_a_baseline_that_fails_leaves_the_others() -> None:
    found = run({"base": Fails("build"), "other": Sleeps(0.001)}).arms
    assert [arm.status for arm in found.values()] == ["error", "ok"]
    assert len(found["other"].samples["train_step"]) == QUICK.rounds
    alone = run({"base": Fails("build")})
    assert (alone.restarts, alone.peaks) == ((), {})


@pytest.mark.parametrize(
    ("changes", "rounds"),
    [
        ({"most_rounds": 8, "half_width": 1e-9}, 8),  # never so exact: the limit says so
        ({"rounds": 7, "most_rounds": 50, "half_width": 9}, 7),
        # Time is over, but fewer give no interval.
        ({"rounds": 40, "most_rounds": 50, "half_width": 1e-9, "seconds": 0.01}, 6),
        # Building takes longer than the limit, and the rounds go on all the same.
        ({"most_rounds": 12, "half_width": 1e-9, "seconds": 1}, 12),
    ],
    ids=["limit", "width", "time", "slow building"],
)
def test_rounds_go_on_until_the_width_or_a_limit(changes: dict, rounds: int) -> None:
    slow = 1.5 if changes.get("seconds") == 1 else 0.0
    seen: list[float] = []

    def note(share: float, text: str) -> None:
        if text.startswith("round"):
            seen.append(share)

    arms = {"base": Sleeps(0.001, slow), "other": Sleeps(0.001, slow)}
    result = run(arms, replace(QUICK, steps=1, **changes), progress=note)
    assert result.restarts == (rounds,)
    assert result.seconds > slow  # of all of it, building included
    assert seen == sorted(seen)
    assert seen[0] < seen[-1] < 1


def test_an_interrupt_ends_the_processes() -> None:
    def interrupt(share: float, text: str) -> None:
        if text.startswith("round"):
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run({"base": Sleeps(0.001), "other": Sleeps(0.001)}, progress=interrupt)
    assert time.monotonic() - start < 30


@pytest.mark.skipif(all_cores() is None, reason="no choice of cores on this system")
def test_arms_of_a_round_share_a_core(tmp_path: Path) -> None:
    names = ("base", "other")
    arms = {name: NotesCores(tmp_path / name) for name in names}
    assert run(arms, replace(QUICK, half_width=9)).restarts == (6,)
    base, other = ((tmp_path / name).read_text().split() for name in names)
    assert base[-12:] == other[-12:]  # two steps in each of six rounds
    assert base[-12:] == [str(core) for n in range(6) for core in cores_of_round(n, 1) * 2]
    everywhere = ",".join(map(str, all_cores()))
    assert set(base[:-12]) == {everywhere}  # while it warmed up and memory was measured


def test_own_children_do_not_count_as_others() -> None:
    before, process = own_seconds(), ArmProcess()
    process.send(build, Sleeps(0.01), 1)
    process.receive(60)
    process.send(burn, 60.0)
    deadline = time.monotonic() + 30
    while own_seconds() < before + 0.5 and time.monotonic() < deadline:
        time.sleep(0.05)
    found = own_seconds()
    process.close()
    assert found >= before + 0.5


def test_a_factory_that_cannot_be_sent_is_a_bug_and_raises() -> None:
    process = ArmProcess()
    with pytest.raises((AttributeError, TypeError, ValueError), match=r"(?i)pickle|local"):
        process.send(build, lambda: Sleeps(0.01)(), 1)
    process.close()
