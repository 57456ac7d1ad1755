"""Describes evaluations of checkpoints: their metrics in a table, and facts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import isfinite

from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.report.provenance import machine_text
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import NAN, Span, interval, significant


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
    return table(
        "evaluations",
        "Checkpoints on data sets, with 95 % intervals from resampling clips: how much the value "
        "would vary with other clips, not with another training. Where a number is published for "
        "the same checkpoint, the difference to it has the same interval.",
        columns,
        rows,
    )


def _row(record: EvaluationRecord, metric: str) -> tuple[object, ...]:
    value = record.metrics[metric]
    low, high = record.intervals.get(metric, (NAN, NAN))
    known = record.published_of(metric)
    stated = known.value if known else NAN
    return (
        record.name,
        data_of(record),
        record.clips,
        metric,
        Span(value, low, high),
        f"{record.scored[metric]} of {len(record.fingerprint.classes)}",
        stated if isfinite(stated) else None,
        Span(value - stated, low - stated, high - stated),
        known.source if known else "",
    )


def data_of(record: EvaluationRecord) -> str:
    """The data that was evaluated on: ``esc50, test, fold 3``."""
    fold = "" if record.fold is None else f", fold {record.fold}"
    return f"{record.fingerprint.dataset}, {record.split}{fold}"


def evaluation_facts(record: EvaluationRecord) -> str:
    """Describes the clips, data set, machine and time of an evaluation."""
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
