"""Computes from the records of a study what its MLflow runs should contain; imports no MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count, takewhile
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from passt_bench.analysis.results import Results
from passt_bench.records.run import CellRecord, RunRecord, StudyRecord, VariantRecord
from passt_bench.records.store import Store
from passt_bench.runner.locks import is_running
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.override import flatten

DIGEST = "passt_bench.digest"

# Of MLflow's own: SCHEDULED is yet to begin, KILLED was begun and is not being run.
Status = Literal["SCHEDULED", "RUNNING", "KILLED", "FINISHED", "FAILED"]


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run as it should be: the summary of a variant, or a cell nested under it.

    Attributes:
        key: identifies the run within its experiment.
        name: what the page shows.
        status: FINISHED or FAILED where nothing is expected to follow.
        start: milliseconds since 1970.
        end: the same; None while something is expected to follow.
        tags: with `DIGEST` where there is a record: the hash of its file.
        curves: metric → its value after epoch 1, 2, …
        record: the record's file, which is kept with the run.
        parent: key of the summary that a cell is nested under; None for a summary.
    """

    key: str
    name: str
    status: Status
    start: int
    end: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    record: Path | None = None
    parent: str | None = None


def tracked_runs(results: Results, store: Store) -> Iterator[TrackedRun]:
    """The runs of a study, each summary before its cells.

    Cells that have neither a record nor a finished epoch have no run. Variants that share a cell
    share its run, which is nested under the first of them.

    Args:
        results: of the study.
        store: where the records are.
    """
    seen: set[str] = set()
    for variant in results.study.variants:
        yield summary_run(results, variant, store)
        for cell in variant.cells:
            if cell.key in seen:
                continue
            seen.add(cell.key)
            begun = _begun_run(results.study, variant, cell, store)
            record = results.records.get(cell.key)
            if record is not None:
                yield _recorded_run(begun, record, results, store)
            elif begun.curves:
                yield begun


def summary_run(results: Results, variant: VariantRecord, store: Store) -> TrackedRun:
    """The summary of a variant: quality with its interval, cost, tokens and verdict together.

    Metrics, with ``mAP`` as the study's own: ``mAP``, ``mAP_low``, ``mAP_high`` (95 % interval of
    the mean), ``blocks``, and to the baseline ``mAP_difference`` with ``_low`` and ``_high``,
    ``p``, ``margin``, ``detectable``; ``step_time_ms`` (median training step) with its interval
    and ``step_time_ratio`` likewise, other phases by their names; ``peak_memory_mib`` (training),
    other entries as ``memory/NAME_mib``; ``tokens``, FLOPs and parameters. The tag ``verdict``
    holds the verdict, ``baseline`` for the baseline itself.

    Args:
        results: of the study.
        variant: one of its variants.
        store: where the records are.
    """
    study = results.study
    records = [results.records[c.key] for c in variant.cells if c.key in results.records]
    done = len(records) == len(variant.cells)
    status: Status = "FINISHED" if any(record.status == "ok" for record in records) else "FAILED"
    if not done:
        states = {_state(cell, store) for cell in variant.cells if cell.key not in results.records}
        status = next(s for s in ("RUNNING", "KILLED", "SCHEDULED") if s in states)
    comparison = next((c for c in results.comparisons if c.variant == variant.name), None)
    tags = {
        "role": "summary",
        "study": study.name,
        "variant": variant.name,
        "metric": study.metric,
        "verdict": "baseline" if comparison is None else comparison.verdict,
        "cells": f"{len(records)} of {len(variant.cells)}",
        "failed": str(sum(record.status != "ok" for record in records)),
    }
    if comparison is not None:
        tags |= {"baseline": comparison.baseline, "method": comparison.method}
    return TrackedRun(
        key=_summary_key(study, variant),
        name=variant.name,
        status=status,
        start=min(map(_start, records), default=0),
        end=max(_milliseconds(record.finished) for record in records) if done else None,
        tags=tags,
        params=_params(variant),
        metrics=_finite({**_quality(results, variant.name), **_cost(results, variant)}),
    )


def _state(cell: CellRecord, store: Store) -> Status:
    """The status of a cell that has no record; its progress file is there once it has begun."""
    if not (store.folder(cell.key) / "progress.jsonl").is_file():
        return "SCHEDULED"
    return "RUNNING" if is_running(store.root, cell.key) else "KILLED"


def _begun_run(
    study: StudyRecord, variant: VariantRecord, cell: CellRecord, store: Store
) -> TrackedRun:
    """The run of a cell without a record, with the losses of the epochs that are done."""
    start, losses = _progress(store.folder(cell.key) / "progress.jsonl")
    tags = {"role": "cell", "study": study.name, "variant": variant.name, "seed": str(cell.seed)}
    tags |= {"fold": str(cell.fold)} if cell.fold is not None else {}
    fold = f" · fold {cell.fold}" if cell.fold is not None else ""
    status = _state(cell, store)
    return TrackedRun(
        key=cell.key,
        name=f"{variant.name} · seed {cell.seed}{fold}",
        status=status,
        start=start,
        end=None,
        tags={**tags, "status": "running" if status == "RUNNING" else "interrupted"},
        params=_params(variant),
        curves={"train_loss": losses} if losses else {},
        parent=_summary_key(study, variant),
    )


def _recorded_run(
    begun: TrackedRun, record: RunRecord, results: Results, store: Store
) -> TrackedRun:
    """The run of a cell that has its record; metrics are its row of `Results.cells`."""
    path, cells = store.folder(record.key) / "record.json", results.cells
    named = (cells["key"] == record.key) & (cells["variant"] == begun.tags["variant"])
    row = cells[named].iloc[0]
    shown = row.drop([c for c in row.index if c in ("seed", "fold") or c.startswith("resolved/")])
    tags = {"status": record.status, "attempt": str(record.attempt)}
    tags |= {"message": record.message} if record.message else {}
    tags |= {"commit": record.commit} if record.commit else {}
    return replace(
        begun,
        status="FINISHED" if record.status == "ok" else "FAILED",
        start=_start(record),
        end=_milliseconds(record.finished),
        tags={**begun.tags, **tags, DIGEST: hashlib.sha256(path.read_bytes()).hexdigest()[:16]},
        metrics=_finite({str(k): v for k, v in shown.items() if isinstance(v, Real)}),
        curves=record.curves,
        record=path,
    )


def _progress(path: Path) -> tuple[int, tuple[float, ...]]:
    """When a cell was begun, in milliseconds, and the loss of each epoch that is done."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        written = path.stat().st_mtime
    except FileNotFoundError:  # not begun, or the record has just replaced it
        return 0, ()
    losses, seconds = dict[int, float](), 0.0
    for line in lines[:-1]:  # what follows the last line feed is still being written
        try:
            found = json.loads(line)
        except ValueError:  # half a line of a killed writer, and what the next one added to it
            continue
        if isinstance(found, dict):
            losses[int(found["epoch"])] = float(found["train_loss"])  # a resumed cell repeats some
            seconds = float(found["seconds"])
    known = takewhile(losses.__contains__, count(1))
    return int(1000 * (written - seconds)), tuple(losses[epoch] for epoch in known)


def _summary_key(study: StudyRecord, variant: VariantRecord) -> str:
    """Another recipe or other data make another summary."""
    return digest(
        {
            "study": study.name,
            "variant": variant.name,
            "recipe": key_fields(variant.recipe),
            "arm": variant.arm,
            "fingerprint": study.fingerprint.digest,
        }
    )


def _quality(results: Results, variant: str) -> dict[str, float]:
    metric = results.study.metric
    mean = next(mean for mean in results.means if mean.variant == variant)
    found = {metric: mean.value, f"{metric}_low": mean.low, f"{metric}_high": mean.high}
    found["blocks"] = mean.n
    for comparison in results.comparisons:
        if comparison.variant == variant:
            found |= {
                f"{metric}_difference": comparison.difference,
                f"{metric}_difference_low": comparison.low,
                f"{metric}_difference_high": comparison.high,
                "p": comparison.p,
                "margin": comparison.margin,
                "detectable": comparison.detectable,
            }
    return found


def _cost(results: Results, variant: VariantRecord) -> dict[str, Any]:
    found: dict[str, Any] = {"tokens": variant.tokens, "tokens_full": variant.tokens_full}
    cells = results.cells
    found["parameters"] = float(cells[cells["variant"] == variant.name]["parameters"].max())
    arm = results.arms.get(variant.name)
    if arm is None:
        return found
    for phase, seconds in arm.phases.items():
        name, ratio = "step_time" if phase == "train_step" else phase, arm.ratios.get(phase)
        found[f"{name}_ms"] = 1000 * seconds.median
        found |= {f"{name}_ms_{end}": 1000 * getattr(seconds, end) for end in ("low", "high")}
        if ratio is not None:
            found[f"{name}_ratio"] = ratio.median
            found |= {f"{name}_ratio_{end}": getattr(ratio, end) for end in ("low", "high")}
    found |= {name: getattr(arm, name) for name in ("flops", "flops_inference", "mfu")}
    found |= {f"memory/{name}_mib": value / 2**20 for name, value in arm.memory.items()}
    found["batch_size"] = arm.batch_size
    found["peak_memory_mib"] = found.pop("memory/train_peak_mib", None)
    return found


def _params(variant: VariantRecord) -> dict[str, str]:
    # Only what decides the key: MLflow refuses a parameter that comes with another value.
    values = flatten({**key_fields(variant.recipe), "resolved": variant.patchout})
    return {name: v if isinstance(v, str) else json.dumps(v) for name, v in values.items()}


def _milliseconds(finished: str) -> int:
    """An ISO 8601 time as milliseconds since 1970; 0 where a record has none."""
    return int(datetime.fromisoformat(finished).timestamp() * 1000) if finished else 0


def _start(record: RunRecord) -> int:
    return _milliseconds(record.finished) - int(1000 * sum(record.clocks.values()))


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, Real) and isfinite(v)}
