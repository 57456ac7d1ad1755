"""What MLflow is told of a study, and what it lacks of that, as plain values; imports no MLflow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count, takewhile
from math import isfinite, isnan, nan
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from passt_bench.analysis.results import Results
from passt_bench.records.run import CellRecord, RunRecord, StudyRecord, VariantRecord
from passt_bench.records.store import Store
from passt_bench.spec.key import decisive, digest

MIB = 2**20

State = Literal["RUNNING", "FINISHED", "FAILED"]

DIGEST, PARENT = "passt_bench.digest", "mlflow.parentRunId"

LONGEST_PARAMETER, LONGEST_TAG = 6000, 5000  # MLflow cuts longer ones, and they would never match


@dataclass(frozen=True)
class Entry:
    """One MLflow run as it shall be: the summary of a variant, or a cell nested under it.

    Attributes:
        key: what the run is found by within its experiment.
        name: what the page shows.
        state: FINISHED or FAILED where nothing is expected to follow.
        start: milliseconds since 1970.
        end: the same; None while running.
        curves: metric → its value after epoch 1, 2, …
        artifact: a file to keep with the run.
        digest: of that file; None where there is none.
        parent: key of the entry that this one is nested under.
    """

    key: str
    name: str
    state: State
    start: int
    end: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    artifact: Path | None = None
    digest: str | None = None
    parent: str | None = None


def study_entries(results: Results, store: Store) -> Iterator[Entry]:
    """The entries of a study, each summary before its cells.

    Cells that have neither a record nor a finished epoch have no entry. Variants that share a
    cell share its entry, which is nested under the first of them.
    """
    seen: set[str] = set()
    for variant in results.study.variants:
        yield summary_entry(results, variant)
        for cell in variant.cells:
            if cell.key in seen:
                continue
            seen.add(cell.key)
            record = results.records.get(cell.key)
            if record is not None:
                path = store.folder(cell.key) / "record.json"
                yield cell_entry(results, variant, record, path)
            else:
                path = store.folder(cell.key) / "progress.jsonl"
                live = live_entry(results.study, variant, cell, path)
                if live is not None:
                    yield live


def summary_entry(results: Results, variant: VariantRecord) -> Entry:
    """The summary of a variant: quality with its interval, cost, tokens and verdict together.

    Metrics, with ``mAP`` standing for the study's own: ``mAP``, ``mAP_low``, ``mAP_high`` (95 %
    interval of the mean), ``blocks``, and to the baseline ``mAP_difference`` with ``_low`` and
    ``_high``, ``p``, ``margin``, ``detectable``; ``step_time_ms`` (median training step) with its
    interval and ``step_time_ratio`` likewise, other phases by their names; ``peak_memory_mib``
    (training), other entries as ``memory/NAME_mib``; ``tokens``, FLOPs and parameters. The tag
    ``verdict`` holds the verdict, ``baseline`` for the baseline itself.
    """
    study = results.study
    records = [results.records[c.key] for c in variant.cells if c.key in results.records]
    ends = [milliseconds(record.finished) for record in records]
    done = len(records) == len(variant.cells)
    succeeded = any(record.status == "ok" for record in records)
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
    return Entry(
        key=summary_key(study, variant),
        name=variant.name,
        state="RUNNING" if not done else "FINISHED" if succeeded else "FAILED",
        start=min((_start(record) for record in records), default=0),
        end=max(ends) if done else None,
        tags=tags,
        params=_params(variant),
        metrics=_finite({**_quality(results, variant.name), **_cost(results, variant)}),
    )


def cell_entry(results: Results, variant: VariantRecord, record: RunRecord, path: Path) -> Entry:
    """The entry of a quality cell that has its final record, which lies at ``path``.

    Its metrics are the columns of the cells' table, see `passt_bench.analysis.frame.cells_frame`.
    """
    study, cells = results.study, results.cells
    row = cells[(cells["key"] == record.key) & (cells["variant"] == variant.name)].iloc[0]
    shown = row.drop([c for c in row.index if c in ("seed", "fold") or c.startswith("resolved/")])
    tags = {"status": record.status, "attempt": str(record.attempt)}
    tags |= {"message": record.message} if record.message else {}
    tags |= {"commit": record.commit} if record.commit else {}
    return Entry(
        key=record.key,
        name=_cell_name(variant.name, record.seed, record.fold),
        state="FINISHED" if record.status == "ok" else "FAILED",
        start=_start(record),
        end=milliseconds(record.finished),
        tags=_cell_tags(study, variant, record.seed, record.fold) | tags,
        params=_params(variant),
        metrics=_finite({str(k): v for k, v in shown.items() if isinstance(v, Real)}),
        curves=record.curves,
        artifact=path,
        digest=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        parent=summary_key(study, variant),
    )


def live_entry(
    study: StudyRecord, variant: VariantRecord, cell: CellRecord, path: Path
) -> Entry | None:
    """The entry of a cell in training, from its ``progress.jsonl`` (a line an epoch).

    Returns:
        None where no epoch is done, or the record took the file's place a moment ago.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        start = int(1000 * path.stat().st_mtime)
    except FileNotFoundError:
        return None
    # What follows the last line feed is still being written; a resumed cell repeats epochs.
    told = [line for line in map(_progress, lines[:-1]) if line is not None]
    losses = {int(line["epoch"]): float(line["train_loss"]) for line in told}
    known = list(takewhile(losses.__contains__, count(1)))
    if not known:
        return None
    return Entry(
        key=cell.key,
        name=_cell_name(variant.name, cell.seed, cell.fold),
        state="RUNNING",
        start=start - int(1000 * told[-1]["seconds"]),
        end=None,
        tags=_cell_tags(study, variant, cell.seed, cell.fold) | {"status": "running"},
        params=_params(variant),
        curves={"train_loss": tuple(losses[epoch] for epoch in known)},
        parent=summary_key(study, variant),
    )


def _progress(line: str) -> dict[str, Any] | None:
    """A line of progress; None for what a killed writer left, which the next one wrote on."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def summary_key(study: StudyRecord, variant: VariantRecord) -> str:
    """The key of a variant's summary: another recipe or other data make another summary."""
    return digest(
        {
            "study": study.name,
            "variant": variant.name,
            "recipe": decisive(variant.recipe),
            "arm": variant.arm,
            "fingerprint": study.fingerprint.digest,
        }
    )


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A tree as dotted names and the texts that ``--set`` would take for its values."""
    out: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out.update(flatten(value, f"{prefix}{name}."))
        else:
            out[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
    return out


def milliseconds(finished: str) -> int:
    """An ISO 8601 time as milliseconds since 1970; 0 where a record has none."""
    return int(datetime.fromisoformat(finished).timestamp() * 1000) if finished else 0


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


def _cost(results: Results, variant: VariantRecord) -> dict[str, float]:
    found = {"tokens": float(variant.tokens), "tokens_full": float(variant.tokens_full)}
    costs, memory = results.costs, results.memory
    for row in costs[costs["variant"] == variant.name].to_dict("records"):
        name = "step_time" if row["phase"] == "train_step" else str(row["phase"])
        found |= {f"{name}_ms": 1000 * row["median"], f"{name}_ratio": row["ratio"]}
        for end in ("low", "high"):
            found |= {f"{name}_ms_{end}": 1000 * row[end]}
            found |= {f"{name}_ratio_{end}": row[f"ratio_{end}"]}
    cells = results.cells[results.cells["variant"] == variant.name]
    found["parameters"] = float(cells["parameters"].max())
    mine = memory[memory["variant"] == variant.name].iloc[0]
    arm = {str(name): value for name, value in mine.items()}
    found |= {name: arm[name] for name in ("flops", "flops_inference", "mfu", "batch_size")}
    for name in {entry for session in results.sessions for a in session.arms for entry in a.memory}:
        found[f"memory/{name}_mib"] = arm[name] / MIB
    found["peak_memory_mib"] = found.pop("memory/train_peak_mib", float("nan"))
    return found


def _params(variant: VariantRecord) -> dict[str, str]:
    # Only what decides the key: MLflow refuses a parameter that comes with another value.
    return flatten(decisive(variant.recipe)) | flatten(variant.patchout, "resolved.")


def _cell_name(variant: str, seed: int, fold: int | None) -> str:
    return f"{variant} · seed {seed}" + (f" · fold {fold}" if fold is not None else "")


def _cell_tags(
    study: StudyRecord, variant: VariantRecord, seed: int, fold: int | None
) -> dict[str, str]:
    tags = {"role": "cell", "study": study.name, "variant": variant.name, "seed": str(seed)}
    return tags | ({"fold": str(fold)} if fold is not None else {})


def _start(record: RunRecord) -> int:
    return milliseconds(record.finished) - int(1000 * sum(record.clocks.values()))


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, Real) and isfinite(v)}


@dataclass(frozen=True)
class Seen:
    """What MLflow has of a run: its latest values, and by name the points of a curve."""

    status: str
    metrics: Mapping[str, float]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    history: Callable[[str], Mapping[int, float]]  # step → value


NOTHING = Seen("", {}, {}, {}, lambda name: {})


@dataclass(frozen=True)
class Point:
    """A value of a metric, with its step and milliseconds since 1970."""

    name: str
    value: float
    moment: int
    step: int


@dataclass(frozen=True)
class Changes:
    """What is to be logged."""

    points: tuple[Point, ...]
    params: Mapping[str, str]
    tags: Mapping[str, str]
    status: bool  # whether it changes

    def __bool__(self) -> bool:
        return bool(self.points or self.params or self.tags or self.status)


def is_current(seen: Seen, entry: Entry, tags: Mapping[str, str]) -> bool:
    """Whether a cell's run was finished with this very record; reads no curve."""
    return (
        entry.digest is not None
        and seen.status == entry.state
        and all(seen.tags.get(name) == tags.get(name) for name in (DIGEST, PARENT))
    )


def is_superseded(seen: Seen, entry: Entry) -> bool:
    """Whether a cell's run tells of another attempt: MLflow cannot take values back.

    A run that is still open was written from the same cell's progress or record, unless one of
    its values differs.
    """
    if entry.parent is None:
        return False
    if seen.status != "RUNNING":
        return seen.tags.get(DIGEST) != entry.digest
    if any(seen.metrics.get(name, value) != value for name, value in entry.metrics.items()):
        return True
    return any(
        values[step - 1 : step] != (value,)
        for name, values in entry.curves.items()
        for step, value in _history(seen, name).items()
    )


def changes(seen: Seen, entry: Entry, tags: Mapping[str, str], now: int) -> Changes:
    """What to log so that the run says what the entry says.

    Args:
        seen: the run as it is.
        entry: the run as it shall be.
        tags: the entry's tags, with those that only MLflow's own ids could tell.
        now: milliseconds since 1970; of two values of a metric MLflow shows the later.
    """
    cut = {name: text[:LONGEST_TAG] for name, text in tags.items()}
    return Changes(
        points=(*_numbers(seen, entry, now), *_curves(seen, entry, now)),
        params={
            name: text[:LONGEST_PARAMETER]
            for name, text in entry.params.items()
            if name not in seen.params
        },
        tags={name: text for name, text in cut.items() if seen.tags.get(name) != text},
        status=seen.status != entry.state,
    )


def _numbers(seen: Seen, entry: Entry, now: int) -> list[Point]:
    """Single values that are new, or differ from the latest."""
    numbers = dict(entry.metrics)
    if entry.parent is None:  # a summary's number that no longer holds shall not stay
        numbers |= {name: nan for name in seen.metrics if name not in numbers}
    moment = entry.end if entry.parent is not None and entry.end is not None else now
    return [
        Point(name, value, moment, 0)
        for name, value in numbers.items()
        if name not in seen.metrics or not _same(seen.metrics[name], value)
    ]


def _curves(seen: Seen, entry: Entry, now: int) -> list[Point]:
    """Points that are missing, spread evenly over the run's time."""
    end = entry.end if entry.end is not None else now
    missing = []
    for name, values in entry.curves.items():
        there = _history(seen, name)
        for step, value in enumerate(values, 1):
            moment = entry.start + (end - entry.start) * step // len(values)
            if step not in there:
                missing.append(Point(name, value, moment, step))
    return missing


def _history(seen: Seen, name: str) -> Mapping[int, float]:
    return seen.history(name) if name in seen.metrics else {}


def _same(one: float, other: float) -> bool:
    return one == other or (isnan(one) and isnan(other))
