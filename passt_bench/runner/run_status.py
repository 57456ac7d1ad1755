"""How much of a study is done, failed, running, interrupted or left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from passt_bench.analysis.costs import last_arms
from passt_bench.records.files import Outcome
from passt_bench.records.run import CellRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import PROGRESS, clear
from passt_bench.runner.locks import is_running
from passt_bench.runner.plan import PlannedCell, StudyPlan
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.training import checkpoint

State = Literal["done", "failed", "running", "interrupted", "left"]
STATES: tuple[State, ...] = ("done", "failed", "running", "interrupted", "left")


@dataclass(frozen=True)
class VariantStatus:
    """How many runs of a variant are in which state.

    Attributes:
        variant: its name.
        cells: state → number of cells.
        retried: cells whose record is not that of the first attempt.
        failures: a line for each cell that failed.
    """

    variant: str
    cells: dict[State, int]
    retried: int
    failures: tuple[str, ...]


def variant_statuses(plan: StudyPlan, paths: Paths) -> list[VariantStatus]:
    """The status of each variant, in the study's order."""
    store = Store(paths.runs)
    found = []
    for variant in plan.record.variants:
        counts: Counter[State] = Counter()
        retried, failures = 0, []
        for cell in variant.cells:
            outcome = store.outcome(cell.key)
            state = _state(cell.key, outcome, paths)
            counts[state] += 1
            retried += outcome is not None and outcome.attempt > 1
            if outcome is not None and state == "failed":
                failures.append(_failure(variant.name, cell, outcome, store))
        cells: dict[State, int] = {state: counts[state] for state in STATES}
        found.append(VariantStatus(variant.name, cells, retried, tuple(failures)))
    return found


def _state(key: str, outcome: Outcome | None, paths: Paths) -> State:
    if outcome is not None and outcome.status == "ok":
        return "done"
    folder = Store(paths.runs).folder(key)
    begun = (folder / PROGRESS).is_file() or checkpoint.exists(folder)
    if (begun or outcome is None) and is_running(paths.runs, key):
        return "running"
    if outcome is not None:
        return "failed"
    return "interrupted" if begun else "left"


def _failure(variant: str, cell: CellRecord, outcome: Outcome, store: Store) -> str:
    last = (outcome.message or "").strip().splitlines()[-1:]
    before = [record.status for record in store.attempts(cell.key)[:-1]]
    attempt = f" (attempt {outcome.attempt}, before: {', '.join(before)})" if before else ""
    where = f"seed {cell.seed}" + (f", fold {cell.fold}" if cell.fold is not None else "")
    return f"{variant}, {where}: {outcome.status}{attempt}: " + "".join(last)


def remove_leftovers(
    plan: StudyPlan, paths: Paths, config: RunConfig, todo: Collection[PlannedCell]
) -> None:
    """Removes the files of runs that were killed after their record was written."""
    waiting = {cell.key for cell in todo}
    store = Store(paths.runs)
    for cell in plan.cells:
        if cell.key in waiting or not (store.folder(cell.key) / PROGRESS).is_file():
            continue
        if store.has(cell.key) and not is_running(paths.runs, cell.key):
            clear(paths, config, cell.key)


@dataclass(frozen=True)
class Incomplete:
    """What of a study failed or did not finish; false where everything is done.

    Attributes:
        failed: cells whose final status is not ok.
        interrupted: cells without a record.
        arms: variants whose cost could not be measured.
    """

    failed: int = 0
    interrupted: int = 0
    arms: int = 0

    def __bool__(self) -> bool:
        return bool(self.failed or self.interrupted or self.arms)

    def sentences(self) -> list[str]:
        """A sentence for each kind."""
        told = []
        if self.failed:
            told.append(
                f"{_runs(self.failed)} failed; the report lists them. To run them again, give "
                "--retry with their statuses."
            )
        if self.interrupted:
            told.append(
                f"{_runs(self.interrupted)} did not finish; run the same command to resume."
            )
        if self.arms:
            what = "variant" if self.arms == 1 else "variants"
            told.append(f"The cost of {self.arms} {what} could not be measured.")
        return told


def _runs(number: int) -> str:
    return f"{number} run" if number == 1 else f"{number} runs"


def find_incomplete(plan: StudyPlan, store: Store, *, cost: bool) -> Incomplete:
    """What failed or did not finish, by the records.

    Args:
        plan: the study.
        store: its records.
        cost: whether its costs were to be measured.
    """
    ends = [store.outcome(cell.key) for cell in plan.cells]
    arms = last_arms(plan.record, store.sessions()) if cost else {}
    return Incomplete(
        failed=sum(end is not None and end.status != "ok" for end in ends),
        interrupted=ends.count(None),
        arms=sum(arm.status != "ok" for arm in arms.values()),
    )
