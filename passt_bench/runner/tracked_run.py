"""Computes from the records of a study what its MLflow runs should contain; imports no MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count, takewhile
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from passt_bench.analysis.results import Results
from passt_bench.records.run import CellRecord, VariantRecord
from passt_bench.records.store import Store
from passt_bench.runner.run_status import PROGRESS, is_running
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.study import flatten

# MLflow's statuses; SCHEDULED: not started, KILLED: started, no longer running.
Status = Literal["SCHEDULED", "RUNNING", "KILLED", "FINISHED", "FAILED"]


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run as it should be: the summary of a variant, or a cell nested under it.

    Times are in milliseconds since 1970; a run that is not finished has no end. Curves hold the
    values after epoch 1, 2, …; the record's file is kept with the run.
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

    @property
    def digest(self) -> str:
        """The hash of the record's file, or of what an unfinished cell or a summary shows."""
        if self.record is not None:
            return hashlib.sha256(self.record.read_bytes()).hexdigest()[:16]
        shown = (self.tags, self.params, self.metrics, self.curves)
        return digest([self.status, self.end, *map(dict, shown)])


def tracked_runs(results: Results, store: Store) -> Iterator[TrackedRun]:
    """The MLflow runs of a study, each summary before its cells.

    Cells that have neither a record nor a finished epoch have no run. Variants that share a cell
    share its run, which is nested under the first of them.
    """
    seen: set[str] = set()
    for variant in results.study.variants:
        summary = _summary(results, variant, store)
        yield summary
        for cell in (cell for cell in variant.cells if cell.key not in seen):
            seen.add(cell.key)
            run = _cell_run(summary, results, variant, cell, store)
            if run.record is not None or run.curves:
                yield run


def _summary(results: Results, variant: VariantRecord, store: Store) -> TrackedRun:
    """The summary of a variant: quality with its interval, cost, tokens and verdict together.

    Metrics are the study's own with its interval and its difference from the baseline, the median
    training step (``step_time_ms``) and other phases with intervals and ratios, training memory
    (``peak_memory_mib``) and other entries, tokens, FLOPs and parameters.
    """
    study = results.study
    records = [results.records[c.key] for c in variant.cells if c.key in results.records]
    status: Status = "FINISHED" if any(record.status == "ok" for record in records) else "FAILED"
    done = len(records) == len(variant.cells)
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
    identity = {  # another recipe or other data make another summary
        "study": study.name,
        "variant": variant.name,
        "recipe": key_fields(variant.recipe),
        "arm": variant.arm,
        "fingerprint": study.fingerprint.digest,
    }
    # Only what decides the key: MLflow refuses a parameter that comes with another value.
    params = flatten({**key_fields(variant.recipe), "resolved": variant.patchout})
    ends = [_milliseconds(record.finished) for record in records]
    lasted = [int(1000 * sum(record.clocks.values())) for record in records]
    if not variant.cells:  # only its cost is measured
        tags = {name: tags[name] for name in ("role", "study", "variant")}
        status = "FINISHED" if variant.name in results.arms else "SCHEDULED"
        done = variant.name in results.arms
        ends = [_milliseconds(session.finished) for session in results.sessions]
        lasted = [int(1000 * session.seconds) for session in results.sessions]
    return TrackedRun(
        key=digest(identity),
        name=variant.name,
        status=status,
        start=min((end - t for end, t in zip(ends, lasted, strict=True)), default=0),
        end=max(ends) if done else None,
        tags=tags,
        params={name: v if isinstance(v, str) else json.dumps(v) for name, v in params.items()},
        metrics=_finite({**_quality(results, variant.name), **_cost(results, variant)}),
    )


def _state(cell: CellRecord, store: Store) -> Status:
    """The status of a cell that has no record; its progress file is there once it has begun."""
    if not (store.folder(cell.key) / PROGRESS).is_file():
        return "SCHEDULED"
    return "RUNNING" if is_running(store.root, cell.key) else "KILLED"


def _cell_run(
    summary: TrackedRun, results: Results, variant: VariantRecord, cell: CellRecord, store: Store
) -> TrackedRun:
    """The run of a cell: its record, or the losses of the epochs that are done.

    Metrics of a record are its row of `Results.cells`.
    """
    place = {"study": results.study.name, "variant": variant.name, "seed": str(cell.seed)}
    place |= {"fold": str(cell.fold)} if cell.fold is not None else {}
    name = " · ".join([variant.name, *(f"{k} {place[k]}" for k in ("seed", "fold") if k in place)])
    run = TrackedRun(
        cell.key, name, "FINISHED", 0, None, {"role": "cell", **place}, summary.params,
        parent=summary.key,
    )  # fmt: skip
    record = results.records.get(cell.key)
    if record is None:
        start, losses = _progress(store.folder(cell.key) / PROGRESS)
        status = _state(cell, store)
        status_text = "running" if status == "RUNNING" else "interrupted"
        curves = {"train_loss": losses} if losses else {}
        tags = {**run.tags, "status": status_text}
        return replace(run, status=status, start=start, tags=tags, curves=curves)
    cells = results.cells
    row = cells[(cells["key"] == cell.key) & (cells["variant"] == variant.name)].iloc[0]
    shown = row.drop([c for c in row.index if c in ("seed", "fold") or c.startswith("resolved/")])
    more = {"message": record.message, "commit": record.commit}
    tags = {"status": record.status, "attempt": str(record.attempt)}
    tags |= {name: text for name, text in more.items() if text}
    end = _milliseconds(record.finished)
    return replace(
        run,
        status="FINISHED" if record.status == "ok" else "FAILED",
        start=end - int(1000 * sum(record.clocks.values())),
        end=end,
        tags={**run.tags, **tags},
        metrics=_finite({str(k): v for k, v in shown.items() if isinstance(v, Real)}),
        curves=record.curves,
        record=store.folder(cell.key) / "record.json",
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
        # A killed writer leaves half a line; a resumed cell repeats some.
        with suppress(ValueError, TypeError):
            found = json.loads(line)
            losses[int(found["epoch"])] = float(found["train_loss"])
            seconds = float(found["seconds"])
    known = takewhile(losses.__contains__, count(1))
    return int(1000 * (written - seconds)), tuple(losses[epoch] for epoch in known)


def _quality(results: Results, variant: str) -> dict[str, float]:
    metric = results.study.metric
    if not results.means:  # of a study that measures only costs
        return {}
    mean = next(mean for mean in results.means if mean.variant == variant)
    found = {metric: mean.value, f"{metric}_low": mean.low, f"{metric}_high": mean.high}
    found["blocks"] = mean.n
    for comparison in results.comparisons:
        if comparison.variant == variant:
            found |= {
                f"{metric}_difference": comparison.difference,
                f"{metric}_difference_low": comparison.low,
                f"{metric}_difference_high": comparison.high,
            }
            found |= {name: getattr(comparison, name) for name in ("p", "margin", "detectable")}
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


def _milliseconds(finished: str) -> int:
    """An ISO 8601 time as milliseconds since 1970; 0 where a record has none."""
    return int(datetime.fromisoformat(finished).timestamp() * 1000) if finished else 0


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, Real) and isfinite(v)}
