"""The cost session: all variants measured together, in interleaved rounds.

Ratios are formed only within a session, because the speed of a machine drifts by more than most
changes to a model matter. So every variant has its own process, and in each round all run one turn
of a few steps, in a new random order and on the same cores. The coordinator waits while an arm
runs, and no two arms run at once; only their builds overlap.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from passt_bench.console import Progress
from passt_bench.intervals import Rounds, ratio_intervals
from passt_bench.measure.arm import Arm, ArmError, ArmProcess
from passt_bench.measure.flops import SQUARES, Size
from passt_bench.measure.machine import background_load, changes, cores_of_round
from passt_bench.measure.target import STEP, PublishedProtocol
from passt_bench.records.run import Status
from passt_bench.spec.recipe import EngineSpec, MeasurementSpec

MIN_ROUNDS = 6  # fewer give no 95 % interval, see intervals.interval_ranks
WARM_AGREEMENT = 0.05  # maximum relative difference of two warm-up blocks' medians
WARM_BLOCKS = 4
_CORES_TO_COMPILE = 2  # cores per arm that compiles for a GPU at the same time as others
# Positions of the progress bar after each part; the rest is writing.
_BUILD, _WARM, _DONE = 0.05, 0.25, 0.99
_ROUNDS = 0.6  # if profiles or the published speed test follow


@dataclass
class ArmResult:
    """The results of one arm.

    Attributes:
        message: why it failed; for an arm that is ``ok``, what failed after the rounds.
        samples: phase → [round][step] seconds.
        warm: seconds of its warm-up steps by block.
        compile_seconds: seconds of compiling; None if nothing is compiled.
        published: clips per second in the published speed test; None if not requested.
    """

    status: Status = "ok"
    message: str | None = None
    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    attention: str = ""
    warm: list[list[float]] = field(default_factory=list)
    compile_seconds: float | None = None
    published: float | None = None


@dataclass(frozen=True)
class SessionResult:
    """The results of a session.

    Attributes:
        arms: results by name of the arm, failed arms included.
        rounds: number of completed rounds.
        peaks: engine → matmul peak in FLOP/s; an engine whose arms all failed is absent.
        disturbance: background load before and after, and warnings.
        seconds: wall seconds of the whole session.
    """

    arms: dict[str, ArmResult]
    rounds: int
    peaks: dict[EngineSpec, float]
    disturbance: dict[str, Any]
    seconds: float


def run_session(
    arms: Sequence[Arm],
    baseline: str,
    spec: MeasurementSpec,
    *,
    seed: int = 0,
    sizes: Sequence[Size] = (),
    preload: Sequence[str] = (),
    published: PublishedProtocol | None = None,
    profiles: Path | None = None,
    progress: Progress | None = None,
) -> SessionResult:
    """Measures arms together; an arm that fails becomes a row and does not stop the others.

    Args:
        arms: arms with distinct names.
        baseline: name of the arm in the denominator of ratios.
        spec: warm-up, steps, rounds, desired half width and limits.
        seed: seed of the order of the arms in each round.
        sizes: (m, k, n) of products for the matmul peak, in addition to `flops.SQUARES`.
        preload: modules that the arms' factories need, imported once for all arms.
        published: sizes of the published speed test, which then follows the rounds.
        profiles: folder for a table of operators and a Chrome trace of each arm, made at the end.
        progress: called with the share done, always below 1, and a short text.
    """
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names) or baseline not in names:
        raise ValueError(f"arms need distinct names with {baseline!r} among them, but got {names}")
    session = _Session(arms, baseline, spec, progress or (lambda share, text: None))
    before = background_load()
    try:
        session.build(preload)
        session.warm_up()
        peaks = session.find_peaks(sizes)
        rounds = session.run_rounds(
            random.Random(seed), bar_end=_ROUNDS if published or profiles else _DONE
        )
        session.finish(published, profiles)
    finally:
        session.close()
    return SessionResult(
        session.results, rounds, peaks, changes(before, background_load()), session.elapsed()
    )


def enough(samples: Mapping[str, Mapping[str, Rounds]], baseline: str, half_width: float) -> bool:
    """Whether each arm's step-time ratio is known to within ``half_width`` of itself.

    Args:
        samples: arm → phase → [round][step] seconds, of the arms still running.
        baseline: the arm in the denominator; if it failed, the result is True.
        half_width: desired half width of the intervals, as a fraction of the ratio.
    """
    if baseline not in samples:
        return True
    for name, phases in samples.items():
        ratio = ratio_intervals({STEP: phases.get(STEP, ())}, samples[baseline]).get(STEP)
        if name != baseline and (
            ratio is None or (ratio.high - ratio.low) / 2 > half_width * ratio.median
        ):
            return False
    return True


class _Session:
    """The coordinator: the running arms and the results."""

    def __init__(
        self, arms: Sequence[Arm], baseline: str, spec: MeasurementSpec, progress: Progress
    ) -> None:
        self.arms, self.baseline, self.spec = arms, baseline, spec
        self.results = {arm.name: ArmResult() for arm in arms}
        self._engines = {arm.name: arm.engine for arm in arms}
        self._progress = progress
        self._running: dict[str, ArmProcess] = {}
        self._start = time.monotonic()
        self._first_round = self._start  # replaced by `run_rounds`

    def elapsed(self) -> float:
        return time.monotonic() - self._start

    def build(self, preload: Sequence[str]) -> None:
        """Starts the processes; as many build at once as there are cores."""
        width = os.cpu_count() or 1
        for first in range(0, len(self.arms), width):
            self._progress(_BUILD * first / len(self.arms), "building")
            group = self.arms[first : first + width]
            for arm in group:
                self._running[arm.name] = ArmProcess(preload)
                self._running[arm.name].send("build", arm.factory, arm.engine.threads)
            for arm in group:
                self._receive(arm.name)

    def warm_up(self) -> None:
        """Runs each arm alone until the medians of two blocks agree, then measures its memory."""
        self._compile_on_gpu()
        for number, name in enumerate(list(self._running)):
            self._progress(_BUILD + (_WARM - _BUILD) * number / len(self.arms), "warm-up")
            blocks = self.results[name].warm
            if self._engines[name].compile and self.results[name].compile_seconds is None:
                self.results[name].compile_seconds = self._ask(name, "compile")
                if name not in self._running:
                    continue
            while not _agree(blocks):
                seconds = self._ask(name, "warm_up", (self.spec.warmup_steps + 1) // 2)
                if seconds is None:
                    break
                blocks.append(seconds)
            if name in self._running:
                answer = self._ask(name, "memory")
                if answer is not None:
                    self.results[name].memory, self.results[name].attention = answer

    def _compile_on_gpu(self) -> None:
        """Compiles as many arms at once as cores allow, because compiling is CPU work."""
        compiled = [
            name
            for name in self._running
            if self._engines[name].compile and self._engines[name].device == "cuda"
        ]
        width = max(1, (os.cpu_count() or 1) // _CORES_TO_COMPILE)
        for first in range(0, len(compiled), width):
            self._progress(_BUILD, "compiling")
            for name in compiled[first : first + width]:
                self._running[name].send("compile")
            for name in compiled[first : first + width]:
                self.results[name].compile_seconds = self._receive(name)

    def find_peaks(self, sizes: Sequence[Size]) -> dict[EngineSpec, float]:
        """The matmul peak of each engine, in the process of its first running arm."""
        peaks: dict[EngineSpec, float] = {}
        for arm in self.arms:
            if arm.name in self._running and arm.engine not in peaks:
                shapes = (*SQUARES[arm.engine.device], *sizes)
                peak = self._ask(arm.name, "peak", arm.engine.precision, shapes)
                if peak is not None:
                    peaks[arm.engine] = peak
        return peaks

    def run_rounds(self, order: random.Random, bar_end: float) -> int:
        """Runs rounds until the ratios are known well enough or a limit is reached.

        Args:
            order: shuffles the arms of each round.
            bar_end: position of the progress bar after the last round.
        """
        rounds = 0
        self._first_round = time.monotonic()
        while self._running and not self._finished(rounds):
            names = list(self._running)
            order.shuffle(names)
            for turn, name in enumerate(names):
                share = self._share_of_rounds(rounds + turn / len(names))
                self._progress(_WARM + (bar_end - _WARM) * share, f"round {rounds + 1}")
                phases = self._ask(name, "round", self.spec.steps, self._cores(name, rounds))
                for phase, seconds in (phases or {}).items():
                    self.results[name].samples.setdefault(phase, []).append(seconds)
            rounds += 1
        for name in list(self._running):
            self._ask(name, "unbind")
        return rounds

    def _cores(self, name: str, number: int) -> tuple[int, ...] | None:
        engine = self._engines[name]
        return cores_of_round(number, engine.threads) if engine.device == "cpu" else None

    def finish(self, published: PublishedProtocol | None, profiles: Path | None) -> None:
        """Makes profiles and runs the published speed test, once, after the rounds.

        If this fails (its batch may not fit), the results of the rounds are kept.
        """
        parts = (profiles is not None) + (published is not None)
        whole = max(1, parts * len(self._running))

        def show(done: int, text: str) -> None:
            self._progress(_ROUNDS + (_DONE - _ROUNDS) * done / whole, text)

        done = 0
        for name in list(self._running) if profiles else ():
            show(done, "profiling")
            self._extra(name, "profiling", "profile", profiles, name)
            done += 1
        for name in list(self._running) if published else ():
            self._extra(name, "releasing memory", "release")  # its batch may need all of it
        for name in list(self._running) if published else ():
            show(done, "the published speed test")
            speed = self._extra(name, "the published speed test", "published", published)
            self.results[name].published = speed
            done += 1

    def _share_of_rounds(self, done: float) -> float:
        """Share done after ``done`` rounds, if the ratios are not known earlier."""
        of_time_limit = min(self._seconds_of_rounds() / self.spec.seconds, done / MIN_ROUNDS)
        return min(1.0, max(done / self.spec.most_rounds, of_time_limit))

    def _seconds_of_rounds(self) -> float:
        return time.monotonic() - self._first_round

    def _finished(self, rounds: int) -> bool:
        time_is_up = self._seconds_of_rounds() > self.spec.seconds
        if rounds < (MIN_ROUNDS if time_is_up else self.spec.rounds):
            return False
        samples = {name: self.results[name].samples for name in self._running}
        return (
            time_is_up
            or rounds >= self.spec.most_rounds
            or enough(samples, self.baseline, self.spec.half_width)
        )

    def _ask(self, name: str, command: str, *arguments: object) -> Any:
        self._running[name].send(command, *arguments)
        return self._receive(name)

    def _extra(self, name: str, what: str, command: str, *arguments: object) -> Any:
        """Like `_ask`, but a failure sets only the message, not the status."""
        self._running[name].send(command, *arguments)
        try:
            return self._running[name].receive(self.spec.turn_seconds)
        except ArmError as failure:
            self.results[name].message = f"{what}: {failure.status}, {failure.message}"
            self._running.pop(name).close()
            return None

    def _receive(self, name: str) -> Any:
        """The answer of an arm; None if it failed, which removes it from the session."""
        try:
            return self._running[name].receive(self.spec.turn_seconds)
        except ArmError as failure:
            self.results[name].status, self.results[name].message = failure.status, failure.message
            self._running.pop(name).close()
            return None

    def close(self) -> None:
        """Ends every process that still runs."""
        while self._running:
            self._running.popitem()[1].close()


def _agree(blocks: list[list[float]]) -> bool:
    if len(blocks) < 2:
        return False
    last, previous = median(blocks[-1]), median(blocks[-2])
    return len(blocks) >= WARM_BLOCKS or abs(last - previous) <= WARM_AGREEMENT * previous
