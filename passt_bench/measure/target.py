"""Measures one variant in a cost session: its turns, memory and attention kernel.

On the CPU a timestamp is a reading of ``time.perf_counter``. On CUDA it is an event in the
stream, which needs no synchronization; events are read at the end of a turn, so that the device
never waits between timed steps. CPU seconds of the process are kept with both: if wall time on the
CPU is longer, something else used the core.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from statistics import fmean
from typing import Any

import torch

from passt_bench.measure.machine import bind
from passt_bench.measure.memory import measure_peak, release_free_memory, saved_for_backward
from passt_bench.measure.step_work import WorkCounter

STEP = "train_step"
# A turn of each phase on a GPU: calls that raise its frequency, then as many as fit into a second,
# at most 30. Only a few would measure how fast the frequency rises.
GPU_WARM_STEPS, GPU_STEPS, GPU_SECONDS = 10, 30, 1.0
_FREQUENCY = 2e9  # of a GPU in Hz, about
# Steps during a peak measurement: memory left by the first step raises the peak of the second. A
# CUDA graph allocates its memory when it is captured, after a few eager steps.
PEAK_STEPS, CAPTURE_STEPS = 2, 5
Work = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class PublishedProtocol:
    """Sizes of the reference code's speed test, see `runner.benchmark_target`.

    The batch was 100 in the code until 2023 and is not given in the paper.
    """

    batch: int = 100
    warmup: int = 10  # untimed steps
    steps: int = 100  # timed as a whole


@dataclass(frozen=True)
class Subject:
    """One variant, built and ready to run, in its own process."""

    step: Work  # consecutive parts of a training step: forward, …; together ``train_step``
    others: Work = field(default_factory=dict)  # phases measured separately, e.g. inference_1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    resident: tuple[torch.Tensor, ...] = ()  # parameters and buffers, which stay in memory
    # The reference code's speed test, in clips per second.
    published: Callable[[PublishedProtocol], float] | None = None
    # The separate parts if ``step`` replays all of them at once: bytes saved for backward and the
    # attention kernel are measured on them. Released graphs are captured again by the next steps.
    parts: Work | None = None
    release_graphs: Callable[[], object] = lambda: None
    cycle: int = 1  # stages of a patchout schedule: a sample is the mean of so many steps

    def train(self, steps: int) -> None:
        """Runs training steps, untimed; each is a whole cycle."""
        for _ in range(steps * self.cycle):
            for part in self.step.values():
                part()


class Clock:
    """Times named pieces of work on one device and returns the seconds once per turn."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._steps: list[tuple[str | None, list[str], list[Any]]] = []
        self._cpu: dict[str, list[float]] = {}

    def run(self, work: Work, total: str | None = None) -> None:
        """Runs pieces of work one after the other without a gap and times each.

        The total is timed under its name, if it has one, and its CPU seconds as ``<total>_cpu``.
        """
        cpu, mark = time.process_time(), _event if self._cuda else time.perf_counter
        marks: list[Any] = [mark()]
        for call in work.values():
            call()
            marks.append(mark())
        self._steps.append((total, list(work), marks))
        if total is not None:
            self._cpu.setdefault(f"{total}_cpu", []).append(time.process_time() - cpu)

    def read(self) -> dict[str, list[float]]:
        """Waits for the device; returns phase → seconds of each step since the last reading."""
        if self._cuda:
            torch.cuda.synchronize()
        seconds: dict[str, list[float]] = {}
        for total, names, marks in self._steps:
            for name, start, end in zip(names, marks, marks[1:], strict=False):
                seconds.setdefault(name, []).append(_between(start, end))
            if total is not None:
                seconds.setdefault(total, []).append(_between(marks[0], marks[-1]))
        seconds |= self._cpu
        self._steps, self._cpu = [], {}
        return seconds


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(start: Any, end: Any) -> float:
    """Seconds between two timestamps or two events."""
    return float(end - start if isinstance(start, float) else start.elapsed_time(end) / 1000)


def build(factory: Callable[[], Subject], threads: int) -> Subject:
    """Builds the subject of an arm in its process."""
    torch.set_num_threads(threads)
    subject = factory()
    # These objects stay: the collector need not visit them between timed steps.
    gc.collect()
    gc.freeze()
    return subject


def release(subject: Subject) -> None:
    """Returns memory that another arm's process may need: free, of gradients and of CUDA graphs.

    A gradient may lie in the same segment of memory as what is free, which then cannot be returned.
    """
    subject.release_graphs()
    for tensor in subject.resident:
        tensor.grad = None
    release_free_memory()


def warm_up(subject: Subject, steps: int) -> list[float]:
    """Runs every phase, the training step ``steps`` times; returns the seconds of each step."""
    clock = Clock(subject.device)
    for call in subject.others.values():
        call()
    for _ in range(steps * subject.cycle):
        clock.run(subject.step, total=STEP)
    return _samples(subject, clock)[STEP]


def compile_seconds(subject: Subject) -> float:
    """Seconds that compiling takes: those of the first call of all phases minus the second."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        subject.train(1)
        for call in subject.others.values():
            call()
        if subject.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    release(subject)
    return max(0.0, seconds[0] - seconds[1])


def run_turn(
    subject: Subject, steps: int, cores: tuple[int, ...] | None = None
) -> dict[str, list[float]]:
    """One turn in a round, on some cores: ``steps`` training steps, then every other phase once.

    Returns:
        Phase → seconds of each run. On CUDA each phase is timed by two events around many runs and
        has one value per turn, their mean; ``train_step_wall`` is the wall time of the same steps,
        ``train_step_device`` the time on the device if launches are queued ahead: if the two
        differ, the step waits for its launches.
    """
    bind(cores)
    if subject.device.type == "cuda":
        return _run_gpu_turn(subject)
    clock = Clock(subject.device)
    for _ in range(steps * subject.cycle):
        clock.run(subject.step, total=STEP)
    for phase, call in subject.others.items():
        call()  # untimed: after training, memory was freed and caches are cold
        clock.run({phase: call})
    return _samples(subject, clock)


def _run_gpu_turn(subject: Subject) -> dict[str, list[float]]:
    clock = Clock(subject.device)

    def cycle() -> None:
        for _ in range(subject.cycle):
            clock.run(subject.step, total=STEP)

    step, wall = (s / subject.cycle for s in _time_on_gpu(partial(subject.train, 1), cycle))
    seconds = {phase: [fmean(times)] for phase, times in clock.read().items()}
    seconds |= {STEP: [step], f"{STEP}_wall": [wall]}
    seconds[f"{STEP}_device"] = [_device_seconds(subject, wall)]
    seconds |= {phase: [_time_on_gpu(call, call)[0]] for phase, call in subject.others.items()}
    release(subject)  # the other arms need the memory while this one waits
    return seconds


def _time_on_gpu(warm: Callable[[], object], call: Callable[[], object]) -> tuple[float, float]:
    """Mean seconds of a call between two events, and by the wall clock, after untimed ones."""
    for _ in range(GPU_WARM_STEPS):
        warm()
    torch.cuda.synchronize()
    began, calls = time.perf_counter(), 0
    first = _event()
    while calls < GPU_STEPS and (calls < 3 or time.perf_counter() - began < GPU_SECONDS):
        call()
        calls += 1
    last = _event()
    torch.cuda.synchronize()
    return _between(first, last) / calls, (time.perf_counter() - began) / calls


def _device_seconds(subject: Subject, wall: float) -> float:
    """Device seconds of a step whose launches are already queued, within the queue's length.

    The device sleeps while they are being queued.
    """
    seconds = []
    for _ in range(3):
        pause = round(_FREQUENCY * (1.5 * wall * subject.cycle + 0.001))
        torch.cuda._sleep(pause)  # type: ignore[no-untyped-call]
        first = _event()
        subject.train(1)
        last = _event()
        torch.cuda.synchronize()
        seconds.append(_between(first, last) / subject.cycle)
    return min(seconds)


def _samples(subject: Subject, clock: Clock) -> dict[str, list[float]]:
    """The seconds read from the clock, with the mean over each cycle of training steps."""
    seconds, n = clock.read(), subject.cycle
    if n > 1:
        for phase in (*subject.step, STEP, f"{STEP}_cpu"):
            times = seconds[phase]
            seconds[phase] = [fmean(times[i : i + n]) for i in range(0, len(times), n)]
    return seconds


def measure_memory(subject: Subject) -> tuple[dict[str, float], str]:
    """Peaks by phase, bytes saved for backward, and the attention kernel in use.

    Returns:
        Bytes by name: ``train_peak`` and ``train_rise``, the same of each other phase,
        ``saved_for_backward`` (the maximum in a cycle), ``resident`` (parameters, buffers), on CUDA
        ``reserved``; ``peak_not_reset`` = 1 if the peak could not be reset (see `memory.Peak`).
    """
    memory: dict[str, float] = {}
    steps = PEAK_STEPS if subject.parts in (None, subject.step) else CAPTURE_STEPS
    phases: Work = {"train": lambda: subject.train(steps), **subject.others}
    subject.release_graphs()
    for name, call in phases.items():
        peak = measure_peak(call, subject.device)
        memory[f"{name}_peak"], memory[f"{name}_rise"] = peak.peak, peak.rise
        if name == "train" and peak.reserved is not None:
            memory["reserved"] = peak.reserved
        if not peak.was_reset:
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
    release(subject)
    return memory, kernel


def attention_kernel(forward: Callable[[], object]) -> str:
    """The fused attention operators that a forward pass calls, e.g. ``flash_attention_for_cpu``.

    Several are joined by ``+``; ``unfused`` if only a softmax runs; empty if neither does, as in a
    CNN.
    """
    with WorkCounter() as operators:
        forward()
    fused = [name.removeprefix("_") for name in operators.seen if "attention" in name]
    unfused = "unfused" if operators.seen & {"_softmax", "softmax"} else ""
    return "+".join(sorted(n.removeprefix("scaled_dot_product_") for n in fused)) or unfused


def run_published(
    subject: Subject, protocol: PublishedProtocol, cores: tuple[int, ...] | None = None
) -> float | None:
    """Runs the published speed test on some cores; clips per second, None if there is none."""
    bind(cores)
    try:
        return subject.published(protocol) if subject.published else None
    finally:
        release_free_memory()
