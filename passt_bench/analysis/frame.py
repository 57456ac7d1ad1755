"""Reads quality records and evaluations into pandas tables, a row each."""

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


def load_frame(root: Path | str) -> pd.DataFrame:
    """Every quality record and evaluation under an output folder as a tidy table, a row each.

    Columns: ``key``, ``kind`` (``quality`` or ``evaluation``), ``status``, ``message``, ``seed``,
    ``fold`` (nullable integer), ``attempt``, ``finished``, ``dataset``, ``fingerprint``; the recipe
    by dotted names (``model.name``, ``patchout.kind``, ``training.epochs``, …, ``salt``); then what
    was measured, named as in `cells_frame`. Rows of different fingerprints must not be compared.
    Evaluations add ``checkpoints``, ``split``, ``clips`` and the ends of each metric's interval
    over clips, ``METRIC_low`` and ``METRIC_high``; they have the recipe of a single checkpoint and
    no seed (the column is then a nullable integer).

    Args:
        root: the folder that ``run --runs`` wrote to.

    Raises:
        InputError: no such folder, or a broken record.
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
    """The quality cells of a study, one row each, those without a record included.

    Columns: ``variant``, ``seed``, ``fold`` (nullable integer), ``key``, ``status`` (``missing``
    where there is no record), ``message`` (empty where there is none), ``tokens``, ``tokens_full``,
    ``grid_frequency``, ``grid_time``, ``parameters``, ``flops`` (a training step, per clip); one
    column per metric, the study's primary one always among them; ``probe/NAME/METRIC``,
    ``train/NAME``, ``clocks/NAME`` (seconds), ``resolved/NAME`` (patchout as resolved on the
    grid). Metrics and occlusion tests are NaN unless the status is ``ok``.

    Raises:
        InputError: a record of other data than the study's, or a broken record.
    """
    return cells_of(study, find_runs(study, [store]))


def find_runs(study: StudyRecord, stores: Iterable[Store]) -> dict[str, RunRecord]:
    """The records of a study's cells by key, each from the first store that has it.

    Of a variant only the first picture is kept: no more are drawn, and thousands fill the memory.
    """
    stores = list(stores)
    found: dict[str, RunRecord] = {}
    for variant in study.variants:
        drawn = False
        for key in (cell.key for cell in variant.cells if cell.key not in found):
            record = next((run for store in stores if (run := store.run(key))), None)
            if record is not None:
                found[key] = replace(record, picture=None) if drawn else record
                drawn = drawn or record.picture is not None
    return found


def cells_of(study: StudyRecord, records: Mapping[str, RunRecord]) -> pd.DataFrame:
    """`cells_frame` from records at hand, key → record."""
    rows = [
        _cell_row(study, variant, cell, records.get(cell.key))
        for variant in study.variants
        for cell in variant.cells
    ]
    frame = pd.DataFrame(rows)
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
    ran = record if isinstance(record, RunRecord) else None
    row: dict[str, Any] = {
        "key": record.key,
        "kind": record.kind,
        "status": record.status,
        "message": (ran.message if ran else None) or "",
        "seed": ran.seed if ran else None,
        "fold": record.fold,
        **({"attempt": ran.attempt} if ran else {}),
        "finished": record.finished,
        "dataset": record.fingerprint.dataset,
        "fingerprint": record.fingerprint.digest,
    }
    if isinstance(record, RunRecord):
        return row | _flat(record.recipe) | _measured(record)
    if len(record.members) == 1:
        row.update(_flat(record.members[0].recipe))
    row.update(checkpoints=record.name, split=record.split, clips=record.clips, **record.metrics)
    for name, (low, high) in record.intervals.items():
        row.update({f"{name}_low": low, f"{name}_high": high})
    return row | {f"clocks/{name}": value for name, value in record.clocks.items()}


def _measured(record: RunRecord) -> dict[str, Any]:
    row: dict[str, Any] = {"tokens": record.tokens, "tokens_full": record.tokens_full}
    row.update(_grid(record.grid))
    row.update(parameters=record.parameters, flops=number(record.flops))
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


def number(value: float | None) -> float:
    """The value, NaN for None: a column of numbers stays one."""
    return NAN if value is None else value


def _with_integer_folds(frame: pd.DataFrame) -> pd.DataFrame:
    frame["fold"] = frame["fold"].astype("Int64")
    return frame
