"""A comparison with a verdict, and what a page says of it."""

from passt_bench.analysis.compare import Comparison
from passt_bench.report.sentences import findings
from passt_bench.report.view import StudyView


def told(view: StudyView) -> str:
    """The sentences of the answer."""
    return " ".join(findings(view))


def comparison(
    verdict: str, gap: tuple[float, ...], needed: tuple[int, int | None] | None = None
) -> Comparison:
    """One with an interval: its value and ends."""
    value, low, high = gap
    return Comparison(
        variant="time .5", baseline="none", n=3, difference=value,
        low=low, high=high, verdict=verdict, margin=0.02, detectable=0.0312, smallest_margin=0.015,
        blocks_needed=needed, method="m",
    )  # fmt: skip
