"""GPUs shared out: each process sees one, and no two see the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

VARIABLE = "CUDA_VISIBLE_DEVICES"
_POLL = 0.2  # seconds


def visible_gpus(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """The GPUs that this program may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes.

    Args:
        environment: of this program; a scheduler may have chosen some of the GPUs there.
        count: GPUs that CUDA finds.
    """
    named = environment.get(VARIABLE)
    if named is None:
        return tuple(str(index) for index in range(count))
    return tuple(name.strip() for name in named.split(",") if name.strip())[:count]


class Gpus:
    """Hands GPUs to processes, one at a time, over all invocations on one folder.

    Args:
        names: see `visible_gpus`.
        locks: folder of the lock files.
    """

    def __init__(self, names: Sequence[str], locks: Path) -> None:
        self.names = tuple(names)
        self._locks = locks

    @contextmanager
    def one(self, stopped: Callable[[], bool]) -> Iterator[str | None]:
        """Waits for a GPU that nobody holds; its name, or None where ``stopped`` says so."""
        while not stopped():
            for name in self.names:
                lock = FileLock(self._locks / f"gpu-{name.replace('/', '-')}.lock", timeout=0)
                try:
                    lock.acquire()
                except Timeout:
                    continue
                try:
                    yield name
                finally:
                    lock.release()
                return
            time.sleep(_POLL)
        yield None
