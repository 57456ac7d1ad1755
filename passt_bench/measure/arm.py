"""A process that holds one variant of a cost session, and the handle that commands it.

The process sleeps in a read on its pipe between commands and ends when the pipe closes, so it
outlives its coordinator by one command at most, even if that was killed.
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
    take_memory,
    take_round,
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
        name: unique in the session.
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
    """The handle of an arm's process; starts it at once.

    Args:
        preload: modules that the factory needs; the fork server imports them once for all, unless
            this program has started it before.
    """

    def __init__(self, preload: Sequence[str] = ()) -> None:
        # The first optimizer of a process imports torch._dynamo, which takes two seconds.
        context = fork_server(__name__, "torch._dynamo", *preload)
        self._kills = oom_kills()
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int | None:
        """The process's number."""
        return self._process.pid

    def send(self, command: str, *arguments: object) -> None:
        """Sends a command; a dead process is noticed by `receive`."""
        try:
            self._pipe.send((command, arguments))
        except OSError:
            return

    def receive(self, seconds: float) -> Any:
        """Waits idle for the answer to the last command.

        Raises:
            ArmError: the command raised, the process died, or ``seconds`` went by.
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
        """Ends the process, whatever it is doing."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _serve(pipe: Connection) -> None:
    """The life of an arm's process: read a command, obey, answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the coordinator's to handle
    holder = _Holder()
    while True:
        try:
            command, arguments = pipe.recv()
            answer = ("ok", getattr(holder, command)(*arguments))
        except (EOFError, ConnectionError):
            return
        except Exception as error:  # whatever a variant raises becomes its row in the table
            answer = (classify(error), f"{type(error).__name__}: {error}")
        try:
            pipe.send(answer)
        except ConnectionError:
            return


class _Holder:
    """The commands an arm's process knows."""

    subject: Subject

    def __init__(self) -> None:
        self._cores = all_cores()

    def build(self, factory: Callable[[], Subject], threads: int) -> None:
        torch.set_num_threads(threads)
        self.subject = factory()
        # What is there now stays: the collector need not walk it again between timed steps.
        gc.collect()
        gc.freeze()

    def warm_up(self, steps: int) -> list[float]:
        return warm_up(self.subject, steps)

    def memory(self) -> tuple[dict[str, float], str]:
        return take_memory(self.subject)

    def round(self, steps: int, cores: tuple[int, ...] | None) -> dict[str, list[float]]:
        bind(cores)
        samples = take_round(self.subject, steps)
        if self.subject.device.type == "cuda":
            torch.cuda.empty_cache()  # the other arms want it while this one sleeps
        return samples

    def unbind(self) -> None:
        """Lets it run on any core again."""
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
        """Gives free memory back, which another arm's process may need."""
        release_free_memory()

    def profile(self, folder: Path, name: str) -> None:
        write_profile(self.subject, folder, name)

    def peak(self, precision: Any, sizes: Sequence[Size]) -> float:
        return matmul_peak(self.subject.device, precision, sizes)
