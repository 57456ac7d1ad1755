"""Renders the page of all evaluations of checkpoints: tables of metrics and decisions, facts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from math import isfinite
from pathlib import Path

from passt_bench.records.evaluation import Against, Decided, EvaluationRecord
from passt_bench.records.run import cell_name
from passt_bench.records.store import Store
from passt_bench.registry import METRICS
from passt_bench.report.files import EVALUATIONS, PAGE, linked, write_report
from passt_bench.report.provenance import Fact, distinct, machine_text
from passt_bench.report.tables import Column, Table, table
from passt_bench.report.text import (
    NAN,
    Span,
    counted,
    fixed,
    interval,
    listed,
    p_value,
    quoted,
    significant,
)
from passt_bench.spec.study import patchout_text


def render_evaluations(found: Iterable[EvaluationRecord], out: Path, kept: Store) -> Path:
    """Writes the page of all evaluations, and its tables; ``kept`` is as in `pages.render`."""
    records = sorted(found, key=lambda r: (r.fingerprint.title, r.finished, r.key))
    rows = [(readable(title_of(r)), data_of(r), "ok", r.key) for r in records]
    facts: list[Fact] = []
    for (name, data, *_), record in zip(rows, records, strict=True):
        other = f" against {readable(title_of(record.against))}" if record.against else ""
        facts.append((f"{name}{other}, {data}", evaluation_facts(record)))
        facts += [("Note", note) for note in (*record.fingerprint.notes, *record.notes)]
    context = {
        "home": f"../{PAGE}",
        "about": {"study": EVALUATIONS, "question": heading(records)},
        "kicker": [
            counted(len(records), "evaluation"),
            *distinct(record.fingerprint.title for record in records),
        ],
        "view": None,
        "search": None,
        "main": EVALUATIONS,
        "facts": [("", facts)],
        "notebook": [],
        "shared": "",
        "records": linked(rows, out, kept),
        "matrices": {
            f"{title_of(record)}, {data_of(record)}": confusion_table(record)
            for record in records
            if record.confusion
        },
    }
    made = (evaluations_table(records), comparisons_table(records), decisions_table(records))
    tables = {table.name: table for table in made if table.rows or table.name == EVALUATIONS}
    return write_report(out / PAGE, context, tables, {})


def heading(records: Iterable[EvaluationRecord]) -> str:
    """The title of the page; it names published numbers only if there are some."""
    known = any(record.published_of(metric) for record in records for metric in record.metrics)
    return "Checkpoint results" + " next to published numbers" * known


def verdicts_sentence(records: Sequence[EvaluationRecord]) -> str:
    """What comparisons of models on the same clips found; those of rare verdicts are named."""
    found = [
        (d.verdict, f"{readable(title_of(r))} against {readable(title_of(r.against))} in {metric}")
        for r in records
        if r.against is not None
        for metric, d in r.against.differences.items()
    ]
    if not found:
        known = counted(len(records), "evaluation")
        return f"{known}; no two models are compared on the same clips, so there is no verdict."
    told = []
    for verdict, number in Counter(verdict for verdict, _ in found).most_common():
        pairs = "; ".join(pair for own, pair in found if own == verdict)
        told.append(f"{verdict} in {number}" + f" ({pairs})" * (number < 3))
    return (
        f"In {counted(len(found), 'comparison')} on the same clips, the first model is "
        f"{listed(told)}: about these weights, not about retraining."
    )


def evaluations_table(records: Sequence[EvaluationRecord]) -> Table:
    """The table of evaluations, with a row per evaluation and metric."""
    columns = (
        Column("checkpoints", "checkpoints", label=readable),
        Column("data", "data"),
        Column("clips", "clips", str),
        Column("metric", "metric"),
        Column("value", "value", partial(interval, least=3), span=True),
        Column("scored", "classes"),
        Column("published", "published", "{:g}".format),
        Column("difference", "minus published", partial(interval, sign=True), span=True),
        Column("source", "published by"),
    )
    rows = [row for record in records for row in _rows(record)]
    rows = list({str(row): row for row in rows}.values())  # a compared model has several records
    made = table(
        "evaluations",
        "Checkpoints on data sets, with 95 % intervals over clips: how much the value would vary "
        "with other clips, not with another training. Precision, recall and F1 are means over "
        "classes. The difference to a published number has the same interval.",
        columns,
        rows,
    )
    # What is asked for first; on a narrow screen the rest is scrolled to.
    first = ["checkpoints", "metric", "value"]
    return made.only([*first, *(c.name for c in made.columns if c.name not in first)])


def comparisons_table(records: Sequence[EvaluationRecord]) -> Table:
    """The table of models that were compared on the same clips, with a row per metric."""
    columns = (
        Column("first", "model A", label=readable),
        Column("second", "model B", label=readable),
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
    rows, with_margin = [], {item.name for item in METRICS.all() if item.build.uses_margin}
    for record, against in [(r, r.against) for r in records if r.against is not None]:
        for metric, d in ((name, against.differences[name]) for name in record.metrics):
            names = title_of(record), title_of(against), *_row(record, metric)[1:4]
            margin = against.margin if metric in with_margin else None
            counts = d.only_first, d.only_second, d.p, margin
            rows.append((*names, Span(d.value, d.low, d.high), *counts, d.verdict))
    return table(
        "comparisons",
        "Two models on the same clips, with 95 % intervals from the same resamples of clips: about "
        "these weights on these clips, not about retraining. The verdict is by the interval alone: "
        "“same” is within ± margin, “not worse” excludes a loss as large as the margin.",
        columns,
        rows,
    )


def _rows(record: EvaluationRecord) -> Iterator[tuple[object, ...]]:
    """Rows of the metrics, and the means over the classes that clips have of what was decided."""
    yield from (_row(record, metric) for metric in record.metrics)
    found = [each for each in (record.decisions or {}).values() if each.clips]
    classes = f"{len(found)} of {len(record.fingerprint.classes)}"
    for name in ("precision", "recall", "F1") if found else ():
        # A class that was never decided counts as 0.
        mean = sum(getattr(each, name.lower()) or 0.0 for each in found) / len(found)
        place = title_of(record), data_of(record), record.clips
        yield (*place, name, Span(mean), classes, None, Span(NAN), "")


def decisions_table(records: Sequence[EvaluationRecord]) -> Table:
    """What was decided about each class, the class with the lowest F1 first."""
    shares = {"threshold": "threshold", "precision": "precision", "recall": "recall", "f1": "F1"}
    columns = (
        *(Column(name, name) for name in ("checkpoints", "data", "class")),
        *(Column(name, name, str) for name in ("clips", "decided", "right")),
        *(Column(name, title, partial(fixed, places=3)) for name, title in shares.items()),
    )

    def worst(item: tuple[str, Decided]) -> tuple[float, str]:
        return 2.0 if item[1].f1 is None else item[1].f1, item[0]

    rows = [
        (title_of(record), data_of(record), name, *(getattr(each, c.name) for c in columns[3:]))
        for record in records
        for name, each in sorted((record.decisions or {}).items(), key=worst)
    ]
    return table(
        "decisions",
        "Clips that have a class, for which it was decided, and both. The most probable class is "
        "decided; of multi-label data, each from its threshold on, chosen on a validation split "
        "or 0.5.",
        columns,
        {str(row): row for row in rows}.values(),  # a compared model has several records
    )


def most_confused(record: EvaluationRecord, most: int = 5) -> str:
    """A sentence about the classes that are taken for others most often; empty if none is."""
    pairs = [
        (clips, f"{name} for {other} ({clips} of {sum(row.values())})")
        for name, row in (record.confusion or {}).items()
        for other, clips in row.items()
        if other != name
    ]
    named = [text for _, text in sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:most]]
    return f"Most often mistaken: {', '.join(named)}." if named else ""


def confusion_table(record: EvaluationRecord) -> Table:
    """The matrix of the classes of clips (rows) and the decided classes (numbered columns)."""
    counts, names = record.confusion or {}, record.fingerprint.classes
    columns = [
        Column("class", "class"),
        *(Column(name, str(number), str) for number, name in enumerate(names, start=1)),
    ]
    rows = [
        (f"{number} {name}", *(counts.get(name, {}).get(other) for other in names))
        for number, name in enumerate(names, start=1)
    ]
    caption = "Clips by their class (rows) and the decided class (columns, by number)"
    return Table("confusion", caption, tuple(columns), tuple(rows if counts else ()))


def _row(record: EvaluationRecord, metric: str) -> tuple[object, ...]:
    value = record.metrics[metric]
    low, high = record.intervals.get(metric, (NAN, NAN))
    known = record.published_of(metric)
    stated = known.value if known else NAN
    return (
        title_of(record),
        data_of(record),
        record.clips,
        metric,
        Span(value, low, high),
        f"{record.scored[metric]} of {len(record.fingerprint.classes)}",
        stated if isfinite(stated) else None,
        Span(value - stated, low - stated, high - stated),
        known.source if known else "",
    )


def title_of(model: EvaluationRecord | Against) -> str:
    """The model's name, and which of its patches were dropped if any were."""
    dropped = model.patchout
    text = dropped and f" (patchout {patchout_text(dropped.setting, dropped.tokens)})"
    return f"{model.name}{text or ''}"


def readable(title: str) -> str:
    """A title with study, seed and fold of a kept model in words; others as they are."""
    found = re.fullmatch(r"([^:,]+):([^:]+):(\d+)(?::(\d+))?( \(.*)?", title)
    if found is None:
        return title
    study, variant, seed, fold, dropped = found.groups()
    run = cell_name(int(seed), int(fold) if fold else None)
    return f"{quoted(variant)} of {study}, {run}{dropped or ''}"


def clip_time(record: EvaluationRecord) -> str:
    """Milliseconds per clip of each scored model; empty for a record without them."""
    seconds = [record.clocks.get(name) for name in ("clip", "clip_against")]
    shown = " and ".join(significant(1000 * each, 2) for each in seconds if each)
    return f"{shown} ms per clip" if shown else ""


def data_of(record: EvaluationRecord) -> str:
    """The data that was evaluated on: ``esc50, test, fold 3``, and if they were trained on."""
    fold = "" if record.fold is None else f", fold {record.fold}"
    seen = " (perhaps trained on)" * record.seen
    return f"{record.fingerprint.title}, {record.split}{fold}{seen}"


def evaluation_facts(record: EvaluationRecord) -> str:
    """Describes the clips, data set, machine and time of an evaluation."""
    data = record.fingerprint
    expected = f" of {data.expected}" if data.expected is not None else ""
    seconds = sum(record.clocks.get(part, 0.0) for part in ("score", "intervals"))
    each = f" ({clip_time(record)})" if clip_time(record) else ""
    return "; ".join(
        (
            f"{record.clips} clips of {record.seconds:g} s at {record.sampling_rate} Hz",
            f"data set with {data.found}{expected} clips, digest {data.digest}",
            f"{record.resamples} resamples",
            f"{significant(seconds, 2)} s{each} on {machine_text(record.machine)}",
            f"finished {record.finished}",
        )
    )
