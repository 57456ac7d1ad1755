"""A planned study, and records as if its cells had been run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.plan import StudyPlan, plan_study
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.request import Paths
from passt_bench.runner.studies import load_study


def planned(file: Path, runs: Path, **changes: Any) -> StudyPlan:
    """The plan of a study file, some fields of the study changed."""
    return plan_study(replace(load_study(str(file)).study, **changes), Datasets(Paths(runs)))


def finished(cell: PlannedCell, value: float = 0.5) -> RunRecord:
    # A fixed time: equal records are equal, however long a busy machine takes between two.
    made = replace(failure(cell, "ok", ""), finished="2026-11-23T12:00:00+00:00")
    return replace(made, message=None, metrics={"mAP": value})


def write(runs: Path, plan: StudyPlan, cells: slice = slice(None), value: float = 0.5) -> Store:
    """A store with the study and some of its cells."""
    store = Store(runs)
    store.write_study(plan.record)
    for cell in plan.cells[cells]:
        store.write(finished(cell, value))
    return store
