"""Computes what the runs of a study should contain in MLflow or elsewhere, and where that is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count, takewhile
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from passt_bench.analysis.results import Results, analyze
from passt_bench.errors import InputError
from passt_bench.records.files import write_atomically
from passt_bench.records.run import CellRecord, RunRecord, StudyRecord, VariantRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.registry import TRACKERS, Component
from passt_bench.runner.run_status import PROGRESS, State, read_epochs, run_state
from passt_bench.spec.key import arm_key, digest, key_fields
from passt_bench.spec.study import flatten

ADDRESS = "MLFLOW_TRACKING_URI"
VIEW = "mlflow.sharedViewState.passt-bench"  # where MLflow's page finds what a table has to show
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
    values after epoch 1, 2, …; the record's file is kept with the run. ``parent`` is the key of the
    summary that a cell is nested under.
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


# Called with the output folder, a study and its runs as they should be, after each change of them.
Tracker = Callable[[Path, StudyRecord, Sequence[TrackedRun]], None]


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


def experiment_tags(study: StudyRecord) -> dict[str, str]:
    """What MLflow's page reads: the description, and a view with the columns and charts to show."""
    metric, charts = study.metric, (study.metric, "step_time_ms", "memory_mib")
    columns = ["tags.`verdict`", *(f"metrics.`{name}`" for name in charts)]
    columns += [f"metrics.`{metric}_{end}`" for end in ("low", "high")]
    section = {"metricSectionId": "results", "deleted": False, "isGenerated": False}
    state = {
        "selectedColumns": columns,
        "isAccordionReordered": True,  # keeps this section first
        "compareRunSections": [{"uuid": "results", "name": "Results", "display": True}],
        "compareRunCharts": [
            {"uuid": name, "type": "BAR", "metricKey": name, "runsCountToCompare": 20, **section}
            for name in charts
        ],
    }
    view = {"name": "Results", "createdAt": 0, "updatedAt": 0, "state": json.dumps(state)}
    return {
        "mlflow.experimentKind": "custom_model_development",  # not that of language models
        "mlflow.note.content": f"{study.question}\n\n{study.notebook}"[:5000],
        VIEW: json.dumps(view),
    }


@TRACKERS.register("csv", version=1, summary="csv/STUDY.csv in the folder of the runs")
def write_csv(root: Path, study: StudyRecord, runs: Sequence[TrackedRun]) -> None:
    """Writes a table of a study: a row per run, its tags, parameters and metrics as columns."""
    rows = [
        {"key": r.key, "name": r.name, "status": r.status, **r.tags, **r.params, **r.metrics}
        for r in runs
    ]
    text = pd.DataFrame(rows).to_csv(index=False, lineterminator="\n")
    write_atomically(root / "csv" / f"{study.name}.csv", text.encode())


def deliver(
    tracker: Component[Tracker], root: Path, study: StudyRecord, runs: Sequence[TrackedRun]
) -> None:
    """Hands a study's runs to a tracker, which may be a plug-in's (raises `InputError`)."""
    try:
        tracker.build(root, study, runs)
    except Exception as error:
        problem = f"it failed ({type(error).__name__}: {error}); the records are not affected"
        remedy = f"Fix it, then: passt-bench sync --runs {root}"
        raise InputError(problem, source=f"tracker {tracker.name}", remedy=remedy) from error


def tracked_trials(
    search: SearchRecord, store: Store
) -> tuple[StudyRecord, list[TrackedRun]] | None:
    """The trials of a search as the variants of a study, and their MLflow runs.

    A pruned one has the verdict and the status of one that was ended. Failed ones that have no
    record are left out; None if no trial has one.
    """
    variants, pruned = list[VariantRecord](), dict[str, TrialRecord]()
    runs = {key: run for t in search.settings for key in t.keys if (run := store.run(key))}
    for trial in search.settings:
        name = f"trial {trial.number}: {trial.kind}" + f" {trial.rate:g}" * bool(trial.rate)
        own = [runs[key] for key in trial.keys if key in runs]
        held = [run.recipe.training.validation_fold or run.fold for run in own]
        cells = [CellRecord(run.key, run.seed, fold) for run, fold in zip(own, held, strict=True)]
        for run in own[:1]:
            sizes = (trial.tokens, run.tokens_full, run.grid, run.patchout)
            arm = arm_key(run.recipe, run.components)
            variants.append(VariantRecord(name, run.recipe, arm, tuple(cells), *sizes))
        if trial.status == "pruned":
            pruned[name] = trial
    if not variants:
        return None
    study = StudyRecord(
        f"{search.name}-trials", search.question, search.metric, variants[0].name, tuple(variants),
        search.seeds, None, search.fingerprint, better=search.better,
    )  # fmt: skip
    logged = []
    for made in tracked_runs(analyze(study, runs, ()), store):
        if pruned.pop(made.name, None) is not None:
            made = replace(made, status="KILLED", tags=made.tags | {"verdict": "pruned"})
        logged.append(made)
    return study, logged + [_pruned(search, name, trial) for name, trial in pruned.items()]


def _pruned(search: SearchRecord, name: str, trial: TrialRecord) -> TrackedRun:
    """The run of a trial that was pruned in its first run, which has no record."""
    study, metric = f"{search.name}-trials", search.metric
    every = flatten(key_fields(replace(search.recipe, patchout=trial.patchout)))
    every |= {n: v for n, v in trial.params.items() if "." in n}
    every["model.stride"] = trial.params.get("stride", every.get("model.stride"))
    return TrackedRun(
        key=digest({"study": study, "variant": name, "params": trial.params}),
        name=name,
        status="KILLED",
        start=0,
        end=None,
        tags={"role": "summary", "study": study, "variant": name, "metric": metric,
              "verdict": "pruned"},
        params=_params({"variant": name, **every}),
        metrics={"tokens": trial.tokens},
        curves={f"inner/{metric}": trial.curve},
    )  # fmt: skip


def _params(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as MLflow's parameters, those that mean nothing left out."""
    every = {n: v for n, v in values.items() if v not in (None, "", [])}
    return {name: v if isinstance(v, str) else json.dumps(v) for name, v in every.items()}


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
    recipe = key_fields(variant.recipe)
    # Another recipe or other data make another summary.
    identity = {"study": study.name, "variant": variant.name, "recipe": recipe}
    identity |= {"arm": variant.arm, "fingerprint": study.fingerprint.digest}
    # Only what decides the key: MLflow refuses a parameter that comes with another value.
    every = flatten({"variant": variant.name, **recipe, "resolved": variant.patchout})
    return TrackedRun(
        key=digest(identity),
        name=variant.name,
        status=status,
        start=min((start for start, _ in spans), default=0),
        end=max(end for _, end in spans) if status in ("FINISHED", "FAILED") else None,
        tags=tags,
        params=_params(every),
        metrics=_metrics(results, variant),
    )


def _metrics(results: Results, variant: VariantRecord) -> dict[str, float]:
    """The values of a summary: the study's metric and its difference from the baseline, and costs.

    ``memory_mib`` is the one memory figure, see `ArmRecord.main_memory`.
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
        values["memory_mib"] = values.get(f"memory/{arm.main_memory}_mib")
        values["peak_memory_mib"] = values.pop("memory/train_peak_mib", None)
        of_arm = ("batch_size", "flops", "flops_inference", "mfu")
        values |= {name: getattr(arm, name) for name in of_arm}
    return _finite(values)


def _cell_run(summary: TrackedRun, results: Results, cell: CellRecord, store: Store) -> TrackedRun:
    """The run of a cell: its record, or the losses of the epochs that are done."""
    folder, record = store.folder(cell.key), results.records.get(cell.key)
    place = {"seed": str(cell.seed)} | ({} if cell.fold is None else {"fold": str(cell.fold)})
    tags = {"role": "cell", "study": results.study.name, "variant": summary.name, **place}
    params = summary.params | place
    name = " · ".join([summary.name, *map(" ".join, place.items())])
    if record is None:
        state = run_state(cell.key, None, store)
        start, curves = _progress(folder / PROGRESS)
        tags["status"] = "running" if state == "running" else "interrupted"
        given = cell.key, name, STATUSES[state], start, None, tags, params
        return TrackedRun(*given, curves=curves, parent=summary.key)
    more = {"message": record.message, "commit": record.commit}
    tags |= {"status": record.status, "attempt": str(record.attempt)}
    tags |= {name: text for name, text in more.items() if text}
    cells = results.cells
    row = cells[(cells["key"] == cell.key) & (cells["variant"] == summary.name)].iloc[0]
    hidden = [c for c in row.index if c in ("seed", "fold") or c.startswith("resolved/")]
    status, metrics = "FINISHED" if record.status == "ok" else "FAILED", row.drop(hidden).to_dict()
    run = TrackedRun(cell.key, name, status, *_span(record), tags, params, _finite(metrics))
    return replace(run, curves=record.curves, record=folder / "record.json", parent=summary.key)


def _progress(path: Path) -> tuple[int, dict[str, tuple[float, ...]]]:
    """When a cell was begun, in milliseconds, and its curves over the epochs that are done."""
    found = read_epochs(path)
    epochs = [found[n] for n in takewhile(found.__contains__, count(1))]
    if not epochs or not path.is_file():
        return 0, {}
    names = set[str].intersection(*map(set, epochs)) - {"epoch", "epochs", "seconds"}
    curves = {name: tuple(each[name] for each in epochs) for name in sorted(names)}
    return int(1000 * (path.stat().st_mtime - epochs[-1]["seconds"])), curves


def _span(record: RunRecord | SessionRecord) -> tuple[int, int]:
    """Start and end in milliseconds since 1970; the end is 0 where a record has none."""
    seconds = record.seconds if isinstance(record, SessionRecord) else sum(record.clocks.values())
    end = datetime.fromisoformat(record.finished).timestamp() if record.finished else 0
    return int(1000 * end) - int(1000 * seconds), int(1000 * end)


def _interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _finite(values: Mapping[Any, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in values.items() if isinstance(v, Real) and isfinite(v)}


def store_uri(root: Path, tracking_uri: str | None = None) -> str:
    """The address of MLflow's runs: as given, ``MLFLOW_TRACKING_URI``, or ``root/mlflow.db``."""
    given = tracking_uri or os.environ.get(ADDRESS)
    if not given and set("%?") & set(str(root.resolve())):
        problem = "MLflow cannot keep its runs in a path with % or ?"
        remedy = f"Use another folder, or set {ADDRESS} to a server."
        raise InputError(problem, source=root, remedy=remedy)
    return given or local_uri(root)


def local_uri(root: Path) -> str:
    """The address of the store in an output folder."""
    return f"sqlite:///{database(root)}"


def database(root: Path) -> Path:
    """The file of the store in an output folder."""
    return root.resolve() / "mlflow.db"
