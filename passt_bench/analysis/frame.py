"""Reads records into pandas tables, and the newest measurement of each variant of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from passt_bench.errors import InputError, check_known
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import CellRecord, RunRecord, StudyRecord, VariantRecord
from passt_bench.records.session import ArmRecord, SessionRecord
from passt_bench.records.store import SEARCHES, Store, document_names, read_search

NAN = float("nan")
_OF_EVERY_CELL = ("variant", "seed", "fold", "key", "status", "message", "parameters")
_OF_EVERY_ROW = ("study", "variant", "key", "kind", "status", "message", "seed", "fold")
# They exist where nothing was measured, too: NaN.
_OF_EVERY_RUN = (
    *(f"spent/{name}" for name in ("epochs", "steps", "tokens", "flops")),
    *(f"cost/train_step{of}{end}" for of in ("", "_ratio") for end in ("", "_low", "_high")),
    *("memory/train_peak", "memory/saved_for_backward", "cost/mfu"),
)
Rows = Literal["runs", "epochs", "classes"]
Measured = tuple[SessionRecord, ArmRecord]


def load_frame(root: Path | str, rows: Rows = "runs") -> pd.DataFrame:
    """The records under an output folder, a report's folder or a folder of reports, as a table.

    >>> runs = load_frame("runs")  # a row per run
    >>> runs.groupby("variant")[["mAP", "cost/train_step_ratio"]].mean().loc["half"].to_dict()
    {'mAP': 0.75, 'cost/train_step_ratio': 0.6}
    >>> epochs = load_frame("runs", "epochs")  # curves, a row per run and epoch
    >>> epochs.groupby(["variant", "epoch"])["train_loss"].mean()["none"].to_dict()
    {1: 0.5, 2: 0.25}
    >>> classes = load_frame("runs", "classes")  # a row per run and class
    >>> classes.groupby(["variant", "class"])["mAP"].mean()["none"].to_dict()
    {'band': 0.875, 'clicks': 0.625}

    Every table has ``study``, ``variant``, ``key``, ``kind`` (``quality``, ``cost``, ``trial``,
    ``evaluation``), ``status``, ``message``, ``seed`` and ``fold`` (nullable integers),
    ``attempt``, ``finished``, ``dataset`` (as on pages), ``fingerprint``, and the recipe by dotted
    names (``model.name``, ``patchout.kind``, …, ``salt``). A run that several studies or variants
    share has a row for each (``drop_duplicates("key")`` keeps one). One that was tried for a
    study's tuning or by a search is of the kind ``trial`` and has their name, but no variant; one
    that belongs to none has neither. Rows of different fingerprints must not be compared.

    ``runs`` adds what a training of the variant was given, ``spent/epochs``, ``spent/steps``,
    ``spent/tokens`` and ``spent/flops``: with ``training.steps``, as at equal cost, the recipe's
    ``training.epochs`` do not count. It adds what was measured of the run, named as in `cells_of`,
    and of its variant in the study's cost session: ``cost/PHASE`` (median seconds of a step),
    ``cost/PHASE_ratio`` (to the baseline), each with the ends of its 95 % interval (``_low``,
    ``_high``), ``memory/NAME`` (bytes) and ``cost/mfu``. The columns of
    the training step, of memory in training, ``spent/`` and ``cost/mfu`` always exist, NaN if there
    is nothing; others where something was measured. A variant of which only costs were measured has
    one row, with the session's key. Evaluations add ``checkpoints``, ``split``,
    ``clips``, ``METRIC_low`` and ``METRIC_high`` (interval over clips) and ``against``, the model
    that it was compared with, if any; they have no seed, and the recipe of a single model file.
    Where patches were dropped, they have ``inference_patchout.kind``, …, and tokens of the first
    model file.

    ``epochs`` adds ``epoch`` (from 1) and a column per curve, ``classes`` adds ``class`` and a
    column per metric.

    Raises:
        InputError: there is no such folder, no such kind of rows, or a record is broken.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            "no such folder",
            source=root,
            remedy="Give the folder that `passt-bench run --runs` wrote to.",
        )
    check_known(rows, get_args(Rows), "no such kind of rows", field="rows")
    roots = [root]
    if not any((root / name).is_dir() for name in ("records", "studies")):
        roots = sorted(path.parent for path in root.glob("*/records")) or roots
    table = [row for folder in roots for row in _table(Store(folder), rows)]
    more = _OF_EVERY_RUN if rows == "runs" else ()
    columns = dict.fromkeys([*_OF_EVERY_ROW, *(name for row in table for name in row), *more])
    return pd.DataFrame(table, columns=[*columns]).astype({"seed": "Int64", "fold": "Int64"})


def _table(store: Store, rows: Rows) -> list[dict[str, Any]]:
    sessions, others = list[SessionRecord](), dict[str, list[dict[str, Any]]]()
    for record in store.records():
        if isinstance(record, SessionRecord):
            sessions.append(record)
        else:
            identity = {"study": None, "variant": None} | _identity(record)
            others[record.key] = [identity | row for row in _rows(record, rows)]
    found, table = dict(others), list[dict[str, Any]]()
    names = document_names(store.root / SEARCHES)
    searches = (read_search(name, store.root) for name in names)
    trials = {key: search.name for search in searches for t in search.trials for key in t.keys}
    for study in map(store.study, store.studies()):
        trials |= {cell.key: study.name for item in study.tried for cell in item.cells}
        measured = measured_arms(study, sessions) if rows == "runs" else {}
        for variant in study.variants:
            place: dict[str, Any] = {"study": study.name, "variant": variant.name}
            if rows == "runs":
                place |= {f"spent/{name}": value for name, value in variant.spent.items()}
            cost = _costs(study, *measured[variant.name]) if variant.name in measured else {}
            for cell in variant.cells:
                table += [cost | row | place for row in found.get(cell.key, ())]
                others.pop(cell.key, None)
            table += [cost | place] if cost and not variant.cells else []
    for key, own in others.items():
        tried = {"study": trials[key], "kind": "trial"} if key in trials else {}
        table += [row | tried for row in own]
    return table


def find_runs(study: StudyRecord, stores: Iterable[Store]) -> dict[str, RunRecord]:
    """The records of a study's cells by key, each from the first store that has it.

    Only one picture per variant is kept, because pages show one and thousands would fill memory.
    """
    stores = list(stores)
    records: dict[str, RunRecord] = {}
    for variant in study.variants:
        has_picture = False
        for key in (cell.key for cell in variant.cells if cell.key not in records):
            record = next((run for store in stores if (run := store.run(key))), None)
            if record is not None:
                records[key] = replace(record, picture=None) if has_picture else record
                has_picture = has_picture or record.picture is not None
    return records


def cells_of(study: StudyRecord, records: Mapping[str, RunRecord]) -> pd.DataFrame:
    """The quality cells of a study, one row per cell, from its records by key (see `find_runs`).

    Columns: ``variant``, ``seed``, ``fold`` (nullable integer), ``key``, ``status`` (``missing``
    if there is no record), ``message`` (empty if there is none), ``tokens``, ``tokens_full``,
    ``grid_frequency``, ``grid_time``, ``parameters``, ``flops`` (per clip of a training step); one
    column per metric, always including the study's primary metric; ``probe/NAME/METRIC``,
    ``train/NAME``, ``clocks/NAME`` (seconds), ``resolved/NAME`` (patchout as resolved on the
    grid). Metrics and occlusion tests are NaN unless the status is ``ok``.

    Raises:
        InputError: a record is of other data than the study's.
    """
    rows = [
        _cell_row(study, variant, cell, records.get(cell.key))
        for variant in study.variants
        for cell in variant.cells
    ]
    # Without cells, as in a study of costs alone, the columns that every cell has.
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=_OF_EVERY_CELL)
    if study.metric not in frame.columns:
        frame[study.metric] = NAN
    return frame.astype({"fold": "Int64"})


def _cell_row(
    study: StudyRecord, variant: VariantRecord, cell: CellRecord, record: RunRecord | None
) -> dict[str, Any]:
    if record is not None and record.fingerprint.digest != study.fingerprint.digest:
        raise InputError(
            "a record of other data than the study's",
            source=f"records/{cell.key}/record.json",
            field="fingerprint.digest",
            value=record.fingerprint.digest,
            remedy=f"The study has {study.fingerprint.digest}; run it again on these data.",
        )
    row: dict[str, Any] = {
        "variant": variant.name,
        "seed": cell.seed,
        "fold": cell.fold,
        "key": cell.key,
        "status": record.status if record else "missing",
        "message": (record.message if record else None) or "",
    }
    row.update(_measured(record) if record else {"parameters": NAN, "flops": NAN})
    # A run that failed early has not counted its tokens; the expansion knows them.
    row["tokens"] = (record.tokens if record else 0) or variant.tokens
    row["tokens_full"] = (record.tokens_full if record else 0) or variant.tokens_full
    row.update(_grid((record.grid if record else None) or variant.grid))
    return row


def _identity(record: RunRecord | EvaluationRecord) -> dict[str, Any]:
    """What every row of a record has: which record it is, its state, data and recipe."""
    run = record if isinstance(record, RunRecord) else None
    members = record.members if isinstance(record, EvaluationRecord) else (record,)
    return {
        "key": record.key,
        "kind": record.kind,
        "status": record.status,
        "message": (run.message if run else None) or "",
        "seed": run.seed if run else None,
        "fold": record.fold,
        "attempt": run.attempt if run else None,
        "finished": record.finished,
        "dataset": record.fingerprint.title,
        "fingerprint": record.fingerprint.digest,
        **(_flat(members[0].recipe) if len(members) == 1 else {}),
    }


def _rows(record: RunRecord | EvaluationRecord, rows: Rows) -> list[dict[Any, Any]]:
    """What was measured: one row, or one per epoch or class."""
    if rows == "runs":
        return [_measured(record) if isinstance(record, RunRecord) else _evaluated(record)]
    if rows == "classes":
        values = pd.DataFrame(record.per_class).rename_axis("class")
    else:
        curves = record.curves if isinstance(record, RunRecord) else {}
        values = pd.DataFrame({name: pd.Series(curve) for name, curve in curves.items()})
        values.index = pd.RangeIndex(1, len(values) + 1, name="epoch")
    return values.reset_index().to_dict("records")


def _evaluated(record: EvaluationRecord) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if record.patchout is not None:
        row.update(_flat(record.patchout.setting, "inference_patchout."))
        row["tokens"], row["tokens_full"] = record.patchout.tokens[0]
    row.update(checkpoints=record.name, split=record.split, clips=record.clips, **record.metrics)
    row |= {"against": record.against.name} if record.against else {}
    for name, (low, high) in record.intervals.items():
        row.update({f"{name}_low": low, f"{name}_high": high})
    return row | {f"clocks/{name}": value for name, value in record.clocks.items()}


def _costs(study: StudyRecord, session: SessionRecord, arm: ArmRecord) -> dict[str, Any]:
    """The row of a variant of which only costs were measured; a run's own values go before."""
    row: dict[str, Any] = {
        "key": session.key,
        "kind": session.kind,
        "status": arm.status,
        "message": arm.message or "",
        "finished": session.finished,
        "dataset": study.fingerprint.title,
        "fingerprint": study.fingerprint.digest,
        **_flat(arm.recipe),
        **{name: getattr(arm, name) for name in ("tokens", "tokens_full", "parameters", "flops")},
    }
    for end, spans in (("", arm.phases), ("_ratio", arm.ratios)):
        for phase, span in spans.items():
            name = f"cost/{phase}{end}"
            row |= {name: span.median, f"{name}_low": span.low, f"{name}_high": span.high}
    row |= {f"memory/{name}": size for name, size in arm.memory.items()}
    return row | {"cost/batch_size": arm.batch_size, "cost/mfu": arm.mfu}


def _measured(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"tokens": record.tokens, "tokens_full": record.tokens_full}
    row.update(_grid(record.grid))
    row.update(parameters=record.parameters, flops=NAN if record.flops is None else record.flops)
    if record.status == "ok":
        row.update(record.metrics)
        for name, values in record.occlusions.items():
            row.update({f"probe/{name}/{metric}": value for metric, value in values.items()})
    row.update({f"train/{name}": value for name, value in record.train.items()})
    row.update({f"clocks/{name}": value for name, value in record.clocks.items()})
    row.update({f"resolved/{name}": value for name, value in record.patchout.items()})
    return row


def _grid(grid: tuple[int, int] | None) -> dict[str, float]:
    frequency, time = grid if grid is not None else (NAN, NAN)
    return {"grid_frequency": frequency, "grid_time": time}


@lru_cache(maxsize=4096)  # one recipe has many records
def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in fields(node):
        value = getattr(node, item.name)
        nested = is_dataclass(value) and not isinstance(value, type)
        row.update(_flat(value, f"{prefix}{item.name}.") if nested else {prefix + item.name: value})
    return row


def measured_arms(
    study: StudyRecord, sessions: Iterable[SessionRecord], *, oldest: bool = False
) -> dict[str, Measured]:
    """Variant → its arm in the newest (or oldest) session that measured it against the baseline.

    Every session has the baseline; its seconds are taken from the session that most variants come
    from, so that they are of the same session.
    """
    base = next(v.arm for v in study.variants if v.name == study.baseline)
    newest: dict[str, Measured] = {}
    for session in sorted(sessions, key=age, reverse=oldest):
        if session.baseline == base:
            newest.update({arm.key: (session, arm) for arm in session.arms})
    others = [v.arm for v in study.variants if v.arm != base and v.arm in newest]
    if others:
        arms_of = Counter(newest[arm][0].key for arm in others)
        chosen = max((newest[arm][0] for arm in others), key=lambda s: (arms_of[s.key], *age(s)))
        newest[base] = (chosen, next(arm for arm in chosen.arms if arm.key == base))
    return {v.name: newest[v.arm] for v in study.variants if v.arm in newest}


def age(session: SessionRecord) -> tuple[str, str]:
    """Sorts sessions, the oldest first."""
    return session.finished, session.key
