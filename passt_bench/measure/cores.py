"""Which cores a turn runs on.

Cores of one machine are not alike: the other half of a shared physical core, or what else the
hypervisor runs there, makes one slower than its neighbour by half for seconds. Left to itself, a
process stays on the core where it first ran; two equal variants then differ for a whole session.
"""

from __future__ import annotations

import os
from pathlib import Path

_THREADS = Path("/proc/self/task")


def all_cores() -> tuple[int, ...] | None:
    """The cores that this process may run on; None where the system does not tell."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def cores_of_round(number: int, threads: int) -> tuple[int, ...] | None:
    """The cores that every variant runs on in a round; the next round moves on by one.

    Args:
        number: of the round.
        threads: of the variant; with as many as there are cores it runs on all.

    Returns:
        Numbers of cores, or None where the system does not let a process choose.
    """
    cores = all_cores()
    if cores is None:
        return None
    return tuple({cores[(number + i) % len(cores)]: None for i in range(threads)})


def bind(cores: tuple[int, ...] | None) -> None:
    """Keeps all threads of this process on some cores; None leaves them where they are."""
    if cores is None:
        return
    for thread in _THREADS.iterdir() if _THREADS.is_dir() else ():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue  # it ended meanwhile
