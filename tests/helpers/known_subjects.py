"""Subjects of known cost for the tests of a cost session; importable by its processes."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from passt_bench.measure.target import Subject

MIB = 1024**2


def idle() -> None:
    """Takes no time to speak of."""


@dataclass(frozen=True)
class Sleeps:
    """A step of known wall time."""

    seconds: float

    def __call__(self) -> Subject:
        return Subject(
            step={
                "forward": lambda: time.sleep(self.seconds / 2),
                "backward": lambda: time.sleep(self.seconds / 2),
            },
            others={"inference_1": idle},
        )


@dataclass(frozen=True)
class NotesCores:
    """A step that writes down the cores it may run on, a line each."""

    path: Path

    def __call__(self) -> Subject:
        def forward() -> None:
            with self.path.open("a") as file:
                print(*sorted(os.sched_getaffinity(0)), sep=",", file=file)

        return Subject(step={"forward": forward})


@dataclass(frozen=True)
class Allocates:
    """A step whose peak rises by a known amount."""

    mebibytes: int

    def __call__(self) -> Subject:
        def forward() -> None:
            torch.ones(self.mebibytes * MIB, dtype=torch.uint8)

        return Subject(step={"forward": forward})


@dataclass(frozen=True)
class Fails:
    """A step that goes wrong in a named way from its n-th call on."""

    way: str
    after: int = 0

    def __call__(self) -> Subject:
        calls = 0

        def forward() -> None:
            nonlocal calls
            calls += 1
            if calls <= self.after:
                return
            if self.way == "raise":
                raise ValueError("a planted fault")
            if self.way == "allocate":
                torch.empty(1 << 50, dtype=torch.uint8)
            if self.way == "memory":
                raise MemoryError
            if self.way == "stall":
                time.sleep(60)
            if self.way == "exit":
                os._exit(3)
            os.kill(os.getpid(), signal.SIGKILL)

        return Subject(step={"forward": forward})


@dataclass(frozen=True)
class FailsLater:
    """A published speed test whose batch does not fit."""

    def __call__(self) -> Subject:
        def test(protocol: object) -> float:
            raise MemoryError("too large a batch")

        return Subject(step={"forward": idle}, published=test)


@dataclass(frozen=True)
class BuildsSlowly:
    """A factory that takes its time, and a step that takes none."""

    seconds: float

    def __call__(self) -> Subject:
        time.sleep(self.seconds)
        return Subject(step={"forward": idle})


@dataclass(frozen=True)
class CannotBuild:
    """A factory that raises."""

    def __call__(self) -> Subject:
        raise RuntimeError("no such model")
