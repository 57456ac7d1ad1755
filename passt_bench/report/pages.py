"""Renders the page of a study, of a search, or of both: verdicts in words, tables and figures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results
from passt_bench.records.run import cell_name
from passt_bench.records.search import SearchRecord
from passt_bench.records.store import Store
from passt_bench.report import provenance, sentences
from passt_bench.report.evaluations import comparisons_table, data_of, title_of
from passt_bench.report.figures import draw_all
from passt_bench.report.figures.search import draw_search
from passt_bench.report.files import COMPARISONS, PAGE, SUMMARY, linked, write_report, write_text
from passt_bench.report.search import search_facts, search_headline, settings
from passt_bench.report.study_tables import page_tables
from passt_bench.report.tables import Table
from passt_bench.report.text import counted, listed, quoted
from passt_bench.report.theme import Drawing
from passt_bench.report.view import SPEED_MARGIN, StudyView, study_view


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
    record = view.study if view else search
    assert record is not None
    tables: dict[str, Table] = {}
    drawings: dict[str, list[Drawing]] = {}
    facts: list[tuple[str, list[provenance.Fact]]] = []
    searched, dataset = search_headline(search, view) if search else "", record.fingerprint.dataset
    about = {
        "study": record.name,
        "question": record.question,
        "headline": provenance.answer(view) if view else searched,
        "baseline": record.baseline,
        "metric": record.metric,
        "dataset": dataset,
        "variants": len(view.variants) if view else 0,
        "finished": provenance.finished(view) if view else "",
    }
    context: dict[str, Any] = {
        "about": about,
        "view": view,
        "search": search,
        "searched": searched,
        "note": note,
        "facts": facts,
        "shared": shared,
        "home": home,
        "main": "",
        "records": [],
        "notebook": provenance.fact("The command:", [record.command]),
    }
    if search is not None:
        context["kicker"] = [f"Search {search.name}", dataset, counted(len(search.trials), "trial")]
        tables["settings"] = settings(search)
        drawings["search"] = draw_search(search)
        facts.append(("The search", search_facts(search)))
    if view is not None:
        tables |= page_tables(view)
        if view.results.paired:
            tables[COMPARISONS] = comparisons_table(view.results.paired)
        drawings["study"] = draw_all(view)
        facts.insert(0, ("", provenance.study_facts(view)))
        context |= _study_part(view, tables)
        context["records"] = linked(_records(view), out, kept)
        context["notebook"][:0] = provenance.fact("From the study file:", [view.study.notebook])
    text = json.dumps(about, sort_keys=True, indent=1, ensure_ascii=False)
    write_text(out / SUMMARY, text + "\n")
    return write_report(out / PAGE, context, tables, drawings)


def _study_part(view: StudyView, tables: dict[str, Table]) -> dict[str, Any]:
    """What the page shows of a study beside tables, figures, facts and records."""
    study, sessions, variants = view.study, view.results.sessions, len(view.variants)
    further = [
        sentences.reached_sentence(view),
        sentences.fastest_without_loss(view),
        sentences.power_sentence(view),
        sentences.weights_sentence(view),
    ]
    probes = tables.get("probes")
    return {
        "kicker": [
            f"Study {study.name}",
            study.fingerprint.dataset,
            counted(variants, "variant"),
            provenance.finished(view),
        ],
        "main": "verdicts" if study.seeds else "speed",
        "waiting": listed(quoted(v.name) for v in view.variants if v.waits),
        "further": further if study.seeds else [],
        "answers": sentences.answers(view),
        "baseline_probes": probes
        and replace(probes, rows=tuple(row for row in probes.rows if row[0] == study.baseline)),
        "warnings": provenance.warnings(sessions),
        "protocol": next(filter(None, (s.published_protocol for s in sessions)), None),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
    }


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
