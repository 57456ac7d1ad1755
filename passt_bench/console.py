"""What long work shows: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

LINE_SECONDS = 15.0
MOST_SHOWN = 0.99  # while a piece of work goes on; when it is done a sentence says so


class Update(Protocol):
    """Told how far a piece of work is."""

    def __call__(self, share: float, text: str) -> None:
        """Share done, from 0 to 1, and a few words."""


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rough(seconds: float) -> str:
    """``45 s``, ``4 min`` or ``2.5 h``: a duration that is not known better."""
    if seconds < 60:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Estimate:
    """Time left from the share that is done, once enough of it is."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._start

    def left(self, share: float) -> str:
        """``about 2 min 5 s left``, or nothing while it would be a guess."""
        if share < 0.02 or self.elapsed < 2 or share >= 1:
            return ""
        return f"about {duration(self.elapsed * (1 - share) / share)} left"


@contextmanager
def late_stage(title: str, patience: float = 3.0) -> Iterator[Callable[[float], None]]:
    """Shows on stderr how far a piece of work is, if it takes longer than some seconds.

    For work below the commands, which is quick most of the time; yields ``update(share done)``.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        shown: list[Update] = []

        def update(share: float) -> None:
            if not shown and time.monotonic() - began > patience:
                shown.append(stack.enter_context(stage(Console(stderr=True), title)))
            for show in shown:
                show(share, "")

        yield update


@contextmanager
def stage(console: Console, title: str) -> Iterator[Update]:
    """Shows one piece of work, at most 99 % while it lasts; yields ``update(share done, text)``."""
    estimate = Estimate()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=1.0, note="")

            def show(share: float, text: str) -> None:
                note = ", ".join(part for part in (text, estimate.left(share)) if part)
                bar.update(task, completed=min(share, MOST_SHOWN), note=note)

            yield show
    else:
        last = [-LINE_SECONDS / 2]

        def line(share: float, text: str) -> None:
            """A line of text, at most one in `LINE_SECONDS`."""
            if estimate.elapsed - last[0] >= LINE_SECONDS:
                last[0] = estimate.elapsed
                parts = [f"{100 * min(share, MOST_SHOWN):3.0f} %", text, estimate.left(share)]
                console.print(
                    f"{title}: {', '.join(part for part in parts if part)}", highlight=False
                )

        yield line
    console.print(f"{title}: done in {duration(estimate.elapsed)}", highlight=False)
