"""Times the parts of a step.

On the CPU a mark is a reading of ``time.perf_counter``. On CUDA it is an event in the stream, which
needs no synchronization; events are read at the end of a round, so that the device never waits
between timed steps. CPU seconds of the process are kept with both: if wall time on the CPU is
longer, something else used the core.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

Work = Mapping[str, Callable[[], object]]


class Clock:
    """Times named pieces of work on one device and returns the seconds once per round.

    Args:
        device: device of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._steps: list[tuple[str | None, list[str], list[float | torch.cuda.Event]]] = []
        self._cpu: dict[str, list[float]] = {}

    def _mark(self) -> float | torch.cuda.Event:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def run(self, work: Work, total: str | None = None) -> None:
        """Runs pieces of work one after the other and times each.

        Args:
            work: phase → function, called in this order without a gap.
            total: name of the total; its CPU seconds are kept as ``<total>_cpu``.
        """
        cpu = time.process_time()
        marks = [self._mark()]
        for call in work.values():
            call()
            marks.append(self._mark())
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


def _between(start: float | torch.cuda.Event, end: float | torch.cuda.Event) -> float:
    if isinstance(start, float) and isinstance(end, float):
        return end - start
    assert isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event)
    return float(start.elapsed_time(end)) / 1000
