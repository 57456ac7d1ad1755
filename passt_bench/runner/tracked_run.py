"""Computes from the records of a study what its MLflow runs should contain; imports no MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, takewhile
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

from passt_bench.analysis.results import Results
from passt_bench.errors import InputError
from passt_bench.records.files import read_bytes
from passt_bench.records.run import CellRecord, RunRecord, VariantRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.run_status import PROGRESS, State, run_state
from passt_bench.spec.codec import parse_json
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.study import flatten

# MLflow's statuses; a summary has the first that one of its cells has.
STATUSES: dict[State, str] = {
    "running": "RUNNING",
    "interrupted": "KILLED",
    "missing": "SCHEDULED",
    "done": "FINISHED",
    "failed": "FAILED",
}


@dataclass(frozen=True)
class TrackedRun:
    """One MLflow run as it should be: the summary of a variant, or a cell nested under it.

    Times are in milliseconds since 1970; a run that is not finished has no end. Curves hold the
    values after epoch 1, 2, …; the record's file is kept with the run.
    """

    key: str
    name: str
    status: str
    start: int
    end: int | None
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, tuple[float, ...]] = field(default_factory=dict)
    record: Path | None = None
    parent: str | None = None

    @property
    def digest(self) -> str:
        """The hash of what is shown; another attempt at a cell has other tags."""
        shown = [self.tags, self.params, self.metrics, self.curves]
        return digest([self.status, self.end, *shown])


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
            run = _cell_run(summary, results, cell, store)
            if run.record is not None or run.curves:
                yield run


def _summary(results: Results, variant: VariantRecord, store: Store) -> TrackedRun:
    """The summary of a variant: quality with its interval, cost, tokens and verdict together."""
    study = results.study
    records = [results.records[c.key] for c in variant.cells if c.key in results.records]
    states: set[State] = {"done" if record.status == "ok" else "failed" for record in records}
    states |= {run_state(c.key, None, store) for c in variant.cells if c.key not in results.records}
    tags = {"role": "summary", "study": study.name, "variant": variant.name}
    if variant.cells:
        comparison = next((c for c in results.comparisons if c.variant == variant.name), None)
        tags |= {
            "metric": study.metric,
            "verdict": "baseline" if comparison is None else comparison.verdict,
            "cells": f"{len(records)} of {len(variant.cells)}",
            "failed": str(sum(record.status != "ok" for record in records)),
        }
        if comparison is not None:
            tags |= {"baseline": comparison.baseline, "method": comparison.method}
    else:  # only its cost is measured
        states = {"done" if variant.name in results.arms else "missing"}
    spans = [_span(record) for record in (records if variant.cells else results.sessions)]
    status = next(status for state, status in STATUSES.items() if state in states)
    identity = {  # another recipe or other data make another summary
        "study": study.name,
        "variant": variant.name,
        "recipe": key_fields(variant.recipe),
        "arm": variant.arm,
        "fingerprint": study.fingerprint.digest,
    }
    # Only what decides the key: MLflow refuses a parameter that comes with another value.
    params = flatten({**key_fields(variant.recipe), "resolved": variant.patchout})
    return TrackedRun(
        key=digest(identity),
        name=variant.name,
        status=status,
        start=min((start for start, _ in spans), default=0),
        end=max(end for _, end in spans) if status in ("FINISHED", "FAILED") else None,
        tags=tags,
        params={name: v if isinstance(v, str) else json.dumps(v) for name, v in params.items()},
        metrics=_metrics(results, variant),
    )


def _metrics(results: Results, variant: VariantRecord) -> dict[str, float]:
    """The values of a summary.

    The study's own metric with its interval and its difference from the baseline, the median
    training step (``step_time_ms``) and other phases with intervals and ratios, training memory
    (``peak_memory_mib``) and other entries, tokens, FLOPs and parameters.
    """
    metric, cells = results.study.metric, results.cells
    values: dict[str, Any] = {"tokens": variant.tokens, "tokens_full": variant.tokens_full}
    values["parameters"] = cells[cells["variant"] == variant.name]["parameters"].max()
    for mean in results.means:
        if mean.variant == variant.name:
            values |= _interval(metric, mean.value, mean.low, mean.high)
            values["blocks"] = mean.n
    for found in results.comparisons:
        if found.variant == variant.name:
            values |= _interval(f"{metric}_difference", found.difference, found.low, found.high)
            values |= {name: getattr(found, name) for name in ("margin", "detectable")}
    arm = results.arms.get(variant.name)
    if arm is not None:
        for phase, seconds in arm.phases.items():
            name = "step_time" if phase == "train_step" else phase
            median, low, high = (1000 * s for s in (seconds.median, seconds.low, seconds.high))
            values |= _interval(f"{name}_ms", median, low, high)
            if ratio := arm.ratios.get(phase):
                values |= _interval(f"{name}_ratio", ratio.median, ratio.low, ratio.high)
        values |= {f"memory/{name}_mib": size / 2**20 for name, size in arm.memory.items()}
        values["peak_memory_mib"] = values.pop("memory/train_peak_mib", None)
        of_arm = ("batch_size", "flops", "flops_inference", "mfu")
        values |= {name: getattr(arm, name) for name in of_arm}
    return _finite(values)


def _cell_run(summary: TrackedRun, results: Results, cell: CellRecord, store: Store) -> TrackedRun:
    """The run of a cell: its record, or the losses of the epochs that are done.

    Metrics of a record are its row of `Results.cells`.
    """
    folder, record = store.folder(cell.key), results.records.get(cell.key)
    place = {"seed": str(cell.seed)} | ({} if cell.fold is None else {"fold": str(cell.fold)})
    tags = {"role": "cell", "study": results.study.name, "variant": summary.name, **place}
    name = " · ".join([summary.name, *map(" ".join, place.items())])
    if record is None:
        state = run_state(cell.key, None, store)
        start, losses = _progress(folder / PROGRESS)
        tags["status"] = "running" if state == "running" else "interrupted"
        return TrackedRun(
            cell.key, name, STATUSES[state], start, None, tags, summary.params,
            curves={"train_loss": losses} if losses else {}, parent=summary.key,
        )  # fmt: skip
    more = {"message": record.message, "commit": record.commit}
    tags |= {"status": record.status, "attempt": str(record.attempt)}
    tags |= {name: text for name, text in more.items() if text}
    cells = results.cells
    row = cells[(cells["key"] == cell.key) & (cells["variant"] == summary.name)].iloc[0]
    hidden = [c for c in row.index if c in ("seed", "fold") or c.startswith("resolved/")]
    return TrackedRun(
        cell.key, name, "FINISHED" if record.status == "ok" else "FAILED", *_span(record), tags,
        summary.params, _finite(row.drop(hidden).to_dict()), record.curves,
        folder / "record.json", summary.key,
    )  # fmt: skip


def _progress(path: Path) -> tuple[int, tuple[float, ...]]:
    """When a cell was begun, in milliseconds, and the loss of each epoch that is done."""
    try:
        lines = read_bytes(path).split(b"\n")
        written = path.stat().st_mtime
    except (InputError, FileNotFoundError):  # not begun, or the record has just replaced it
        return 0, ()
    losses, seconds = dict[int, float](), 0.0
    for line in lines[:-1]:  # what follows the last line feed is still being written
        # A killed writer leaves half a line; a resumed cell repeats some.
        with suppress(ValueError, TypeError):
            found = parse_json(line)
            losses[int(found["epoch"])] = float(found["train_loss"])
            seconds = float(found["seconds"])
    known = takewhile(losses.__contains__, count(1))
    return int(1000 * (written - seconds)), tuple(losses[epoch] for epoch in known)


def _span(record: RunRecord | SessionRecord) -> tuple[int, int]:
    """Start and end in milliseconds since 1970; the end is 0 where a record has none."""
    seconds = record.seconds if isinstance(record, SessionRecord) else sum(record.clocks.values())
    end = datetime.fromisoformat(record.finished).timestamp() if record.finished else 0
    return int(1000 * end) - int(1000 * seconds), int(1000 * end)


def _interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _finite(values: Mapping[Any, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, Real) and isfinite(v)}
