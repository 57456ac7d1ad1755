"""Renders the page of a study, with its verdicts in words, and the page of all evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from pathlib import Path

from passt_bench.analysis.compare import Comparison
from passt_bench.analysis.results import Results
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import cell_name
from passt_bench.records.store import Store
from passt_bench.report.cost_tables import COST_TABLES, cost_tables
from passt_bench.report.figures import draw_all, figure_names
from passt_bench.report.figures.costs import NAME as COSTS
from passt_bench.report.figures.scaling import SWEEP
from passt_bench.report.files import files_of, write_report, write_text
from passt_bench.report.provenance import (
    conditions,
    distinct,
    finished,
    hardware,
    machine_text,
    study_facts,
    warnings,
)
from passt_bench.report.study_tables import TABLES, all_tables
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    NAN,
    Span,
    counted,
    decimals,
    fixed,
    interval,
    listed,
    p_value,
    quoted,
    seed_range,
    significant,
    times,
)
from passt_bench.report.view import (
    SPEED_MARGIN,
    TRAIN_STEP,
    Cost,
    Gain,
    StudyView,
    VariantView,
    gains,
    setting_of,
    study_view,
)

SUMMARY, PAGE = "summary.json", "index.html"


def written() -> frozenset[str]:
    """Relative paths of the files that the report of a study may write."""
    tables = files_of("tables", (*TABLES, *COST_TABLES))
    return tables | files_of("figures", (), (*figure_names(), COSTS, SWEEP)) | {SUMMARY, PAGE}


def render(results: Results, out: Path, note: str = "", kept: Store | None = None) -> Path:
    """Writes the report of a study into a folder: a self-contained page, and its parts.

    Writes ``index.html``, ``summary.json`` (what an index of reports needs), ``tables/NAME`` as
    md, csv and tex, and ``figures/NAME`` as svg and csv. The same results give the same bytes.
    Records are linked if they are beside the page, or in ``kept``, the store that will be. The note
    above the answer is about variants that the page does not show.
    """
    view = study_view(results)
    study, tables = view.study, all_tables(view) | cost_tables(view)
    where = hardware(view)
    if study.seeds:
        answer = f"{headline(view)} {conditions(view)}"
    else:
        answer = f"{costs_headline(view).removesuffix('.')}{f', on {where}' if where else ''}."
    summary = {
        "study": study.name,
        "question": study.question,
        "headline": answer,
        "baseline": study.baseline,
        "metric": view.metric,
        "dataset": study.fingerprint.dataset,
        "variants": len(view.variants),
        "finished": finished(view),
    }
    text = json.dumps(summary, sort_keys=True, indent=1, ensure_ascii=False)
    write_text(out / SUMMARY, text + "\n")
    context = {
        **summary,
        "note": note,
        "view": view,
        "waiting": listed(quoted(v.name) for v in view.variants if v.waits),
        "fastest_without_loss": fastest_without_loss(view) if study.seeds else None,
        "answers": answers(view),
        "baseline_probes": _rows_of(tables.get("probes"), study.baseline),
        "facts": study_facts(view),
        "warnings": warnings(results.sessions),
        "protocol": next(filter(None, (s.published_protocol for s in results.sessions)), None),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
        "records": _records(view, [Store(out), *([kept] if kept else [])]),
    }
    figures = partial(draw_all, view)
    return write_report(out / PAGE, "study.html", context, tables, figures, label=study.name)


def _rows_of(table: Table | None, variant: str) -> Table | None:
    """The rows of a table that are about one variant."""
    if table is None:
        return None
    return replace(table, rows=tuple(row for row in table.rows if row[0] == variant))


def _records(view: StudyView, beside: Sequence[Store]) -> list[dict[str, str]]:
    """Every cell and session with its key, and a link if its record is beside the page."""
    found = []
    for v in view.variants:
        statuses = {run.key: run.status for run in v.runs}
        for cell in v.record.cells:
            status = statuses.get(cell.key, "missing")
            found.append((v.name, cell_name(cell.seed, cell.fold), cell.key, status))
    for session in view.results.sessions:
        found.append(("cost session", counted(len(session.arms), "variant"), session.key, "ok"))
    rows = [dict(zip(("what", "run", "key", "status"), row, strict=True)) for row in found]
    for row in rows:
        has = any(store.has(row["key"]) for store in beside)
        row["link"] = f"records/{row['key']}/record.json" if has else ""
    return rows


# verdict: its words for 1 variant, for several
_VERDICTS = {
    "better": ("is better", "are better"),
    "worse": ("is worse", "are worse"),
    "same": ("is the same within ±{margin:g}", "are the same within ±{margin:g}"),
    "not worse": ("is not worse by more than {margin:g}", "are not worse by more than {margin:g}"),
    "undecided": ("is undecided", "are undecided"),
    "no verdict": ("has no verdict", "have no verdict"),
    "not estimable": ("cannot be estimated", "cannot be estimated"),
    "failed": ("has no result", "have no result"),
    "missing": ("has not been run yet", "have not been run yet"),
}


def headline(view: StudyView) -> str:
    """The number of variants by verdict, in one sentence; references are named, not counted."""
    base = view.baseline
    verdicts = [v.verdict for v in view.answers]
    if not base.value.known:
        return f"The baseline {base.name} has no result, so nothing can be compared with it."
    if not verdicts:
        return f"{base.name} reaches {view.metric} {interval(base.value)}; nothing else is shown."
    if view.results.look is None:
        ended = f"{view.results.ended} of {counted(view.study.judged_at[0], 'seed')}"
        return f"{ended}, no verdict yet; {base.name} reaches {view.metric} {interval(base.value)}."
    against = f"{base.name} ({view.metric} {interval(base.value)})"
    references = [quoted(v.name) for v in view.others if v.record.reference]
    are = "is" if len(references) == 1 else "are"
    beside = f" ({listed(references)} {are} shown for scale, not counted)" if references else ""
    if len(verdicts) == 1:
        words = _VERDICTS[verdicts[0]][0].format(margin=view.margin)
        return f"Against {against}, {quoted(view.answers[0].name)} {words}{beside}."
    parts = [
        f"{verdicts.count(verdict)} {words[verdicts.count(verdict) > 1].format(margin=view.margin)}"
        for verdict, words in _VERDICTS.items()
        if verdict in verdicts
    ]
    number, rest = parts[0].split(" ", 1)
    whole = "both" if number == "2" else f"all {number}"
    parts[0] = f"{f'{number} of {len(verdicts)}' if parts[1:] else whole} variants {rest}"
    return f"Against {against}, {listed(parts)}{beside}."


def costs_headline(view: StudyView) -> str:
    """The fastest and slowest variant of a study of costs against its baseline, in one sentence."""
    base, timed = view.baseline, [v for v in view.answers if v.cost(TRAIN_STEP).ratio.known]
    if not timed:
        return f"No variant's training step was timed together with that of {quoted(base.name)}."
    if found := gains(view):
        gain = next(gain for gain in found if gain.other == found[-1].other)
        own = next((g for g in found if g.variant == gain.reference), None)
        of_reference = f", while {_against(own)}" if own and own is not gain else ""
        return f"{crossings(view, found)}{_against(gain)}{of_reference}."
    timed.sort(key=lambda v: v.cost(TRAIN_STEP).speedup.value)
    slowest, fastest = (f"{quoted(v.name)} {_gain(view, v)}" for v in (timed[0], timed[-1]))
    if timed[1:] and timed[-1].cost(TRAIN_STEP).speed_verdict != "faster":
        fastest = "no variant is shown to train faster"
    text = f"Against {quoted(base.name)} ({significant(base.speed.value)} clips/s), {fastest}"
    return f"{text}{f', {slowest}' if timed[1:] else ''}."


def crossings(view: StudyView, found: Sequence[Gain]) -> str:
    """From which clip length on each other model trains faster than the baseline's, in sentences.

    Empty if lengths or models do not differ, and silent where intervals decide nothing.
    """
    name, length = setting_of(view)
    if not name.startswith("length"):
        return ""
    base, text = view.baseline.subject[0], ""
    for model in dict.fromkeys(gain.variant.subject[0] for gain in found):
        own = [gain for gain in found if gain.variant.subject[0] == model != base]
        slower = [length(gain.variant) for gain in own if gain.speedup.high < 1]
        faster = [length(gain.variant) for gain in own if gain.speedup.low > 1]
        words = f"{model.name} trains faster than {base.name}"
        if own and len(faster) == len(own):
            text += f"{words} at every length. "
        elif slower and faster and max(slower) < min(faster):
            text += f"{words} from {min(faster):g} s on, slower up to {max(slower):g} s. "
    return text


def _against(gain: Gain) -> str:
    names = quoted(gain.variant.name), quoted(gain.other.name)
    return f"{names[0]} trains {times(gain.speedup)} as fast as {names[1]}"


def _gain(view: StudyView, v: VariantView) -> str:
    """The speed-up by a variant, and its memory, relative to the baseline."""
    saved = Span(v.saved_per_clip / view.baseline.saved_per_clip)
    memory = f" with {times(saved)} the memory for backward" if saved.known else ""
    return f"trains {times(v.cost(TRAIN_STEP).speedup)} as fast{memory}"


def fastest_without_loss(view: StudyView) -> str | None:
    """A sentence on the fastest variant that keeps the quality; None if no step was timed."""
    timed = [(v, v.costs[TRAIN_STEP]) for v in view.answers if TRAIN_STEP in v.costs]
    if not timed:
        return None
    good = [(v, c) for v, c in timed if v.verdict in ("better", "same", "not worse")]
    kept = [(v, c) for v, c in good if c.speed_verdict == "faster"]
    margins = [v.comparison.smallest_margin for v, _ in timed if v.comparison]
    if not kept and not min(margins, default=NAN) <= view.margin:
        least = (
            f"; that takes ±{significant(min(margins), 2)}" if all(map(isfinite, margins)) else ""
        )
        return (
            f"These seeds could not have shown that a variant has the same {view.metric} within "
            f"±{view.margin:g}{least}."
        )
    if not kept:
        return f"No variant that trains faster is shown to keep the baseline's {view.metric}."
    best, cost = max(kept, key=lambda item: item[1].speedup.value)
    word = "is better in" if best.verdict == "better" else "keeps"
    return (
        f"The fastest variant that {word} {view.metric} is {best.name}: it trains "
        f"{times(cost.speedup)} as fast."
    )


def answers(view: StudyView) -> list[tuple[VariantView, str]]:
    """A sentence for every variant but the baseline, in the study's order."""
    return [(v, f"{_quality(view, v)}{_cost(view, v)}.") for v in view.others]


def _quality(view: StudyView, v: VariantView) -> str:
    item = v.comparison
    if item is None or v.verdict == "missing":
        return "not run yet"
    if item.verdict == "not estimable":
        return "the difference cannot be estimated: no seed has successful runs of both"
    if item.verdict == "failed":
        return f"no result ({listed(f'{n} × {name}' for name, n in v.failures.items())})"
    gap = v.difference
    if item.verdict == "no verdict":
        seen = counted(item.n, "seed")
        why = f"{seen} so far" if view.results.look is None else f"{seen}, an interval needs three"
        return f"no verdict (difference {interval(gap, sign=True)}; {why})"
    if item.verdict in ("better", "worse"):
        size = gap if gap.value >= 0 else Span(-gap.value, -gap.high, -gap.low)
        return f"{item.verdict} by {interval(size)}"
    shown = interval(gap, sign=True)
    if item.verdict == "same":
        real = "; real, but inside the margin" if item.real else ""
        return f"the same within ±{item.margin:g} (difference {shown}{real})"
    if item.verdict == "not worse":
        return f"not worse by more than {item.margin:g} (difference {shown})"
    return f"undecided (difference {shown}; {_outlook(item, decimals(gap))})"


def _outlook(item: Comparison, places: int) -> str:
    """The difference that these seeds can detect, and how many seeds would be needed."""
    text = f"detectable with {counted(item.n, 'seed')}: {fixed(item.detectable, places)}"
    if needed := seed_range(item.blocks_needed):
        text += f"; a verdict probably takes {needed} seeds"
    return text


def _cost(view: StudyView, v: VariantView) -> str:
    parts = []
    if v.cost(TRAIN_STEP).ratio.known:
        parts.append(speed(v.cost(TRAIN_STEP)))
    elif v.cost_status not in ("ok", "missing"):
        parts.append(f"its step could not be timed ({v.cost_status})")
    saved, base = v.saved_per_clip, view.baseline.saved_per_clip
    if isfinite(saved) and isfinite(base) and base > 0:
        parts.append(f"stores {fixed(saved / base, 2)}× the activations for backward")
    if v.record.tokens:
        parts.append(f"with {v.record.tokens} of {v.record.tokens_full} tokens")
    return "; " + ", ".join(parts) if parts else ""


def speed(cost: Cost) -> str:
    """How fast a variant trains relative to the baseline, with the verdict if it is not faster."""
    if cost.speed_verdict == "about as fast":
        return f"trains about as fast, within ±{100 * SPEED_MARGIN:g} % ({times(cost.speedup)})"
    undecided = " (speed undecided)" if cost.speed_verdict == "undecided" else ""
    if cost.speedup.value < 1:
        return f"training takes {times(cost.ratio)} as long{undecided}"
    return f"trains {times(cost.speedup)} as fast{undecided}"


EVALUATIONS, COMPARISONS = "evaluations", "comparisons"  # the first also the page's folder
EVALUATED = files_of("tables", [EVALUATIONS, COMPARISONS]) | {PAGE}


def render_evaluations(found: Iterable[EvaluationRecord], out: Path) -> Path:
    """Writes the page of all evaluations, and its tables as csv, md and tex."""
    records = sorted(found, key=lambda r: (r.fingerprint.dataset, r.finished, r.key))
    table = evaluations_table(records)
    context = {
        "table": table,
        "records": [(record, _evaluation_facts(record)) for record in records],
        "datasets": distinct(record.fingerprint.dataset for record in records),
    }
    compared = comparisons_table(records)
    tables = {EVALUATIONS: table} | ({COMPARISONS: compared} if compared.rows else {})
    return write_report(out / PAGE, "evaluations.html", context, tables, label=EVALUATIONS)


def evaluations_table(records: Sequence[EvaluationRecord]) -> Table:
    """The table of evaluations, with a row per evaluation and metric."""
    columns = (
        Column("checkpoints", "checkpoints"),
        Column("data", "data"),
        Column("clips", "clips", str),
        Column("metric", "metric"),
        Column("value", "value", interval, span=True),
        Column("scored", "classes"),
        Column("published", "published", "{:g}".format),
        Column("difference", "minus published", partial(interval, sign=True), span=True),
        Column("source", "published by"),
    )
    rows = [_row(record, metric) for record in records for metric in record.metrics]
    rows = list({str(row): row for row in rows}.values())  # a compared model has several records
    return table(
        "evaluations",
        "Checkpoints on data sets, with 95 % intervals over clips: how much the value "
        "would vary with other clips, not with another training. Where a number is published for "
        "the same checkpoint, the difference to it has the same interval.",
        columns,
        rows,
    )


def comparisons_table(records: Sequence[EvaluationRecord]) -> Table:
    """The table of models that were compared on the same clips, with a row per metric."""
    columns = (
        Column("first", "model A"),
        Column("second", "model B"),
        Column("data", "data"),
        Column("clips", "clips", str),
        Column("metric", "metric"),
        Column("difference", "A minus B", partial(interval, sign=True), span=True),
        Column("only_first", "only A right", str),
        Column("only_second", "only B right", str),
        Column("p", "McNemar p", p_value),
        Column("margin", "margin", "{:g}".format),
        Column("verdict", "A is"),
    )
    rows = []
    for record, against in [(r, r.against) for r in records if r.against is not None]:
        for metric, d in ((name, against.differences[name]) for name in record.metrics):
            names = record.name, against.name, *_row(record, metric)[1:4]
            counts = d.only_first, d.only_second, d.p, against.margin
            rows.append((*names, Span(d.value, d.low, d.high), *counts, d.verdict))
    return table(
        COMPARISONS,
        "Two models on the same clips, with 95 % intervals from the same resamples of clips: about "
        "these weights on these clips, not about retraining. The verdict is by the interval alone: "
        "“same” is within ± margin, “not worse” excludes a loss as large as the margin.",
        columns,
        rows,
    )


def _row(record: EvaluationRecord, metric: str) -> tuple[object, ...]:
    value = record.metrics[metric]
    low, high = record.intervals.get(metric, (NAN, NAN))
    known = record.published_of(metric)
    fold = "" if record.fold is None else f", fold {record.fold}"
    stated = known.value if known else NAN
    return (
        record.name,
        f"{record.fingerprint.dataset}, {record.split}{fold}",
        record.clips,
        metric,
        Span(value, low, high),
        f"{record.scored[metric]} of {len(record.fingerprint.classes)}",
        stated if isfinite(stated) else None,
        Span(value - stated, low - stated, high - stated),
        known.source if known else "",
    )


def _evaluation_facts(record: EvaluationRecord) -> str:
    data = record.fingerprint
    expected = f" of {data.expected}" if data.expected is not None else ""
    return "; ".join(
        (
            f"{record.clips} clips of {record.seconds:g} s at {record.sampling_rate} Hz",
            f"data set with {data.found}{expected} clips, digest {data.digest}",
            f"{record.resamples} resamples",
            f"{significant(sum(record.clocks.values()), 2)} s on {machine_text(record.machine)}",
            f"finished {record.finished}",
        )
    )
