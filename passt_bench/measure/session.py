"""The cost session: all variants measured together, in interleaved rounds.

Ratios are formed only within a session, because the speed of a machine drifts by more than most
changes to a model matter. So every variant has its own process, and in each round all run one turn
of a few steps, in a new random order and on the same cores. The coordinator waits while an arm
runs, and no two arms run at once; only their builds overlap. After some rounds all arms restart in
new processes, because a process has an effect of its own on its speed.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from passt_bench.console import Progress
from passt_bench.errors import failure_status, without_folders
from passt_bench.intervals import noise_half_width, round_ratios
from passt_bench.measure import machine, target
from passt_bench.measure.peaks import SQUARES, Size, matmul_peak
from passt_bench.measure.target import PublishedProtocol, Subject
from passt_bench.processes import PipedChild
from passt_bench.records.run import Status
from passt_bench.spec.recipe import EngineSpec, MeasurementSpec

MIN_ROUNDS = 6  # fewer give no 95 % interval, see intervals.interval_ranks
WARM_AGREEMENT = 0.05  # maximum relative difference of two warm-up chunks' medians
WARM_CHUNKS = 4
_MESSAGE_LENGTH = 500
_CORES_TO_COMPILE = 4  # cores per arm that compiles for a GPU at the same time as others
_INTO_TURN = 0.5  # seconds after which a GPU's clock and power are those of the work
_BUILD, _WARM = 0.05, 0.25  # shares of a restart
_DONE = 0.99  # share of the progress bar after the last round


@dataclass(frozen=True)
class Arm:
    """A variant to measure."""

    name: str  # unique in the session
    factory: Callable[[], Subject]  # called inside the arm's process, so it must be picklable
    engine: EngineSpec = field(default_factory=EngineSpec)


@dataclass
class ArmResult:
    """The results of one arm."""

    status: Status = "ok"
    message: str | None = None  # why it failed; of an arm that is ok, what failed after the rounds
    samples: dict[str, list[list[float]]] = field(default_factory=dict)  # phase → [round][step] s
    memory: dict[str, float] = field(default_factory=dict)  # bytes by name, in its first process
    attention: str = ""
    compile_seconds: float | None = None  # of its first process; None if nothing is compiled
    published: float | None = None  # clips per second in the published speed test


@dataclass(frozen=True)
class SessionResult:
    """The results of a session."""

    arms: dict[str, ArmResult]  # failed arms included
    restarts: tuple[int, ...]  # rounds of each
    peaks: dict[EngineSpec, float]  # matmul peak in FLOP/s; none where all arms failed
    disturbance: dict[str, Any]  # load before and after, GPUs during each arm's turn, warnings
    seconds: float


class ArmProcess(PipedChild):
    """The process of an arm, which calls the functions that it is sent.

    The first function builds the subject; it is the first argument of all others.
    """

    def __init__(self, *modules: str) -> None:
        # The first optimizer of a process imports torch._dynamo, which takes two seconds.
        super().__init__(_serve, modules=(__name__, "torch._dynamo", *modules), daemon=True)

    def receive(self, seconds: float) -> tuple[Status, Any]:
        """``ok`` and the result of the last function, or how it failed and a message."""
        try:
            if not self.pipe.poll(seconds):
                return "timeout", f"no answer within {seconds:g} s"
            status, value = self.pipe.recv()
            return status, value
        except (EOFError, OSError):
            self.ended(10)
            reason, message = self.explain_exit()
            return "oom" if reason == "oom" else "error", message


def _serve(pipe: Connection) -> None:
    subject: Subject | None = None
    while True:
        answer: tuple[Status, Any] = ("ok", None)
        try:
            function, *arguments = pipe.recv()
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
    progress: Progress = lambda share, text: None,
) -> SessionResult:
    """Measures arms together; an arm that fails becomes a row and does not stop the others.

    Args:
        arms: arms with distinct names, of which the baseline is one.
        baseline: name of the arm in the denominator of ratios.
        spec: restarts, warm-up, steps, rounds, desired half width and limits.
        seed: seed of the order of the arms in each round.
        sizes: (m, k, n) of products for the matmul peak, in addition to `peaks.SQUARES`.
        published: sizes of the published speed test, which then follows the rounds.
        progress: called with the share done, always below 1, and a short text.
    """
    start, before, order = time.monotonic(), machine.background_load(), random.Random(seed)
    session, peaks = _Session(arms, baseline, spec, progress), dict[EngineSpec, float]()
    try:
        for number in range(session.restarts):
            session.prepare()
            peaks = peaks if number else session.find_peaks(sizes)
            session.run_rounds(order)
        if published is not None:
            session.run_published(published)
    finally:
        session.close()
    disturbance = machine.changes(before, machine.background_load())
    disturbance |= {"during": session.gpus} if session.gpus else {}
    restarts, seconds = tuple(filter(None, session.rounds)), time.monotonic() - start
    return SessionResult(session.results, restarts, peaks, disturbance, seconds)


class _Session:
    """The coordinator: the running arms and the results."""

    def __init__(
        self, arms: Sequence[Arm], baseline: str, spec: MeasurementSpec, progress: Progress
    ) -> None:
        self.arms, self.baseline, self.spec = arms, baseline, spec
        self.results = {arm.name: ArmResult() for arm in arms}
        self._engines = {arm.name: arm.engine for arm in arms}
        self.restarts = spec.processes(gpu=self._engines[baseline].device == "cuda")
        self.rounds: list[int] = []  # of each restart so far
        self._progress = progress
        self._running: dict[str, ArmProcess] = {}
        self._first_round = time.monotonic()  # replaced by `run_rounds`
        self.gpus: dict[str, Any] = {}  # in a turn of each arm

    def _show(self, share: float, text: str) -> None:
        """Shows a share of the current restart."""
        done, of = len(self.rounds) - 1, self.restarts
        which = f", restart {done + 1} of {of}" if of > 1 else ""
        self._progress(_DONE * (done + share) / of, text + which)

    def prepare(self) -> None:
        """Builds all arms that have not failed, in new processes, compiles them, warms them up.

        As many are built at once as there are cores. What lacked memory beside others starts once
        more, when they have released theirs.
        """
        self.close()
        self.rounds.append(0)
        arms = [arm for arm in self.arms if self.results[arm.name].status == "ok"]
        width = os.cpu_count() or 1
        for first in range(0, len(arms), width):
            self._show(_BUILD * first / len(arms), "building")
            self._build(arms[first : first + width])
        if any(arm.engine.compile != "off" for arm in arms):
            self._show(_BUILD, "compiling")
        self._warm_up(arms)
        short = [arm for arm in arms if self.results[arm.name].status == "oom"]
        for arm in short if len(self.arms) > 1 else ():
            self.results[arm.name].status, self.results[arm.name].message = "ok", None
            self._build([arm])
            self._warm_up([arm])

    def _build(self, arms: Sequence[Arm]) -> None:
        modules = {type(arm.factory).__module__ for arm in arms}
        for arm in arms:
            self._running[arm.name] = ArmProcess(*modules)
            self._running[arm.name].send(target.build, arm.factory, arm.engine.threads)
        for arm in arms:
            self._receive(arm.name)

    def _warm_up(self, arms: Sequence[Arm]) -> None:
        """Runs each arm alone until the medians of two chunks agree; measures its memory once."""
        new = [arm.name for arm in arms if arm.name in self._running]
        self._compile(new)
        for number, name in enumerate(new, start=len(self.arms) - len(new)):
            self._show(_BUILD + (_WARM - _BUILD) * number / len(self.arms), "warm-up")
            last = 0.0
            for _ in range(WARM_CHUNKS if name in self._running else 0):  # or compiling failed
                times = self._ask(name, target.warm_up, (self.spec.warmup_steps + 1) // 2)
                if times is None or abs(median(times) - last) <= WARM_AGREEMENT * last:
                    break
                last = median(times)
            if name in self._running and self.results[name].memory:
                self._ask(name, target.release)  # as after `measure_memory`
            elif name in self._running and (answer := self._ask(name, target.measure_memory)):
                self.results[name].memory, self.results[name].attention = answer

    def _compile(self, names: Sequence[str]) -> None:
        """Compiles, for a GPU as many arms at once as cores allow, because that is CPU work."""
        compiled = [name for name in names if self._engines[name].compile != "off"]
        cuda = all(self._engines[name].device == "cuda" for name in compiled)
        width = max(1, (os.cpu_count() or 1) // _CORES_TO_COMPILE) if cuda else 1
        for first in range(0, len(compiled), width):
            for name in compiled[first : first + width]:
                self._running[name].send(target.compile_seconds)
            for name in compiled[first : first + width]:
                seconds = self._receive(name)
                if len(self.rounds) == 1:  # later ones find what was compiled in a cache
                    self.results[name].compile_seconds = seconds

    def find_peaks(self, sizes: Sequence[Size]) -> dict[EngineSpec, float]:
        """The matmul peak of each engine, in the process of its first running arm."""
        peaks: dict[EngineSpec, float] = {}
        for arm in self.arms:
            if arm.name in self._running and arm.engine not in peaks:
                shapes = (*SQUARES[arm.engine.device], *sizes)
                if peak := self._ask(arm.name, _peak, arm.engine.precision, shapes):
                    peaks[arm.engine] = peak
        return peaks

    def run_rounds(self, order: random.Random) -> None:
        """Runs the rounds of a restart until there are enough; ``order`` shuffles their arms."""
        self._first_round = time.monotonic()
        while self._running and not self._enough():
            names, number = list(self._running), sum(self.rounds)
            order.shuffle(names)
            for turn, name in enumerate(names):
                done = self.rounds[-1] + turn / len(names)
                of_time = min(self._time_used(), done / self._part(MIN_ROUNDS))
                share = min(1.0, max(done / self._part(self.spec.most_rounds), of_time))
                self._show(_WARM + (1 - _WARM) * share, f"round {number + 1}")
                engine, cpu = self._engines[name], self._engines[name].device == "cpu"
                cores = machine.cores_of_round(number, engine.threads) if cpu else None
                self._running[name].send(target.run_turn, self.spec.steps, cores)
                if not (cpu or number):
                    time.sleep(_INTO_TURN)
                    self.gpus[name] = machine.query_gpus()
                for phase, seconds in (self._receive(name) or {}).items():
                    self.results[name].samples.setdefault(phase, []).append(seconds)
            self.rounds[-1] += 1

    def _time_used(self) -> float:
        """Share of the time that a restart has for its rounds."""
        return (time.monotonic() - self._first_round) * self.restarts / self.spec.seconds

    def _part(self, rounds: int) -> int:
        """The part of all rounds that this restart runs: equal, in whole rounds, at least one."""
        n = len(self.rounds)
        return max(1, ceil(rounds * n / self.restarts) - ceil(rounds * (n - 1) / self.restarts))

    def _enough(self) -> bool:
        time_is_up, done = self._time_used() > 1, self.rounds[-1]
        if done < self._part(MIN_ROUNDS if time_is_up else self.spec.rounds):
            return False
        if time_is_up or done >= self._part(self.spec.most_rounds):
            return True
        if self.baseline not in self._running:
            return True  # it failed: there is no ratio to wait for
        arms = {name: self.results[name].samples for name in self._running}
        base = arms.pop(self.baseline)
        common = ((own[p], base[p]) for own in arms.values() for p in {*own} & {*base})
        ratios = (round_ratios(*rounds) for rounds in common)
        halves = (noise_half_width(x, self.rounds, self.restarts) for x in ratios)
        return all(half <= self.spec.half_width for half in halves)

    def run_published(self, protocol: PublishedProtocol) -> None:
        """Runs the published speed test, after the rounds, whose results are kept if it fails."""
        what, given = "the published speed test", (protocol, machine.all_cores())
        self._progress(_DONE, what)
        for name in list(self._running):
            self._ask(name, target.release, after_rounds=what)
        for name in list(self._running):
            speed = self._ask(name, target.run_published, *given, after_rounds=what)
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
        status, value = self._running[name].receive(self.spec.turn_seconds)
        if status == "ok":
            return value
        result, message = self.results[name], without_folders(value)[:_MESSAGE_LENGTH]
        if after_rounds:
            result.message = f"{after_rounds}: {status}, {message}"
        else:
            result.status, result.message = status, message
        return self._running.pop(name).close()

    def close(self) -> None:
        """Ends every process that still runs."""
        while self._running:
            self._running.popitem()[1].close()
