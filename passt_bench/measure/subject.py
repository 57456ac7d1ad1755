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
# A turn on a GPU: steps that bring its clock up, then as many as fit into a second, 30 at most. A
# few steps alone measure how fast it wakes.
GPU_WARM_STEPS, GPU_STEPS, GPU_SECONDS = 10, 30, 1.0
_GPU_CALLS = 10  # of every other phase, likewise
_CYCLES = 2e9  # of a GPU's clock in a second, about
# Steps while a peak is watched: the second has the first's leftovers about. What a CUDA graph keeps
# is allocated when it is captured, after a few eager steps.
PEAK_STEPS, CAPTURE_STEPS = 2, 5


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
        parts: the parts one by one, where ``step`` replays all of them at once; bytes saved for
            backward and the attention kernel are read from them.
        forget: gives back what such a replay keeps in memory; the next steps make it anew.
        cycle: consecutive steps that differ and together make one sample, their mean; the stages
            of a patchout schedule.
    """

    step: Mapping[str, Callable[[], object]]
    others: Mapping[str, Callable[[], object]] = field(default_factory=dict)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resident: tuple[torch.Tensor, ...] = ()
    published: Callable[[PublishedProtocol], float] | None = None
    parts: Mapping[str, Callable[[], object]] | None = None
    forget: Callable[[], object] = lambda: None
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
        Phase → seconds of each run. On CUDA each phase is timed by two events around many runs and
        has one number a turn, their mean; ``train_step_wall`` is the wall clock's for the same
        steps, ``train_step_device`` what the device takes if launches are queued ahead: where the
        two differ, the step waits for its launches.
    """
    if subject.device.type == "cuda":
        return _take_gpu_round(subject)
    clock = Clock(subject.device)
    for _ in range(steps * subject.cycle):
        clock.run(subject.step, total=STEP)
    for phase, call in subject.others.items():
        call()  # untimed: the first call after training finds memory given back and caches cold
        clock.run({phase: call})
    return _samples(subject, clock)


def _take_gpu_round(subject: Subject) -> dict[str, list[float]]:
    clock = Clock(subject.device)
    subject.train(GPU_WARM_STEPS)
    torch.cuda.synchronize()
    began, steps = time.perf_counter(), 0
    first, last = _event(), _event()
    first.record()
    while steps < GPU_STEPS and (steps < 3 or time.perf_counter() - began < GPU_SECONDS):
        for _ in range(subject.cycle):
            clock.run(subject.step, total=STEP)
        steps += 1
    last.record()
    torch.cuda.synchronize()
    wall = (time.perf_counter() - began) / (steps * subject.cycle)
    seconds = {phase: [fmean(times)] for phase, times in clock.read().items()}
    seconds[STEP] = [first.elapsed_time(last) / 1000 / (steps * subject.cycle)]
    seconds[f"{STEP}_wall"] = [wall]
    seconds[f"{STEP}_device"] = [_device_seconds(subject, wall)]
    for phase, call in subject.others.items():
        for _ in range(3):
            call()
        first.record()
        for _ in range(_GPU_CALLS):
            call()
        last.record()
        torch.cuda.synchronize()
        seconds[phase] = [first.elapsed_time(last) / 1000 / _GPU_CALLS]
    return seconds


def _device_seconds(subject: Subject, wall: float) -> float:
    """What a step takes the device once its launches are queued, as far as the queue reaches.

    The device sleeps while they are, so that it finds them ready.
    """
    found = []
    for _ in range(3):
        first, last = _event(), _event()
        pause = round(_CYCLES * (1.5 * wall * subject.cycle + 0.001))
        torch.cuda._sleep(pause)  # type: ignore[no-untyped-call]
        first.record()
        for _ in range(subject.cycle):
            for part in subject.step.values():
                part()
        last.record()
        torch.cuda.synchronize()
        found.append(first.elapsed_time(last) / 1000 / subject.cycle)
    return min(found)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


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
    steps = PEAK_STEPS if subject.parts in (None, subject.step) else CAPTURE_STEPS
    works: dict[str, Callable[[], object]] = {
        "train": lambda: subject.train(steps),
        **subject.others,
    }
    subject.forget()
    for name, work in works.items():
        peak = measure_peak(work, subject.device)
        memory[f"{name}_peak"], memory[f"{name}_rise"] = peak.peak, peak.rise
        if name == "train" and peak.reserved is not None:
            memory["reserved"] = peak.reserved
        if peak.method == "ru_maxrss":
            memory["peak_not_reset"] = 1
    first, *rest = (subject.parts or subject.step).values()
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
