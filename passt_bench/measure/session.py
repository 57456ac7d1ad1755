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
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from passt_bench.console import Progress
from passt_bench.intervals import Rounds, ratio_intervals
from passt_bench.measure import machine
from passt_bench.measure.memory import failure_status
from passt_bench.measure.peaks import SQUARES, Size, matmul_peak
from passt_bench.measure.target import (
    STEP,
    PublishedProtocol,
    Subject,
    bind_to,
    build,
    compile_seconds,
    measure_memory,
    release,
    run_published,
    run_turn,
    warm_up,
    write_profile,
)
from passt_bench.processes import PipedChild
from passt_bench.records.run import Status
from passt_bench.spec.recipe import EngineSpec, MeasurementSpec

MIN_ROUNDS = 6  # fewer give no 95 % interval, see intervals.interval_ranks
WARM_AGREEMENT = 0.05  # maximum relative difference of two warm-up chunks' medians
WARM_CHUNKS = 4
_MESSAGE_LENGTH = 500
_CORES_TO_COMPILE = 4  # cores per arm that compiles for a GPU at the same time as others
_INTO_TURN = 0.5  # seconds after which a GPU's clock and power are those of the work
# Positions of the progress bar after each part; the rest is writing.
_BUILD, _WARM, _DONE = 0.05, 0.25, 0.99
_ROUNDS = 0.6  # if profiles or the published speed test follow


@dataclass(frozen=True)
class Arm:
    """A variant to measure."""

    name: str  # unique in the session
    factory: Callable[[], Subject]  # called inside the arm's process, so it must be picklable
    engine: EngineSpec = field(default_factory=EngineSpec)


@dataclass
class ArmResult:
    """The results of one arm.

    Attributes:
        message: why it failed; for an arm that is ``ok``, what failed after the rounds.
        samples: phase → [round][step] seconds.
        compile_seconds: seconds of compiling; None if nothing is compiled.
        published: clips per second in the published speed test; None if not requested.
    """

    status: Status = "ok"
    message: str | None = None
    samples: dict[str, list[list[float]]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    attention: str = ""
    compile_seconds: float | None = None
    published: float | None = None


@dataclass(frozen=True)
class SessionResult:
    """The results of a session."""

    arms: dict[str, ArmResult]  # failed arms included
    rounds: int
    peaks: dict[EngineSpec, float]  # matmul peak in FLOP/s; none where all arms failed
    disturbance: dict[str, Any]  # load before and after, GPUs during each arm's turn, warnings
    seconds: float


class ArmError(Exception):
    """An arm's process raised, died or took too long."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message[:_MESSAGE_LENGTH]


class ArmProcess:
    """Starts the process of an arm, which calls the functions that it is sent.

    The first function builds the subject; it is the first argument of all others.
    """

    def __init__(self, *modules: str) -> None:
        # The first optimizer of a process imports torch._dynamo, which takes two seconds.
        modules = (__name__, "torch._dynamo", *modules)
        self._child = PipedChild(_serve, modules=modules, daemon=True)
        self.pid = self._child.pid

    def send(self, function: Callable[..., object], *arguments: object) -> None:
        """Sends a function and its arguments; `receive` detects a dead process."""
        self._child.send(function, arguments)

    def receive(self, seconds: float) -> Any:
        """Waits for the result of the last function.

        Raises:
            ArmError: it raised, the process died, or there was no answer within ``seconds``.
        """
        try:
            if not self._child.pipe.poll(seconds):
                raise ArmError("timeout", f"no answer within {seconds:g} s")
            status, value = self._child.pipe.recv()
        except (EOFError, OSError):
            self._child.ended(10)
            reason, message = self._child.explain_exit()
            raise ArmError("oom" if reason == "oom" else "error", message) from None
        if status != "ok":
            raise ArmError(status, value)
        return value

    def close(self) -> None:
        """Kills the process."""
        self._child.close()


def _serve(pipe: Connection) -> None:
    subject: Subject | None = None
    while True:
        answer: tuple[Status, Any] = ("ok", None)
        try:
            function, arguments = pipe.recv()
            if subject is None:
                subject = function(*arguments)
            else:
                answer = ("ok", function(subject, *arguments))
        except (EOFError, ConnectionError):  # the coordinator has ended
            return
        except Exception as error:  # an error of a variant becomes its row in the table
            answer = (failure_status(error), f"{type(error).__name__}: {error}")
        with suppress(ConnectionError):
            pipe.send(answer)


def _peak(subject: Subject, precision: Any, sizes: Sequence[Size]) -> float:
    return matmul_peak(subject.device, precision, sizes)


def run_session(
    arms: Sequence[Arm],
    baseline: str,
    spec: MeasurementSpec,
    *,
    seed: int = 0,
    sizes: Sequence[Size] = (),
    published: PublishedProtocol | None = None,
    profiles: Path | None = None,
    progress: Progress = lambda share, text: None,
) -> SessionResult:
    """Measures arms together; an arm that fails becomes a row and does not stop the others.

    Args:
        arms: arms with distinct names.
        baseline: name of the arm in the denominator of ratios.
        spec: warm-up, steps, rounds, desired half width and limits.
        seed: seed of the order of the arms in each round.
        sizes: (m, k, n) of products for the matmul peak, in addition to `flops.SQUARES`.
        published: sizes of the published speed test, which then follows the rounds.
        profiles: folder for a table of operators and a Chrome trace of each arm, made at the end.
        progress: called with the share done, always below 1, and a short text.
    """
    names = [arm.name for arm in arms]
    if len(set(names)) < len(names) or baseline not in names:
        raise ValueError(f"arms need distinct names with {baseline!r} among them, but got {names}")
    start = time.monotonic()
    session = _Session(arms, baseline, spec, progress)
    before = machine.background_load()
    try:
        session.prepare()
        peaks = session.find_peaks(sizes)
        rounds = session.run_rounds(
            random.Random(seed), bar_end=_ROUNDS if published or profiles else _DONE
        )
        session.finish(published, profiles)
    finally:
        session.close()
    disturbance = machine.changes(before, machine.background_load())
    if session.gpus:
        disturbance["during"] = session.gpus
    return SessionResult(session.results, rounds, peaks, disturbance, time.monotonic() - start)


def precise(samples: Mapping[str, Mapping[str, Rounds]], baseline: str, half_width: float) -> bool:
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
        self._first_round = time.monotonic()  # replaced by `run_rounds`
        self.gpus: dict[str, Any] = {}  # in a turn of each arm

    def prepare(self) -> None:
        """Builds as many arms at once as there are cores, compiles them and warms them up.

        What lacked memory beside others starts once more, when they have released theirs.
        """
        width = os.cpu_count() or 1
        for first in range(0, len(self.arms), width):
            self._progress(_BUILD * first / len(self.arms), "building")
            self._build(self.arms[first : first + width])
        self._progress(_BUILD, "compiling")
        self._warm_up()
        for arm in self.arms if len(self.arms) > 1 else ():
            if self.results[arm.name].status == "oom":
                self.results[arm.name] = ArmResult()
                self._build([arm])
                self._warm_up()

    def _build(self, arms: Sequence[Arm]) -> None:
        modules = {type(arm.factory).__module__ for arm in arms}
        for arm in arms:
            self._running[arm.name] = ArmProcess(*modules)
            self._running[arm.name].send(build, arm.factory, arm.engine.threads)
        for arm in arms:
            self._receive(arm.name)

    def _warm_up(self) -> None:
        """Runs each new arm alone until the medians of two chunks agree; measures its memory."""
        new = [name for name in self._running if not self.results[name].memory]
        self._compile(new)
        for number, name in enumerate(new, start=len(self.arms) - len(new)):
            self._progress(_BUILD + (_WARM - _BUILD) * number / len(self.arms), "warm-up")
            chunks: list[list[float]] = []
            while name in self._running and not _agree(chunks):
                chunks.append(self._ask(name, warm_up, (self.spec.warmup_steps + 1) // 2))
            if name in self._running and (answer := self._ask(name, measure_memory)):
                self.results[name].memory, self.results[name].attention = answer

    def _compile(self, names: Sequence[str]) -> None:
        """Compiles, for a GPU as many arms at once as cores allow, because that is CPU work."""
        compiled = [name for name in names if self._engines[name].compile != "off"]
        cuda = all(self._engines[name].device == "cuda" for name in compiled)
        width = max(1, (os.cpu_count() or 1) // _CORES_TO_COMPILE) if cuda else 1
        for first in range(0, len(compiled), width):
            for name in compiled[first : first + width]:
                self._running[name].send(compile_seconds)
            for name in compiled[first : first + width]:
                self.results[name].compile_seconds = self._receive(name)

    def find_peaks(self, sizes: Sequence[Size]) -> dict[EngineSpec, float]:
        """The matmul peak of each engine, in the process of its first running arm."""
        peaks: dict[EngineSpec, float] = {}
        for arm in self.arms:
            if arm.name in self._running and arm.engine not in peaks:
                shapes = (*SQUARES[arm.engine.device], *sizes)
                peak = self._ask(arm.name, _peak, arm.engine.precision, shapes)
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
                engine = self._engines[name]
                cpu = engine.device == "cpu"
                cores = machine.cores_of_round(rounds, engine.threads) if cpu else None
                self._running[name].send(run_turn, self.spec.steps, cores)
                if not (cpu or rounds):
                    time.sleep(_INTO_TURN)
                    self.gpus[name] = machine.query_gpus()
                phases = self._receive(name) or {}
                for phase, seconds in phases.items():
                    self.results[name].samples.setdefault(phase, []).append(seconds)
            rounds += 1
        for name in list(self._running):
            self._ask(name, bind_to, machine.all_cores())
        return rounds

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
            or precise(samples, self.baseline, self.spec.half_width)
        )

    def finish(self, published: PublishedProtocol | None, profiles: Path | None) -> None:
        """Makes profiles and runs the published speed test, once, after the rounds.

        If this fails (its batch may not fit), the results of the rounds are kept.
        """
        half = (_ROUNDS + _DONE) / 2
        for done, name in enumerate(list(self._running) if profiles else ()):
            self._progress(_ROUNDS + (half - _ROUNDS) * done / len(self.arms), "profiling")
            self._ask(name, write_profile, profiles, name, after_rounds="profiling")
        for name in list(self._running) if published else ():
            self._ask(name, release, after_rounds="releasing memory")
        for done, name in enumerate(list(self._running) if published else ()):
            what = "the published speed test"
            self._progress(half + (_DONE - half) * done / len(self.arms), what)
            speed = self._ask(name, run_published, published, after_rounds=what)
            self.results[name].published = speed

    def _ask(
        self, name: str, function: Callable[..., Any], *arguments: object, after_rounds: str = ""
    ) -> Any:
        self._running[name].send(function, *arguments)
        return self._receive(name, after_rounds)

    def _receive(self, name: str, after_rounds: str = "") -> Any:
        """The answer of an arm; None if it failed, which removes it from the session.

        What fails ``after_rounds`` (its name) sets only the message, not the status.
        """
        try:
            return self._running[name].receive(self.spec.turn_seconds)
        except ArmError as failure:
            result = self.results[name]
            if after_rounds:
                result.message = f"{after_rounds}: {failure.status}, {failure.message}"
            else:
                result.status, result.message = failure.status, failure.message
            self._running.pop(name).close()
            return None

    def close(self) -> None:
        """Ends every process that still runs."""
        while self._running:
            self._running.popitem()[1].close()


def _agree(chunks: list[list[float]]) -> bool:
    if len(chunks) < 2:
        return False
    last, previous = median(chunks[-1]), median(chunks[-2])
    return len(chunks) >= WARM_CHUNKS or abs(last - previous) <= WARM_AGREEMENT * previous
