import pytest

from passt_bench.report.text import (
    NAN,
    Span,
    interval,
    latex,
    markdown,
    p_value,
    seed_range,
    significant,
    times,
    unit_for,
    wrapped,
)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        # As many digits as the half width has; a sign where it is asked for, and never on zero.
        (interval(Span(0.05123, 0.04023, 0.06223)), "0.051 [0.040, 0.062]"),
        (interval(Span(0.84291, 0.83448, 0.85134)), "0.8429 [0.8345, 0.8513]"),
        (interval(Span(1234.0, 1106.0, 1362.0)), "1230 [1110, 1360]"),
        (interval(Span(-0.0001, -0.011, 0.0108)), "0.000 [−0.011, 0.011]"),
        (interval(Span(0.7)), "0.700"),
        (interval(Span(NAN)), "–"),
        (interval(Span(0.02, 0.01, 0.03), sign=True), "+0.020 [+0.010, +0.030]"),
        (interval(Span(0.0, -0.01, 0.01), sign=True), "0.000 [−0.010, +0.010]"),
        # An end that is not zero is not written as zero.
        (interval(Span(0.026, 0.0004, 0.0517), sign=True), "+0.0260 [+0.0004, +0.0517]"),
        (interval(Span(-3.0, -6.0, -0.04)), "−3.00 [−6.00, −0.04]"),
        # Three digits at most.
        (times(Span(1.934, 1.85, 2.01)), "1.93× [1.85, 2.01]"),
        (times(Span(12.34, 11.0, 14.0)), "12.3× [11.0, 14.0]"),
        (times(Span(2.0)), "2.00×"),
    ],
)
def test_digits_of_intervals_and_ratios(shown: str, expected: str) -> None:
    assert shown == expected


def test_numbers_never_use_scientific_notation() -> None:
    shown = [significant(x) for x in (0.0, 3.0, 0.00012345, 123456.0, -2.345, NAN)]
    assert shown == ["0", "3.00", "0.000123", "123000", "−2.35", "–"]  # 2.345 is 2.34500…01
    shown = [p_value(p) for p in (1.0, 0.0312, 1e-3, 9e-4, NAN)]
    assert shown == ["1.0", "0.031", "0.0010", "< 0.001", "–"]
    shown = [seed_range(needed) for needed in ((7, 15), (8, 8), (7, None), None)]
    assert shown == ["7 to 15", "8", "7 or more", None]


def test_units_follow_the_middle_value() -> None:
    assert unit_for([0.02, 0.03, 2.0], "s").name == "ms"
    assert unit_for([3 * 2**20, NAN], "B").name == "MiB"
    assert unit_for([1e-9], "s").name == "µs"
    assert unit_for([], "B").name == "B"
    assert unit_for([2.5e9], "FLOP").name == "GFLOP"


def test_latex_and_markdown_escape_every_special_character() -> None:
    assert latex(r"50 % of a_b & {c} \d") == r"50 \% of a\_b \& \{c\} \textbackslash{}d"
    assert latex("−1 × ±2 < 3") == r"$-$1 $\times$ $\pm$2 $<$ 3"
    assert markdown("a|b*c\nd") == r"a\|b\*c d"


def test_wrapping_cuts_what_does_not_fit() -> None:
    assert wrapped("short", 10) == "short"
    assert wrapped("one two three four", 9, 2) == "one two\nthree…"
    assert max(map(len, wrapped("x" * 100, 10, 3).splitlines())) <= 10
