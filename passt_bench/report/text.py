"""Formats numbers with digits that match their interval and units that match their size."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable
from math import floor, isfinite, log10
from typing import NamedTuple

from passt_bench.console import visible

NAN = float("nan")
MINUS = "−"
NOTHING = "–"

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    MINUS: r"$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "’": "'",
}


class Span(NamedTuple):
    """A value with its 95 % interval; NaN where unknown."""

    value: float
    low: float = NAN
    high: float = NAN

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return isfinite(self.value)

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return isfinite(self.low) and isfinite(self.high)

    def __truediv__(self, number: float) -> Span:
        return Span(*(x / number for x in self))

    def reciprocal(self, of: float = 1.0) -> Span:
        """A number divided by it."""
        return Span(of / self.value, of / self.high, of / self.low)


def decimals(span: Span, default: int = 3) -> int:
    """Decimal places that show two significant digits of the interval's half width.

    Negative for rounding to tens or hundreds; ``default`` if there is no interval.
    """
    half = (span.high - span.low) / 2
    if not isfinite(half) or half <= 0:
        return default
    return min(6, 1 - floor(log10(half)))


def fixed(value: float, places: int, *, sign: bool = False) -> str:
    """A number with that many decimal places and a true minus sign."""
    if not isfinite(value):
        return NOTHING
    shown = f"{round(value, places):{'+' if sign else ''}.{max(0, places)}f}"
    if not any(digit in shown for digit in "123456789"):
        shown = shown.lstrip("+-")
    return shown.replace("-", MINUS)


def significant(value: float, digits: int = 3) -> str:
    """A number with that many significant digits, never in scientific notation."""
    if not isfinite(value):
        return NOTHING
    if value == 0:
        return "0"
    return fixed(value, digits - 1 - floor(log10(abs(value))))


def extent(values: Collection[float]) -> str:
    """The least and the greatest of values, ``0.712 to 0.790``."""
    return f"{significant(min(values))} to {significant(max(values))}"


def interval(span: Span, *, sign: bool = False, least: int = -99) -> str:
    """A value with its interval, if any, ``0.05 [0.04, 0.06]``; ``least`` decimals or more."""
    places = max(least, decimals(span))
    if span.low * span.high > 0:  # neither end is written as zero
        nearest = min(abs(span.low), abs(span.high))
        places = max(places, min(6, 1 + floor(-log10(2 * nearest))))
    value, low, high = (fixed(number, places, sign=sign) for number in span)
    return f"{value} [{low}, {high}]" if span.known and span.has_interval else value


def times(ratio: Span | float) -> str:
    """A ratio, ``1.93× [1.85, 2.01]``; at most three significant digits."""
    span = ratio if isinstance(ratio, Span) else Span(ratio)
    if not span.known:
        return NOTHING
    max_places = 2 - floor(log10(span.value)) if span.value > 0 else 2
    places = max(0, min(decimals(span, 2), max_places))
    value, low, high = (fixed(number, places) for number in span)
    return f"{value}× [{low}, {high}]" if span.has_interval else f"{value}×"


def cost_share(share: Span, least: float = 0.0) -> str:
    """A share of a cost: ``0.41× [0.35, not reached]``, or ``≤ 1.03×`` where that is the least."""
    if share.high <= least:
        return f"≤ {fixed(share.value, 2)}×"
    value, low, high = (
        f"{'≤ ' * (x <= least)}{fixed(x, 2)}" if isfinite(x) else "not reached" for x in share
    )
    return f"{value}{'×' * isfinite(share.value)} [{low}, {high}]"


def p_value(p: float) -> str:
    """A p value with two significant digits, or ``< 0.001``."""
    if not isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else significant(p, 2)


def seed_range(needed: tuple[int, int | None] | None) -> str | None:
    """A number of seeds, ``7 to 15`` or ``7 or more``; None if it is unknown."""
    if needed is None:
        return None
    low, high = needed
    more = "or more" if high is None else f"to {high}"
    return str(low) if high == low else f"{low} {more}"


class Unit(NamedTuple):
    """A unit and how much of the base unit it is."""

    name: str
    size: float

    def show(self, value: Span | float) -> str:
        """Seconds, bytes or operations in this unit, without its name."""
        own = value / self.size
        return interval(own) if isinstance(own, Span) else significant(own)


_UNITS = {
    "s": (Unit("µs", 1e-6), Unit("ms", 1e-3), Unit("s", 1.0), Unit("min", 60.0)),
    "B": (Unit("B", 1.0), Unit("KiB", 2**10), Unit("MiB", 2**20), Unit("GiB", 2**30)),
    "FLOP": (*(Unit("FLOP", 1.0), Unit("MFLOP", 1e6), Unit("GFLOP", 1e9), Unit("TFLOP", 1e12)),),
}


def unit_for(values: Iterable[float | None], base: str) -> Unit:
    """The unit that suits a column: the largest in which its middle value is at least 1.

    The values are in the base unit, ``s``, ``B`` or ``FLOP``; NaN and None are ignored.
    """
    known = sorted(value for value in values if value and isfinite(value) and value > 0)
    middle = known[len(known) // 2] if known else 1.0
    fitting = [unit for unit in _UNITS[base] if unit.size <= middle]
    return fitting[-1] if fitting else _UNITS[base][0]


def latex(text: str) -> str:
    """Text on one line with LaTeX's own characters escaped."""
    return "".join(_LATEX.get(c, c) for c in visible(" ".join(text.split("\n"))))


def markdown(text: str) -> str:
    """Text that a Markdown table cell shows as it is; its brackets and addresses are no links."""
    for mark in ("\\", "|", "*", "_", "`", "<", "&", "~"):
        text = text.replace(mark, "\\" + mark)
    for mark in ("](", "][", "]:", "://"):
        text = text.replace(mark, f"{mark[0]}\\{mark[1:]}")
    return " ".join(visible(text).split())


def wrapped(name: str, width: int, lines: int = 3) -> str:
    """A name wrapped to at most that many lines, with an ellipsis where it is cut."""
    return "\n".join(
        textwrap.wrap(name, width, max_lines=lines, placeholder="…", break_long_words=True)
    )


def quoted(name: str) -> str:
    """A variant's name in quotes, because a name such as ``none`` would read as a word."""
    return f"“{name}”"


def listed(items: Iterable[str]) -> str:
    """A list in words: ``a``, ``a and b``, ``a, b and c``."""
    *head, last = list(items) or [""]
    return f"{', '.join(head)} and {last}" if head else last


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 seed``, ``3 seeds``; ``plural`` is for irregular nouns."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
