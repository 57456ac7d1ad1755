"""Renders the page of a study or search, with verdicts in words, and that of all evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

from passt_bench.analysis.compare import Comparison
from passt_bench.analysis.results import Results
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import StudyRecord, cell_name
from passt_bench.records.search import SearchRecord
from passt_bench.records.store import Store
from passt_bench.report.cost_tables import COST_TABLES, cost_tables
from passt_bench.report.evaluations import (
    comparisons_table,
    data_of,
    evaluation_facts,
    evaluations_table,
)
from passt_bench.report.figures import draw_all, figure_names
from passt_bench.report.figures.costs import NAME as COSTS
from passt_bench.report.figures.scaling import SWEEP
from passt_bench.report.figures.search import NAMES as SEARCH_FIGURES
from passt_bench.report.figures.search import draw_search
from passt_bench.report.files import files_of, write_report, write_text
from passt_bench.report.provenance import (
    Fact,
    conditions,
    distinct,
    fact,
    finished,
    hardware,
    study_facts,
    warnings,
)
from passt_bench.report.search import search_facts, search_headline, settings
from passt_bench.report.study_tables import TABLES, all_tables
from passt_bench.report.tables import Table
from passt_bench.report.text import (
    NAN,
    Span,
    counted,
    decimals,
    fixed,
    interval,
    listed,
    quoted,
    seed_range,
    significant,
    times,
)
from passt_bench.report.theme import Drawing
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
# The first is also the folder of the page of all evaluations.
EVALUATIONS, COMPARISONS = "evaluations", "comparisons"


def written() -> frozenset[str]:
    """Relative paths of the files that a report may write, or that older versions wrote."""
    tables = files_of("tables", (*TABLES, *COST_TABLES, "settings", EVALUATIONS, COMPARISONS))
    figures = (*figure_names(), COSTS, SWEEP, *SEARCH_FIGURES)
    old = files_of("search", ("settings", "confirmed"), SEARCH_FIGURES) | {"search.html"}
    return tables | files_of("figures", (), figures) | old | {SUMMARY, PAGE}


def render(
    results: Results | None,
    out: Path,
    note: str = "",
    kept: Store | None = None,
    search: SearchRecord | None = None,
) -> Path:
    """Writes the report of a study, a search, or both: a self-contained page, and its parts.

    Writes ``index.html``, ``summary.json`` (what an index of reports needs), ``tables/NAME`` as
    md, csv and tex, and ``figures/NAME`` as svg and csv. The same results give the same bytes.
    Records are linked if they are beside the page, or in ``kept``, the store that will be. The note
    above the answer is about variants that the page does not show. With a search, the results are
    those of the study that confirms it; None if there is none yet.
    """
    view = study_view(results) if results is not None else None
    tables: dict[str, Table] = {}
    drawings: dict[str, list[Drawing]] = {}
    facts: list[tuple[str, list[Fact]]] = []
    context: dict[str, Any] = {"view": view, "search": search, "note": note, "facts": facts}
    if search is not None:
        tables["settings"], drawings["search"] = settings(search), draw_search(search)
        facts.append(("The search", search_facts(search)))
        context |= _search_part(search)
    if view is not None:
        tables |= all_tables(view) | cost_tables(view)
        drawings["study"] = draw_all(view)
        facts.insert(0, ("", study_facts(view)))
        context |= _study_part(view, tables)
        context["records"] = _linked(_records(view), out, kept)
    text = json.dumps(context["about"], sort_keys=True, indent=1, ensure_ascii=False)
    write_text(out / SUMMARY, text + "\n")
    return write_report(out / PAGE, context, tables, drawings)


def render_evaluations(found: Iterable[EvaluationRecord], out: Path, kept: Store) -> Path:
    """Writes the page of all evaluations, and its table; ``kept`` is as in `render`."""
    records = sorted(found, key=lambda r: (r.fingerprint.dataset, r.finished, r.key))
    rows = [(record.name, data_of(record), "ok", record.key) for record in records]
    datasets = distinct(record.fingerprint.dataset for record in records)
    facts: list[Fact] = []
    for record in records:
        other = f" against {record.against.name}" if record.against else ""
        facts.append((f"{record.name}{other}, {data_of(record)}", evaluation_facts(record)))
        facts += [("Note", note) for note in record.notes]
    context = {
        "about": {"study": EVALUATIONS, "question": "Checkpoint results next to published numbers"},
        "kicker": [counted(len(records), "evaluation"), *datasets],
        "view": None,
        "search": None,
        "main": EVALUATIONS,
        "facts": [("", facts)],
        "notebook": [],
        "records": _linked(rows, out, kept),
    }
    tables = {EVALUATIONS: evaluations_table(records)}
    compared = comparisons_table(records)
    tables |= {COMPARISONS: compared} if compared.rows else {}
    return write_report(out / PAGE, context, tables, {})


def _study_part(view: StudyView, tables: Mapping[str, Table]) -> dict[str, Any]:
    """What the page shows of a study beside tables, figures, facts and records."""
    study, sessions = view.study, view.results.sessions
    if study.seeds:
        answer = f"{headline(view)} {conditions(view)}"
    else:
        where = f", on {found}" if (found := hardware(view)) else ""
        answer = f"{costs_headline(view).removesuffix('.')}{where}."
    about = _about(study, answer, len(view.variants), finished(view))
    variants = counted(len(view.variants), "variant")
    return {
        "about": about,
        "kicker": [f"Study {study.name}", about["dataset"], variants, about["finished"]],
        "main": "verdicts" if study.seeds else "speed",
        "waiting": listed(quoted(v.name) for v in view.variants if v.waits),
        "fastest_without_loss": fastest_without_loss(view) if study.seeds else None,
        "answers": answers(view),
        "baseline_probes": _rows_of(tables.get("probes"), study.baseline),
        "warnings": warnings(sessions),
        "protocol": next(filter(None, (s.published_protocol for s in sessions)), None),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
        "notebook": [
            *fact("From the study file:", [study.notebook]),
            *fact("The command:", [study.command]),
        ],
    }


def _search_part(search: SearchRecord) -> dict[str, Any]:
    """What the page shows of a search; the part of a study that confirms it replaces most of it."""
    found, dataset = search_headline(search), search.fingerprint.dataset
    return {
        "about": _about(search, found),
        "kicker": [f"Search {search.name}", dataset, counted(len(search.trials), "trial")],
        "main": "",
        "searched": found,
        "notebook": fact("The command:", [search.command]),
        "records": [],
    }


def _about(
    record: StudyRecord | SearchRecord, found: str, variants: int = 0, date: str = ""
) -> dict[str, Any]:
    """What an index of reports needs."""
    return {
        "study": record.name,
        "question": record.question,
        "headline": found,
        "baseline": record.baseline,
        "metric": record.metric,
        "dataset": record.fingerprint.dataset,
        "variants": variants,
        "finished": date,
    }


def _rows_of(table: Table | None, variant: str) -> Table | None:
    """The rows of a table that are about one variant."""
    if table is None:
        return None
    return replace(table, rows=tuple(row for row in table.rows if row[0] == variant))


def _records(view: StudyView) -> list[tuple[str, str, str, str]]:
    """Every cell and session: variant, run, status and key."""
    found = []
    for v in view.variants:
        statuses = {run.key: run.status for run in v.runs}
        for cell in v.record.cells:
            status = statuses.get(cell.key, "missing")
            found.append((v.name, cell_name(cell.seed, cell.fold), status, cell.key))
    for session in view.results.sessions:
        found.append(("cost session", counted(len(session.arms), "variant"), "ok", session.key))
    return found


def _linked(
    records: Iterable[tuple[str, str, str, str]], out: Path, kept: Store | None
) -> list[tuple[str, ...]]:
    """Records, which end with their key, with a link to each that is beside the page."""
    beside = [Store(out), *([kept] if kept else [])]
    return [
        (*row, f"records/{row[-1]}/record.json" if any(s.has(row[-1]) for s in beside) else "")
        for row in records
    ]


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
