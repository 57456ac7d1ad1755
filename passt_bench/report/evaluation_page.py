"""The page of all evaluations: what checkpoints reach on data sets, beside what is published."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite
from pathlib import Path

from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.store import Store
from passt_bench.report.facts import distinct, machine_text
from passt_bench.report.files import (
    TABULATED,
    files_of,
    keep_record,
    render_template,
    write_table,
    write_text,
)
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import NAN, Span, interval, significant
from passt_bench.report.whole import replacing

FOLDER, PAGE = "evaluations", "index.html"
WRITTEN = files_of("tables", TABULATED, [FOLDER]) | {PAGE}


def build_evaluations(runs: Path, reports: Path) -> list[Path]:
    """Renders every evaluation found in the runs and in the reports, with their records.

    Writes ``reports/evaluations/``: a page, its table as csv, md and tex, and the records.

    Args:
        runs: the folder that `evaluate` wrote to; what lies there comes first.
        reports: the folder of all reports.

    Returns:
        The path of the page; none where there is no evaluation.

    Raises:
        InputError: a record is broken.
    """
    kept = Store(reports / FOLDER)
    found = {record.key: record for record in kept.evaluations()}
    new = {record.key: record for record in Store(runs).evaluations()}
    records = list((found | new).values())
    if not records:
        return []
    records.sort(key=lambda record: (record.fingerprint.dataset, record.finished, record.key))
    with replacing(reports / FOLDER, WRITTEN) as folder:
        for key in new:
            keep_record(key, Store(runs), Store(folder))
        page = _render(records, folder)
    return [reports / FOLDER / page.name]


def evaluations_table(records: Sequence[EvaluationRecord]) -> Table:
    """A row an evaluation and metric."""
    columns = (
        Column("checkpoints", "checkpoints"),
        Column("data", "data"),
        Column("clips", "clips", str),
        Column("metric", "metric"),
        Column("value", "value", interval, span=True),
        Column("scored", "classes"),
        Column("published", "published", _as_stated),
        Column("difference", "to published", partial(interval, sign=True), span=True),
        Column("source", "published by"),
    )
    rows = [_row(record, metric) for record in records for metric in record.metrics]
    return table(
        "evaluations",
        "Checkpoints on data sets, with 95 % intervals over the drawing of clips: how far the "
        "value would move with other clips, not with another training. Beside it what is published "
        "of the same checkpoints, and the difference to it with the same interval.",
        columns,
        rows,
    )


def _as_stated(value: float) -> str:
    return f"{value:g}"


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


def _render(records: Sequence[EvaluationRecord], folder: Path) -> Path:
    made = evaluations_table(records)
    write_table(made, folder / "tables", FOLDER)
    context = {
        "table": made,
        "records": [
            {
                "key": record.key,
                "name": record.name,
                "link": f"records/{record.key}/record.json",
                "facts": _facts(record),
                "notes": record.notes,
            }
            for record in records
        ],
        "datasets": distinct(record.fingerprint.dataset for record in records),
    }
    return write_text(folder / PAGE, render_template("evaluations.html", context))


def _facts(record: EvaluationRecord) -> str:
    data = record.fingerprint
    expected = f" of {data.expected}" if data.expected is not None else ""
    return "; ".join(
        (
            f"{record.clips} clips of {record.seconds:g} s at {record.sampling_rate} Hz",
            f"{data.found}{expected} clips found of the data, fingerprint {data.digest}",
            f"{record.resamples} resamples",
            f"{significant(sum(record.clocks.values()), 2)} s on {machine_text(record.machine)}",
            f"finished {record.finished}",
        )
    )
