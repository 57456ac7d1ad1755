"""Shows progress as a bar or lines, and text of others so that terminals and sheets obey none."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

# Control characters but the tab and the line feed, and those that reverse the direction of text.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what spreadsheets read as the beginning of one
_SPAN = r" \[[-+−\d.]+, (?:[-+−\d.]+|not reached)\]"
_NUMBER = re.compile(rf"[-+−]?[\d.]+(?:[eE][-+]?\d+)?[×%]?(?:{_SPAN})?|-")
LINE_SECONDS = 15.0
MAX_SHOWN = 0.99  # until the work has ended, when a line says so
quiet = False  # set by --quiet
Progress = Callable[[float, str], None]  # takes the share that is done, from 0 to 1, and some words


def aside(console: Console) -> Console:
    """The console for progress and notes, which --quiet silences."""
    from rich.console import Console

    return Console(quiet=True, force_terminal=False) if quiet else console


def visible(text: str) -> str:
    """Text for a terminal, whose control characters are shown as escapes."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """Like `visible`, on one line: a file's name may hold line feeds."""
    return visible(text).replace("\n", "\\n")


def csv_text(text: str) -> str:
    """Text for a cell of a spreadsheet: what would be a formula follows a quote; numbers stay."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def plain_console(**options: Any) -> Console:
    """A console that prints text as it is, without markup, and control characters as escapes."""
    from rich.console import Console
    from rich.segment import Segment

    class Plain(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for part in super().render(renderable, options):
                yield part if part.control else Segment(visible(part.text), part.style)

    return Plain(markup=False, highlight=False, soft_wrap=True, **options)


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rough(seconds: float) -> str:
    """A rough duration: ``45 s``, ``4 min`` or ``2.5 h``."""
    if seconds < 60:
        return f"{max(1.0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Stopwatch:
    """Measures elapsed time, and estimates the rest from the fraction that is done."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def left(self, share: float) -> str:
        """``about 2 min 5 s left``, or an empty text while it would be a guess."""
        if share < 0.02 or self.elapsed < 2 or share >= 1:
            return ""
        return f"about {duration(self.elapsed * (1 - share) / share)} left"


@contextmanager
def stage(console: Console, title: str, patience: float = 0.0) -> Iterator[Progress]:
    """Shows the progress of work, if it takes longer than ``patience`` seconds.

    Yields ``update(fraction done, text)``.
    """
    clock, console = Stopwatch(), aside(console)
    with ExitStack() as stack:
        if console.is_terminal:
            from rich import progress

            columns = (
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.fields[note]}", markup=False),
            )
            bar = progress.Progress(*columns, console=console, transient=True)
            task = bar.add_task(title, total=1.0, note="")
            if not patience:
                stack.enter_context(bar)

            def show(share: float, text: str) -> None:
                if not bar.live.is_started and clock.elapsed >= patience:
                    stack.enter_context(bar)
                note = ", ".join(part for part in (text, clock.left(share)) if part)
                bar.update(task, completed=min(share, MAX_SHOWN), note=note)

        else:
            last = max(patience, LINE_SECONDS / 2) - LINE_SECONDS

            def show(share: float, text: str) -> None:
                """Prints the share that is done and what is done, at most every few seconds."""
                nonlocal last
                if clock.elapsed - last >= LINE_SECONDS:
                    last = clock.elapsed
                    parts = [f"{100 * min(share, MAX_SHOWN):3.0f} %", text, clock.left(share)]
                    line = f"{title}: {', '.join(part for part in parts if part)}"
                    console.print(line, highlight=False)

        yield show
    if clock.elapsed >= patience:
        console.print(f"{title}: done in {duration(clock.elapsed)}", highlight=False)
