"""The verdicts in words."""

from __future__ import annotations

from math import isfinite

from passt_bench.analysis.compare import Comparison
from passt_bench.report.text import (
    Span,
    counted,
    decimals,
    fixed,
    interval,
    listed,
    quoted,
    times,
)
from passt_bench.report.view import SPEED_MARGIN, TRAIN_STEP, Cost, StudyView, VariantView

# verdict: after 1 variant, after several
_VERDICTS = {
    "better": ("is better", "are better"),
    "worse": ("is worse", "are worse"),
    "same": ("is the same within ±{margin:g}", "are the same within ±{margin:g}"),
    "undecided": ("is undecided", "are undecided"),
    "not estimable": ("cannot be estimated", "cannot be estimated"),
    "failed": ("has no result", "have no result"),
    "missing": ("is not run yet", "are not run yet"),
}


def headline(view: StudyView) -> str:
    """How many variants got which verdict, in one sentence; references are named, not counted."""
    base = view.baseline
    found = [v.verdict for v in view.answers]
    if not base.value.known:
        return f"The baseline {base.name} has no result, so nothing can be compared with it."
    if not found:
        return f"{base.name} reaches {view.metric} {interval(base.value)}; no other is shown."
    against = f"{base.name} ({view.metric} {interval(base.value)})"
    references = [quoted(v.name) for v in view.others if v.record.reference]
    are = "is a reference" if len(references) == 1 else "are references"
    beside = f" ({listed(references)} {are} and not counted)" if references else ""
    if len(found) == 1:
        words = _VERDICTS[found[0]][0].format(margin=view.margin)
        return f"Against {against}, {quoted(view.answers[0].name)} {words}{beside}."
    parts = [
        f"{found.count(verdict)} {words[found.count(verdict) > 1].format(margin=view.margin)}"
        for verdict, words in _VERDICTS.items()
        if verdict in found
    ]
    return f"Against {against}, of {counted(len(found), 'variant')} {listed(parts)}{beside}."


def bargain(view: StudyView) -> str | None:
    """The fastest variant that keeps the quality; None where no step time was measured."""
    timed = [v for v in view.answers if TRAIN_STEP in v.costs]
    kept = [
        v
        for v in timed
        if v.verdict in ("better", "same") and v.costs[TRAIN_STEP].speed_verdict == "faster"
    ]
    if not timed:
        return None
    if not kept:
        return f"No variant trains faster and is shown to keep the {view.metric} of the baseline."
    best = max(kept, key=lambda v: v.costs[TRAIN_STEP].speedup.value)
    word = "is better in" if best.verdict == "better" else "keeps"
    return (
        f"The fastest variant that {word} {view.metric} is {best.name}: it trains "
        f"{times(best.costs[TRAIN_STEP].speedup)} as fast."
    )


def answers(view: StudyView) -> list[tuple[VariantView, str]]:
    """A sentence for every variant but the baseline, in the study's order."""
    return [(v, f"{_quality(v)}{_cost(view, v)}.") for v in view.others]


def _quality(v: VariantView) -> str:
    item = v.comparison
    if item is None or v.verdict == "missing":
        return "not run yet"
    if item.verdict == "not estimable":
        return "the difference cannot be estimated: no seed has successful runs of both"
    if item.verdict == "failed":
        return f"no result ({listed(f'{n} × {name}' for name, n in v.failures.items())})"
    gap = v.difference
    if item.verdict in ("better", "worse"):
        size = gap if gap.value >= 0 else Span(-gap.value, -gap.high, -gap.low)
        return f"{item.verdict} by {interval(size)}"
    shown = interval(gap, sign=True)
    if item.verdict == "same":
        return f"the same within ±{item.margin:g} (difference {shown})"
    return f"undecided (difference {shown}; {_outlook(item, decimals(gap))})"


def _outlook(item: Comparison, places: int) -> str:
    """What these seeds could have shown, and how many would settle it."""
    if isfinite(item.detectable):
        text = f"{counted(item.n, 'seed')} could have shown {fixed(item.detectable, places)}"
    else:
        text = f"{counted(item.n, 'seed')}, and a test needs two"
    if item.blocks_needed is not None and isfinite(item.detectable):
        text += f", about {item.blocks_needed} would settle it"
    return text


def _cost(view: StudyView, v: VariantView) -> str:
    parts = []
    if TRAIN_STEP in v.costs and v.costs[TRAIN_STEP].ratio.known:
        parts.append(speed(v.costs[TRAIN_STEP]))
    elif v.cost_status not in ("ok", "missing"):
        parts.append(f"its step could not be timed ({v.cost_status})")
    saved, base = v.saved_per_clip, view.baseline.saved_per_clip
    if isfinite(saved) and isfinite(base) and base > 0:
        parts.append(f"at {fixed(saved / base, 2)}× the activations saved for backward")
    if v.record.tokens:
        parts.append(f"with {v.record.tokens} of {v.record.tokens_full} tokens")
    return "; " + ", ".join(parts) if parts else ""


def speed(cost: Cost) -> str:
    """How fast a variant trains against the baseline, with the verdict where it is no faster."""
    if cost.speed_verdict == "about as fast":
        return f"trains about as fast, within ±{100 * SPEED_MARGIN:g} % ({times(cost.speedup)})"
    undecided = " (undecided)" if cost.speed_verdict == "undecided" else ""
    return f"trains {times(cost.speedup)} as fast{undecided}"
