"""Checks the instruments against known values, on this machine's device, in seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.intervals import ratio_intervals
from passt_bench.measure.flops import count_flops
from passt_bench.measure.memory import measure_peak, saved_for_backward
from passt_bench.measure.session import Arm, run_session
from passt_bench.measure.target import STEP, Clock, Subject
from passt_bench.spec.recipe import EngineSpec, MeasurementSpec

MIB = 2**20
_SLEEP = 0.05


@dataclass(frozen=True)
class Check:
    """A measured and the known value of an instrument."""

    what: str
    known: float
    measured: float
    tolerance: float  # maximum relative difference that passes
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the measured value is close enough to the known one."""
        return abs(self.measured - self.known) <= self.tolerance * self.known


def check_instruments(device: torch.device) -> list[Check]:
    """Clock, memory, FLOPs and bytes saved for backward against known values."""
    checks = [*_clock(device), _memory(device), *_network(device)]
    return [*checks, *_ratios()] if device.type == "cuda" else checks


def _clock(device: torch.device) -> Iterator[Check]:
    clock = Clock(torch.device("cpu"))
    for _ in range(5):
        clock.run({"sleep": lambda: time.sleep(_SLEEP)})
    yield Check("clock, a sleep", _SLEEP, min(clock.read()["sleep"]), 0.02, "s")
    if device.type != "cuda":
        return
    # The work is long enough for the wall clock, with synchronization, to be exact.
    a = torch.rand(4096, 4096, device=device)

    def work() -> None:
        for _ in range(50):
            a @ a

    work()
    torch.cuda.synchronize(device)
    events, start = Clock(device), time.perf_counter()
    events.run({"products": work})
    torch.cuda.synchronize(device)
    wall = time.perf_counter() - start
    yield Check("events, products on the GPU", wall, events.read()["products"][0], 0.02, "s")


@dataclass(frozen=True)
class Products:
    """A step of ``products`` matrix products on the GPU."""

    products: int

    def __call__(self) -> Subject:
        """The subject, with its factors on the GPU."""
        a = torch.rand(4096, 4096, device="cuda").bfloat16()

        def multiply() -> None:
            for _ in range(self.products):
                torch.mm(a, a)

        return Subject(step={"products": multiply}, device=a.device)


def _ratios() -> Iterator[Check]:
    """A cost session on the GPU: the same work twice, and five percent more."""
    steps = {"some": 100, "the same": 100, "5 % more": 105}
    arms = [Arm(name, Products(n), EngineSpec(device="cuda")) for name, n in steps.items()]
    spec = MeasurementSpec(rounds=12, most_rounds=12, half_width=0.02, turn_seconds=120.0)
    samples = {name: arm.samples for name, arm in run_session(arms, "some", spec).arms.items()}
    for name, known, tolerance in (("the same", 1.0, 0.02), ("5 % more", 1.05, 0.02)):
        ratio = ratio_intervals(samples[name], samples["some"])[STEP]
        for end in (ratio.low, ratio.high):
            yield Check(f"step ratio on the GPU, {name}", known, end, tolerance, "x")


def _memory(device: torch.device) -> Check:
    size = 256 * MIB
    measure_peak(lambda: torch.ones(MIB, dtype=torch.uint8, device=device), device)
    peak = measure_peak(lambda: torch.ones(size, dtype=torch.uint8, device=device), device)
    return Check("peak memory, an allocation", size, peak.rise, 0.01, "B")


def _network(device: torch.device) -> Iterator[Check]:
    """Linear, ReLU, linear: small enough to compute all values by hand."""
    first, second = nn.Linear(64, 128, device=device), nn.Linear(128, 32, device=device)
    x = torch.ones(10, 64, device=device)
    parameters = [*first.parameters(), *second.parameters()]
    saved = saved_for_backward(lambda: second(F.relu(first(x))), parameters)
    # The input, and the ReLU's output, which the second layer saves as well.
    yield Check("saved for backward, a small network", 4 * 10 * (64 + 128), saved, 0.0, "B")
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        empty = torch.empty(10, 64)
    flops = count_flops(lambda: layers(empty).sum(), backward=True)
    # Forward; weight gradients of both; the input's gradient only of the second.
    known = 2 * 10 * (64 * 128 * 2 + 128 * 32 * 3)
    yield Check("FLOPs, a small network", known, flops, 0.0, "FLOP")
