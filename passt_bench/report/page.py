"""The page of a study, with its tables and figures as files beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results
from passt_bench.report.breakdown import failures, per_class, place, probes
from passt_bench.report.contents import cost, memory, quality, verdicts
from passt_bench.report.facts import facts, finished, warnings
from passt_bench.report.figures import NAMES, draw_all
from passt_bench.report.files import (
    DRAWN,
    TABULATED,
    Shown,
    files_of,
    render_template,
    write_drawing,
    write_table,
    write_text,
)
from passt_bench.report.sentences import answers, bargain, headline
from passt_bench.report.tables import Table
from passt_bench.report.theme import VERDICTS, look
from passt_bench.report.view import SPEED_MARGIN, StudyView, view

SUMMARY, PAGE = "summary.json", "index.html"
_TABLES = ("verdicts", "quality", "cost", "memory", "per_class", "probes", "failures")
WRITTEN = (
    files_of("tables", TABULATED, _TABLES) | files_of("figures", DRAWN, NAMES) | {SUMMARY, PAGE}
)


def render(results: Results, out: Path, note: str = "") -> Path:
    """Writes the report of a study: a page that stands alone, and its parts.

    Writes ``index.html``, ``summary.json`` (what an index of reports needs), ``tables/NAME`` as
    md, csv and tex, and ``figures/NAME`` as svg and csv. The same results give the same bytes.
    Records are linked where they lie beside the page, in ``out/records``.

    Args:
        results: of the study.
        out: folder of this report.
        note: what stands above the answer, of variants that the study has and the page does not.

    Returns:
        The path of the page.
    """
    seen = view(results)
    tables = all_tables(seen)
    for table in tables.values():
        write_table(table, out / "tables", seen.study.name)
    with look():
        shown = [write_drawing(drawing, out / "figures") for drawing in draw_all(seen)]
    summary = {
        "study": seen.study.name,
        "question": seen.study.question,
        "headline": headline(seen),
        "baseline": seen.study.baseline,
        "metric": seen.metric,
        "dataset": seen.study.fingerprint.dataset,
        "variants": len(seen.variants),
        "finished": finished(seen),
    }
    text = json.dumps(summary, sort_keys=True, indent=1, ensure_ascii=False)
    write_text(out / SUMMARY, text + "\n")
    page = render_template(
        "study.html", _context(seen, tables, shown, out) | summary | {"note": note}
    )
    return write_text(out / PAGE, page)


def all_tables(seen: StudyView) -> dict[str, Table]:
    """Every table of a study that has rows, by name; failures only where there are any."""
    made = [build(seen) for build in (verdicts, quality, cost, memory, per_class, probes, failures)]
    return {table.name: table for table in made if table.rows}


def _context(
    seen: StudyView, tables: dict[str, Table], shown: list[Shown], out: Path
) -> dict[str, Any]:
    return {
        "view": seen,
        "paired": [c.variant for c in seen.results.comparisons if c.method.startswith("paired")],
        "bargain": bargain(seen),
        "answers": answers(seen),
        "tables": tables,
        "figures": shown,
        "baseline_probes": _rows_of(tables.get("probes"), seen.study.baseline),
        "facts": facts(seen),
        "warnings": warnings(seen),
        "references": any(v.record.reference for v in seen.others),
        "speed_margin": f"{100 * SPEED_MARGIN:g}",
        "signs": {verdict: style.sign for verdict, style in VERDICTS.items()},
        "records": _records(seen, out),
    }


def _rows_of(table: Table | None, variant: str) -> Table | None:
    """The part of a table that is about one variant."""
    if table is None:
        return None
    return replace(table, rows=tuple(row for row in table.rows if row[0] == variant))


def _records(seen: StudyView, out: Path) -> list[dict[str, str]]:
    """Every cell and session with its key, and a link where its record lies beside the page."""
    rows = []
    for v in seen.variants:
        statuses = {run.key: run.status for run in v.runs}
        for cell in v.record.cells:
            status, where = statuses.get(cell.key, "missing"), place(cell.seed, cell.fold)
            rows.append({"what": v.name, "cell": where, "key": cell.key, "status": status})
    for session in seen.results.sessions:
        arms = f"{len(session.arms)} arms"
        rows.append({"what": "cost session", "cell": arms, "key": session.key, "status": "ok"})
    for row in rows:
        link = f"records/{row['key']}/record.json"
        row["link"] = link if (out / link).is_file() else ""
    return rows
