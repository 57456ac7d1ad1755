"""What ran here of a row of the paper's tables, in a few words, or why it did not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from passt_bench.analysis.compare import VariantMean
from passt_bench.analysis.results import Results
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.report.text import NAN, Span, interval
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.rows import Available, Corpus, Row, departures, why_not

CITED = "cited"  # of a row whose number the authors took from another paper
_WAITING = "not run yet"


@dataclass(frozen=True)
class Here:
    """What is known here of the paper's rows.

    Attributes:
        available: what this machine has; decides which reasons stand in the tables.
        rows: of the paper's tables.
        results: studies that may have trained some of them.
        evaluated: members of an ensemble → the record of its evaluation.
        files: published weights → name of their file, as records have it.
    """

    available: Available
    rows: Sequence[Row]
    results: Sequence[Results] = ()
    evaluated: Mapping[tuple[str, ...], EvaluationRecord] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


def told(row: Row, here: Here) -> str:
    """What was run of a row, or why it was not."""
    if row.cited:
        return CITED
    found = _evaluated(row, here) if row.members else _trained(row, here)
    return found or ", ".join(why_not(row, here.available)) or _WAITING


def _evaluated(row: Row, here: Here) -> str | None:
    record = here.evaluated.get(row.members)
    if record is None or row.metric not in record.metrics:
        return None
    ends = record.intervals.get(row.metric, (NAN, NAN))
    shown = interval(Span(record.metrics[row.metric], *ends))
    of = f" of {row.corpus.evaluation}" if record.clips < row.corpus.evaluation else ""
    return f"{row.metric} {shown} over {record.clips}{of} clips (evaluation {record.key})"


def _trained(row: Row, here: Here) -> str | None:
    """The result of the study that departs least from the row's recipe; a failure if all failed."""
    told: list[tuple[bool, int, str]] = []
    for result in here.results:
        if result.study.fingerprint.dataset != row.corpus.name or row.recipe is None:
            continue
        recipes = {variant.name: variant.recipe for variant in result.study.variants}
        for mean in result.means:
            what = _outcome(result, mean) if mean.variant == row.name else None
            if what is not None:
                apart = (
                    *_fewer_runs(result, mean, row.runs),
                    *_fewer(result.study.fingerprint.found, row.corpus),
                    *_other_start(recipes[row.name], row.recipe, here.files),
                    *departures(recipes[row.name], row.recipe),
                )
                shown = f"{what} (study {result.study.name}{_apart(apart)})"
                told.append((not mean.n, len(apart), shown))
    return min(told)[2] if told else None


def _fewer_runs(result: Results, mean: VariantMean, published: int) -> tuple[str, ...]:
    """How many runs a mean is of, where the published one is of more."""
    runs = mean.n * len(result.study.folds or (1,))
    return (f"{runs} of {published} runs",) if 0 < runs < published else ()


def _fewer(found: int, corpus: Corpus) -> tuple[str, ...]:
    """How many clips there are, where that is less than the authors had."""
    # A fold of several leaves as many to train on as all others hold.
    published = corpus.training + corpus.evaluation
    return (f"{found} of {published} clips",) if found < published else ()


def _other_start(recipe: Recipe, meant: Recipe, files: Mapping[str, str]) -> tuple[str, ...]:
    """The weights that a recipe begins with, where they are others than were meant."""
    own, wanted = recipe.init.checkpoint, meant.init.checkpoint
    if own in (wanted, files.get(wanted or "")) or own is None:
        return ()
    return (f"init.checkpoint = {own}",)


def _outcome(result: Results, mean: VariantMean) -> str | None:
    """The mean of a variant, or how its runs failed where none succeeded; None before any ended."""
    if mean.n:
        return f"{mean.metric} {interval(Span(mean.value, mean.low, mean.high))}"
    cells = next(v.cells for v in result.study.variants if v.name == mean.variant)
    found = {result.records[cell.key].status for cell in cells if cell.key in result.records}
    return f"failed ({', '.join(sorted(found))})" if found else None


def _apart(apart: Sequence[str]) -> str:
    if not apart:
        return ""
    more = f" and {len(apart) - 3} more" if len(apart) > 3 else ""
    return f"; not as published: {', '.join(apart[:3])}{more}"
