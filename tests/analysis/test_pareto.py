from __future__ import annotations

from passt_bench.analysis.pareto import Front, Point, pareto

NAN = float("nan")


def point(name: str, quality: float, cost: float, q: float = 0.01, c: float = 0.01) -> Point:
    return Point(name, quality, quality - q, quality + q, cost, cost - c, cost + c)


def test_the_front_by_hand() -> None:
    points = [point("slow", 0.9, 1.0), point("fast", 0.8, 0.5), point("bad", 0.7, 0.8)]
    assert pareto(points) == Front(("fast", "slow"), ("fast", "slow"))


def test_what_only_the_noise_puts_behind_stays_possible() -> None:
    points = [point("a", 0.90, 0.5), point("b", 0.89, 0.6), point("c", 0.70, 0.6)]
    assert pareto(points) == Front(("a",), ("a", "b"))


def test_equal_points_stand_together_and_order_does_not_matter() -> None:
    points = [point("b", 0.9, 0.5), point("a", 0.9, 0.5)]
    assert pareto(points) == pareto(points[::-1]) == Front(("a", "b"), ("a", "b"))


def test_unknown_values_are_left_out_and_unknown_ends_never_decide() -> None:
    points = [
        point("a", 0.9, 0.5),
        point("failed", NAN, 0.1),
        point("unmeasured", 0.99, NAN),
        point("one seed", 0.1, 0.9, q=NAN),
    ]
    assert pareto(points) == Front(("a",), ("a", "one seed"))


def test_no_points_no_front() -> None:
    assert pareto([]) == Front((), ())
