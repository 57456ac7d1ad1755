"""Renders the page of a study or search, with verdicts in words, and that of all evaluations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import StudyRecord, cell_name
from passt_bench.records.search import SearchRecord
from passt_bench.records.store import Store
from passt_bench.report.cost_tables import TABLES, page_tables
from passt_bench.report.evaluations import (
    comparisons_table,
    confusion_table,
    data_of,
    decisions_table,
    evaluation_facts,
    evaluations_table,
    readable,
    title_of,
)
from passt_bench.report.figures import draw_all, figure_names
from passt_bench.report.figures.costs import NAME as COSTS
from passt_bench.report.figures.scaling import SWEEP
from passt_bench.report.figures.search import NAMES as SEARCH_FIGURES
from passt_bench.report.figures.search import draw_search
from passt_bench.report.files import files_of, write_report, write_text
from passt_bench.report.provenance import (
    Fact,
    answer,
    distinct,
    fact,
    finished,
    study_facts,
    warnings,
)
from passt_bench.report.search import search_facts, search_headline, settings
from passt_bench.report.sentences import (
    answers,
    fastest_without_loss,
    power_sentence,
    reached_sentence,
    weights_sentence,
)
from passt_bench.report.tables import Table
from passt_bench.report.text import counted, listed, quoted
from passt_bench.report.theme import Drawing
from passt_bench.report.view import SPEED_MARGIN, StudyView, study_view

SUMMARY, PAGE = "summary.json", "index.html"
FURTHER = (reached_sentence, fastest_without_loss, power_sentence, weights_sentence)
# The first is also the folder of the page of all evaluations.
EVALUATIONS, COMPARISONS = "evaluations", "comparisons"


def written() -> frozenset[str]:
    """Relative paths of the files that a report may write, or that older versions wrote."""
    tables = files_of("tables", (*TABLES, "settings", EVALUATIONS, COMPARISONS, "decisions"))
    figures = (*figure_names(), COSTS, SWEEP, *SEARCH_FIGURES)
    old = files_of("search", ("settings", "confirmed"), SEARCH_FIGURES) | {"search.html"}
    return tables | files_of("figures", (), figures) | old | {SUMMARY, PAGE}


def render(
    results: Results | None,
    out: Path,
    note: str = "",
    kept: Store | None = None,
    search: SearchRecord | None = None,
    shared: str = "",
    home: str = f"../{PAGE}",
) -> Path:
    """Writes the report of a study, a search, or both: a self-contained page, and its parts.

    Writes ``index.html``, ``summary.json`` (what an index of reports needs), ``tables/NAME`` as
    md, csv and tex, and ``figures/NAME`` as svg and csv. The same results give the same bytes.
    Records are linked if they are beside the page, or in ``kept``, the store that will be. The note
    above the answer is about variants that the page does not show. With a search, the results are
    those of the study that confirms it; None without one. ``shared``: see `build.shared_runs`.
    ``home`` is the index of all reports, relative to the page.
    """
    view = study_view(results) if results is not None else None
    tables: dict[str, Table] = {}
    drawings: dict[str, list[Drawing]] = {}
    facts: list[tuple[str, list[Fact]]] = []
    context: dict[str, Any] = {"view": view, "search": search, "note": note, "facts": facts}
    context |= {"shared": shared, "home": home}
    if search is not None:
        tables["settings"], drawings["search"] = settings(search), draw_search(search)
        facts.append(("The search", search_facts(search)))
        context |= _search_part(search, view)
    if view is not None:
        tables |= page_tables(view)
        if view.results.paired:
            tables[COMPARISONS] = comparisons_table(view.results.paired)
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
    names = {record.key: readable(title_of(record)) for record in records}
    rows = [(names[record.key], data_of(record), "ok", record.key) for record in records]
    datasets = distinct(record.fingerprint.dataset for record in records)
    facts: list[Fact] = []
    for record in records:
        other = f" against {readable(title_of(record.against))}" if record.against else ""
        facts.append((f"{names[record.key]}{other}, {data_of(record)}", evaluation_facts(record)))
        facts += [("Note", note) for note in record.notes]
    context = {
        "home": f"../{PAGE}",
        "about": {"study": EVALUATIONS, "question": "Checkpoint results next to published numbers"},
        "kicker": [counted(len(records), "evaluation"), *datasets],
        "view": None,
        "search": None,
        "main": EVALUATIONS,
        "facts": [("", facts)],
        "notebook": [],
        "shared": "",
        "records": _linked(rows, out, kept),
        "matrices": {
            f"{title_of(record)}, {data_of(record)}": confusion_table(record)
            for record in records
            if record.confusion
        },
    }
    tables = {EVALUATIONS: evaluations_table(records)}
    compared = comparisons_table(records)
    decided = decisions_table(records)
    tables |= {made.name: made for made in (compared, decided) if made.rows}
    return write_report(out / PAGE, context, tables, {})


def _study_part(view: StudyView, tables: Mapping[str, Table]) -> dict[str, Any]:
    """What the page shows of a study beside tables, figures, facts and records."""
    study, sessions = view.study, view.results.sessions
    about = _about(study, answer(view), len(view.variants), finished(view))
    variants = counted(len(view.variants), "variant")
    return {
        "about": about,
        "kicker": [f"Study {study.name}", about["dataset"], variants, about["finished"]],
        "main": "verdicts" if study.seeds else "speed",
        "waiting": listed(quoted(v.name) for v in view.variants if v.waits),
        "further": [text(view) for text in FURTHER] if study.seeds else [],
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


def _search_part(search: SearchRecord, view: StudyView | None) -> dict[str, Any]:
    """What the page shows of a search; the part of a study that confirms it replaces most of it."""
    found, dataset = search_headline(search, view), search.fingerprint.dataset
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
    for record in view.results.paired:
        found.append((title_of(record), data_of(record), "ok", record.key))
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
