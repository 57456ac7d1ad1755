"""A process that runs one variant of a cost session, and the handle that commands it.

The process waits for commands on its pipe and ends when the pipe closes, so it outlives its
coordinator by at most one command, even if the coordinator was killed.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from passt_bench.measure.failure import classify, explain_exit, oom_kills
from passt_bench.measure.flops import Size, matmul_peak
from passt_bench.measure.machine import all_cores, bind
from passt_bench.measure.memory import release_free_memory
from passt_bench.measure.target import (
    PublishedProtocol,
    Subject,
    compile_seconds,
    measure_memory,
    run_turn,
    warm_up,
    write_profile,
)
from passt_bench.processes import fork_server
from passt_bench.records.run import Status
from passt_bench.spec.recipe import EngineSpec

MESSAGE_LENGTH = 500


@dataclass(frozen=True)
class Arm:
    """A variant to measure.

    Attributes:
        name: name, unique in the session.
        factory: builds the subject; called inside the arm's process, so it must be picklable.
        engine: device, threads and precision, for the thread count and the matmul peak.
    """

    name: str
    factory: Callable[[], Subject]
    engine: EngineSpec = field(default_factory=EngineSpec)


class ArmError(Exception):
    """An arm's process raised, died or took too long."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message[:MESSAGE_LENGTH]


class ArmProcess:
    """The handle of an arm's process; starts the process.

    Args:
        preload: modules that the factory needs; the fork server imports them once for all arms,
            unless it was already running.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        # The first optimizer of a process imports torch._dynamo, which takes two seconds.
        context = fork_server(__name__, "torch._dynamo", *preload)
        self._kills = oom_kills()
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_end,), daemon=True)
        self._process.start()
        child_end.close()

    @property
    def pid(self) -> int | None:
        """The ID of the process."""
        return self._process.pid

    def send(self, command: str, *arguments: object) -> None:
        """Sends a command; `receive` detects a dead process."""
        try:
            self._pipe.send((command, arguments))
        except OSError:
            return

    def receive(self, seconds: float) -> Any:
        """Waits for the answer to the last command.

        Raises:
            ArmError: the command raised, the process died, or no answer came within ``seconds``.
        """
        try:
            if not self._pipe.poll(seconds):
                raise ArmError("timeout", f"no answer within {seconds:g} s")
            status, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise ArmError(*explain_exit(self._process.exitcode, self._kills)) from None
        if status != "ok":
            raise ArmError(status, value)
        return value

    def close(self) -> None:
        """Kills the process."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _serve(pipe: Connection) -> None:
    """Main loop of the arm's process: reads commands and sends answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator handles Ctrl-C
    handler = _CommandHandler()
    while True:
        try:
            command, arguments = pipe.recv()
            answer = ("ok", getattr(handler, command)(*arguments))
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # an error of a variant becomes its row in the table
            answer = (classify(error), f"{type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except ConnectionError:
            return


class _CommandHandler:
    """Runs the commands of an arm's process."""

    subject: Subject

    def __init__(self) -> None:
        self._cores = all_cores()

    def build(self, factory: Callable[[], Subject], threads: int) -> None:
        torch.set_num_threads(threads)
        self.subject = factory()
        # These objects stay: the collector need not visit them between timed steps.
        gc.collect()
        gc.freeze()

    def warm_up(self, steps: int) -> list[float]:
        return warm_up(self.subject, steps)

    def memory(self) -> tuple[dict[str, float], str]:
        return measure_memory(self.subject)

    def round(self, steps: int, cores: tuple[int, ...] | None) -> dict[str, list[float]]:
        bind(cores)
        samples = run_turn(self.subject, steps)
        if self.subject.device.type == "cuda":
            torch.cuda.empty_cache()  # the other arms need it while this one waits
        return samples

    def unbind(self) -> None:
        """Lets the process run on any core again."""
        bind(self._cores)

    def compile(self) -> float:
        return compile_seconds(self.subject)

    def published(self, protocol: PublishedProtocol) -> float | None:
        test = self.subject.published
        try:
            return test(protocol) if test else None
        finally:
            release_free_memory()

    def release(self) -> None:
        """Returns free memory, which another arm's process may need."""
        release_free_memory()

    def profile(self, folder: Path, name: str) -> None:
        write_profile(self.subject, folder, name)

    def peak(self, precision: Any, sizes: Sequence[Size]) -> float:
        return matmul_peak(self.subject.device, precision, sizes)
