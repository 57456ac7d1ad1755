import time

import pytest
import torch

from passt_bench.measure.clock import Clock

CPU = torch.device("cpu")


def test_parts_add_up_to_the_total() -> None:
    clock = Clock(CPU)
    for _ in range(3):
        clock.run({"a": lambda: time.sleep(0.002), "b": lambda: time.sleep(0.001)}, total="step")
    seconds = clock.read()
    assert sorted(seconds) == ["a", "b", "step", "step_cpu"]
    for a, b, step in zip(seconds["a"], seconds["b"], seconds["step"], strict=True):
        assert a + b == pytest.approx(step, abs=1e-9)


def test_cpu_seconds_leave_waiting_out() -> None:
    clock = Clock(CPU)
    clock.run({"sleep": lambda: time.sleep(0.05)}, total="step")
    seconds = clock.read()
    assert seconds["step"][0] >= 0.05
    assert seconds["step_cpu"][0] < 0.02


def test_reading_starts_afresh() -> None:
    clock = Clock(CPU)
    clock.run({"a": lambda: None})
    assert len(clock.read()["a"]) == 1
    assert clock.read() == {}
