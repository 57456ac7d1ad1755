"""What a cost session measures, and the turns that its process takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

import torch

from passt_bench.measure.attention import attention_kernel
from passt_bench.measure.clock import Clock
from passt_bench.measure.memory import measure_peak, saved_for_backward
from passt_bench.measure.published import PublishedProtocol

STEP = "train_step"
PEAK_STEPS = 2  # steps while a peak is watched; the second has the first's leftovers about


@dataclass(frozen=True)
class Subject:
    """One variant, built and ready to run; lives in a process of its own.

    Attributes:
        step: the consecutive parts of a training step, in order, e.g. forward, backward and
            optimizer; together they are the phase ``train_step``.
        others: phases measured apart, e.g. ``inference_1``.
        device: where it runs.
        resident: parameters and buffers, which stay in memory between steps.
        published: the speed test of the reference code on this variant, in clips a second.
        cycle: consecutive steps that differ and together make one sample, their mean; the stages
            of a patchout schedule.
    """

    step: Mapping[str, Callable[[], object]]
    others: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resident: tuple[torch.Tensor, ...] = ()
    published: Callable[[PublishedProtocol], float] | None = None
    cycle: int = 1

    def train(self, steps: int) -> None:
        """Training steps, untimed; each a whole cycle."""
        for _ in range(steps * self.cycle):
            for part in self.step.values():
                part()


def warm_up(subject: Subject, steps: int) -> list[float]:
    """Runs every phase, the training step ``steps`` times; its seconds."""
    clock = Clock(subject.device)
    for call in subject.others.values():
        call()
    for _ in range(steps * subject.cycle):
        clock.run(subject.step, total=STEP)
    return _samples(subject, clock)[STEP]


def compile_seconds(subject: Subject) -> float:
    """Seconds of the first call of everything beyond those of the second: what compiling takes."""

    def once() -> float:
        """Seconds of one call of everything."""
        start = time.perf_counter()
        subject.train(1)
        for call in subject.others.values():
            call()
        if subject.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    first = once()
    return max(0.0, first - once())


def take_round(subject: Subject, steps: int) -> dict[str, list[float]]:
    """One turn in a round: ``steps`` training steps, then every other phase once.

    Returns:
        Phase → seconds of each run.
    """
    clock = Clock(subject.device)
    for _ in range(steps * subject.cycle):
        clock.run(subject.step, total=STEP)
    for phase, call in subject.others.items():
        call()  # untimed: the first call after training finds memory given back and caches cold
        clock.run({phase: call})
    return _samples(subject, clock)


def _samples(subject: Subject, clock: Clock) -> dict[str, list[float]]:
    """What the clock has read, a whole cycle of training steps as their mean."""
    seconds, n = clock.read(), subject.cycle
    if n > 1:
        for phase in (*subject.step, STEP, f"{STEP}_cpu"):
            times = seconds[phase]
            seconds[phase] = [fmean(times[i : i + n]) for i in range(0, len(times), n)]
    return seconds


def take_memory(subject: Subject) -> tuple[dict[str, float], str]:
    """Peaks by phase and bytes saved for backward; and the attention kernel that was used.

    Returns:
        Bytes by name: ``train_peak`` and ``train_rise``, the same of each other phase,
        ``saved_for_backward`` (the most in a cycle), ``resident`` (parameters, buffers), on CUDA
        ``reserved``; an entry
        ``peak_not_reset`` = 1 where the system could not reset the peak (see `memory.Peak`).
    """
    memory: dict[str, float] = {}
    works: dict[str, Callable[[], object]] = {
        "train": lambda: subject.train(PEAK_STEPS),
        **subject.others,
    }
    for name, work in works.items():
        peak = measure_peak(work, subject.device)
        memory[f"{name}_peak"], memory[f"{name}_rise"] = peak.peak, peak.rise
        if name == "train" and peak.reserved is not None:
            memory["reserved"] = peak.reserved
        if peak.method == "ru_maxrss":
            memory["peak_not_reset"] = 1
    first, *rest = subject.step.values()
    kernel = ""

    def forward() -> None:
        nonlocal kernel
        kernel = attention_kernel(first)

    memory["saved_for_backward"] = 0
    for _ in range(subject.cycle):
        saved = saved_for_backward(forward, subject.resident)
        memory["saved_for_backward"] = max(memory["saved_for_backward"], saved)
        for part in rest:
            part()
    memory["resident"] = sum(tensor.nbytes for tensor in subject.resident)
    return memory, kernel
