"""Reads quality records and evaluations into pandas tables, one row per record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import CellRecord, RunRecord, StudyRecord, VariantRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store

NAN = float("nan")
_OF_EVERY_CELL = ("variant", "seed", "fold", "key", "status", "message", "parameters")


def load_frame(root: Path | str) -> pd.DataFrame:
    """Every quality record and evaluation under a store's folder, one row per record.

    Columns: ``key``, ``kind`` (``quality`` or ``evaluation``), ``status``, ``message``, ``seed``,
    ``fold`` (nullable integer), ``attempt``, ``finished``, ``dataset``, ``fingerprint``; the recipe
    by dotted names (``model.name``, ``patchout.kind``, ``training.epochs``, …, ``salt``); then what
    was measured, named as in `cells_frame`. Rows of different fingerprints must not be compared.
    Evaluations add ``checkpoints``, ``split``, ``clips`` and the ends of each metric's interval
    over clips, ``METRIC_low`` and ``METRIC_high``, and ``against``, the name of the model that it
    was compared with, if any was; they have the recipe of a single model file and
    no seed (the column is then a nullable integer). Where patches were dropped, they have
    ``inference_patchout.kind``, ``inference_patchout.rate``, …, and tokens of the first model file.

    Raises:
        InputError: there is no such folder, or a record is broken.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(
            "no such folder",
            source=root,
            remedy="Give the folder that `passt-bench run --runs` wrote to.",
        )
    records = Store(root).records()
    rows = [_row(record) for record in records if not isinstance(record, SessionRecord)]
    if not rows:
        return pd.DataFrame(columns=["key", "kind", "status", "message", "seed", "fold"])
    frame = _with_integer_folds(pd.DataFrame(rows))
    if frame["seed"].isna().any():
        frame["seed"] = frame["seed"].astype("Int64")
    return frame


def cells_frame(study: StudyRecord, store: Store) -> pd.DataFrame:
    """The quality cells of a study, one row per cell, cells without a record included.

    Columns: ``variant``, ``seed``, ``fold`` (nullable integer), ``key``, ``status`` (``missing``
    if there is no record), ``message`` (empty if there is none), ``tokens``, ``tokens_full``,
    ``grid_frequency``, ``grid_time``, ``parameters``, ``flops`` (per clip of a training step); one
    column per metric, always including the study's primary metric; ``probe/NAME/METRIC``,
    ``train/NAME``, ``clocks/NAME`` (seconds), ``resolved/NAME`` (patchout as resolved on the
    grid). Metrics and occlusion tests are NaN unless the status is ``ok``.

    Raises:
        InputError: a record is of other data than the study's, or broken.
    """
    return cells_of(study, find_runs(study, [store]))


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
    """`cells_frame` from loaded records, key → record."""
    rows = [
        _cell_row(study, variant, cell, records.get(cell.key))
        for variant in study.variants
        for cell in variant.cells
    ]
    # Without cells, as in a study of costs alone, the columns that every cell has.
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=_OF_EVERY_CELL)
    if study.metric not in frame.columns:
        frame[study.metric] = NAN
    return _with_integer_folds(frame)


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


def _row(record: RunRecord | EvaluationRecord) -> dict[str, Any]:
    run = record if isinstance(record, RunRecord) else None
    row: dict[str, Any] = {
        "key": record.key,
        "kind": record.kind,
        "status": record.status,
        "message": (run.message if run else None) or "",
        "seed": run.seed if run else None,
        "fold": record.fold,
        **({"attempt": run.attempt} if run else {}),
        "finished": record.finished,
        "dataset": record.fingerprint.dataset,
        "fingerprint": record.fingerprint.digest,
    }
    if isinstance(record, RunRecord):
        return row | _flat(record.recipe) | _measured(record)
    if len(record.members) == 1:
        row.update(_flat(record.members[0].recipe))
    if record.patchout is not None:
        row.update(_flat(record.patchout.setting, "inference_patchout."))
        row["tokens"], row["tokens_full"] = record.patchout.tokens[0]
    row.update(checkpoints=record.name, split=record.split, clips=record.clips, **record.metrics)
    row |= {"against": record.against.name} if record.against else {}
    for name, (low, high) in record.intervals.items():
        row.update({f"{name}_low": low, f"{name}_high": high})
    return row | {f"clocks/{name}": value for name, value in record.clocks.items()}


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


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {}
    for item in fields(node):
        value = getattr(node, item.name)
        nested = is_dataclass(value) and not isinstance(value, type)
        row.update(_flat(value, f"{prefix}{item.name}.") if nested else {prefix + item.name: value})
    return row


def _with_integer_folds(frame: pd.DataFrame) -> pd.DataFrame:
    frame["fold"] = frame["fold"].astype("Int64")
    return frame
