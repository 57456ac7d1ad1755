"""Subjects of known cost for the tests of a cost session, and a recipe that costs little."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from passt_bench.measure.target import Subject
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe, TrainingSpec

MIB = 1024**2
RECIPE = Recipe(
    model=ModelSpec(name="passt_micro", patch=(8, 8), stride=(8, 8), width=16, depth=1, heads=2),
    frontend=FrontendSpec(mels=16),
    data=DataSpec(seconds=0.42),
    training=TrainingSpec(batch_size=2),
)


@dataclass(frozen=True)
class Sleeps:
    seconds: float
    build: float = 0.0

    def __call__(self) -> Subject:
        time.sleep(self.build)
        half = {name: lambda: time.sleep(self.seconds / 2) for name in ("forward", "backward")}
        return Subject(step=half, others={"inference_1": lambda: None})


def without_pipe(_: object, target: Callable[..., object], *arguments: object) -> None:
    target(*arguments)


def burn(subject: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@dataclass(frozen=True)
class Products:
    """A step of real arithmetic: products of small matrices, a tenth of a millisecond at most."""

    count: int

    def __call__(self) -> Subject:
        random = torch.Generator().manual_seed(0)
        a = torch.rand(96, 96, generator=random)
        b = torch.rand(96, 96, generator=random)
        out = torch.empty(96, 96)

        def forward() -> None:
            for _ in range(self.count):
                torch.mm(a, b, out=out)

        return Subject(step={"forward": forward})


@dataclass(frozen=True)
class NotesCores:
    path: Path

    def __call__(self) -> Subject:
        def forward() -> None:
            with self.path.open("a") as file:
                print(*sorted(os.sched_getaffinity(0)), sep=",", file=file)

        return Subject(step={"forward": forward})


def _allocate(mebibytes: int) -> None:
    torch.ones(mebibytes * MIB, dtype=torch.uint8)


def _fill_heap() -> None:
    [torch.ones(4096, dtype=torch.uint8) for _ in range(8192)]


@dataclass(frozen=True)
class Allocates:
    """Phases whose peaks rise by known amounts, the last two by 32 MiB on the heap."""

    def __call__(self) -> Subject:
        return Subject(
            step={"forward": lambda: _allocate(64)},
            others={
                "large": lambda: _allocate(256),
                "small": lambda: _allocate(16),
                "heap": _fill_heap,
                "heap_again": _fill_heap,
            },
        )


@dataclass(frozen=True)
class Fails:
    """A step that fails in a named way from its n-th call on, or what else the way names."""

    way: str
    after: int = 0

    def __call__(self) -> Subject:
        if self.way == "build":
            raise RuntimeError("no such model")
        calls = 0

        def forward() -> None:
            nonlocal calls
            calls += 1
            if calls <= self.after or self.way == "published":
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

        def published(protocol: object) -> float:
            raise MemoryError("too large a batch")

        test = published if self.way == "published" else None
        return Subject(step={"forward": forward}, published=test)


@dataclass(frozen=True)
class LacksMemory:
    """Has no memory in its n-th step (0: when it is built) in so many processes after some.

    Each process adds a line to the file ``starts``.
    """

    starts: Path
    step: int
    processes: int = 1
    after: int = 0

    def __call__(self) -> Subject:
        with self.starts.open("a") as file:
            print(os.getpid(), file=file)
        number, calls = len(self.starts.read_text().split()), 0
        lacks = self.after < number <= self.after + self.processes
        if lacks and not self.step:
            raise MemoryError

        def forward() -> None:
            nonlocal calls
            calls += 1
            if lacks and calls == self.step:
                raise MemoryError

        return Subject(step={"forward": forward})
