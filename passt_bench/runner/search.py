"""Runs a search: trials on a validation split, then its best settings on the test split.

The objective is the study's metric on a split cut from the training clips. The test split is used
only afterwards, for the best settings, with seeds that the search did not use; they are compared
with the baseline like the variants of any study. A setting on record is never trained again.

Trials are requested in batches that keep the workers busy (Optuna's ask-and-tell interface): with
`study.optimize` in several threads, the suggestions would depend on which run ends first.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import ceil, inf
from pathlib import Path
from statistics import fmean

from filelock import FileLock, Timeout
from rich.console import Console

from passt_bench.console import Stopwatch, stage
from passt_bench.errors import InputError
from passt_bench.records.run import RunRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import SEARCHES, Store, document_names, read_search, write_document
from passt_bench.runner.executor import check_device, prepare, run_cells, train
from passt_bench.runner.plan import StudyPlan, missing_cells, plan_study
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.request import Paths, RunConfig, typed_command
from passt_bench.runner.run_status import hold_studies_lock
from passt_bench.runner.studies import (
    free_name,
    is_other_data,
    planned_looks,
    study_on_record,
)
from passt_bench.runner.trials import (
    KINDS,
    Space,
    Trials,
    baseline_of,
    importance,
    open_storage,
    setting_name,
    space_of,
)
from passt_bench.spec.key import component_versions, digest, key_fields, recipe_difference
from passt_bench.spec.study import Variant

CONFIRMED = 3  # maximum number of best settings that are trained again and tested


def search(
    plan: StudyPlan,
    trials: int,
    config: RunConfig,
    paths: Paths,
    console: Console,
) -> tuple[SearchRecord, int]:
    """Searches over a study's baseline and confirms the best settings.

    The number of trials includes those of earlier calls. If interrupted, the same call resumes:
    cells from their checkpoints, trials from Optuna's storage.

    Returns:
        The written record, and the number of settings and cells that failed.

    Raises:
        InputError: there is nothing to search over, the storage cannot be opened, or a search of
            the same name is running in the same folder.
    """
    if not plan.cells:
        remedy = "Name a study with seeds."
        raise plan.study.error("this study measures only costs", "seeds", (), remedy)
    check_device(plan)
    wanted, space = f"search-{plan.study.name}", space_of(plan)
    name, note = free_name(wanted, lambda name: _difference(name, space, plan, paths.runs))
    if note is not None:
        console.print(note, markup=False)
    folder = paths.runs / "search"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / f"{name}.lock").acquire(timeout=0)
    except Timeout:
        raise InputError(
            "this search is already running here",
            source=paths.runs,
            field="search",
            value=name,
            remedy="Wait until it ends, or search in another folder (--runs).",
        ) from None
    with held:
        work = _Search(name, space, plan, config, paths)
        work.explore(trials, console)
        return work.confirm(console)


def _difference(name: str, space: Space, plan: StudyPlan, runs: Path) -> str | None:
    """The difference of a search from the record under a name, see `free_name`."""
    if name not in document_names(runs / SEARCHES):
        return "that is a study" if name in Store(runs).studies() else None
    recorded = read_search(name, runs)
    if is_other_data(plan, recorded.fingerprint):
        return "the data"
    for field, value in (("metric", plan.study.metric), ("fold", space.fold)):
        if getattr(recorded, field) != value:
            return f"{field} = {value}"
    return recipe_difference(space.recipe, recorded.recipe)


class Budget:
    """Decides whether the time suffices for more cells, by how long those so far have taken.

    A confirming cell takes ``factor`` times as long as a trial's; some cells are reserved for the
    confirmation.
    """

    def __init__(self, minutes: float | None, reserved: int, workers: int, factor: float) -> None:
        self.seconds = inf if minutes is None else 60 * minutes
        self.clock, self.taken = Stopwatch(), list[float]()
        self._reserved, self._workers, self._factor = reserved, workers, factor

    def _needed(self, cells: int) -> float:
        return ceil(cells / self._workers) * fmean(self.taken) if self.taken else 0.0

    @property
    def _for_trials(self) -> float:
        return max(0.0, self.seconds - self._factor * self._needed(self._reserved))

    def used(self) -> float:
        """The fraction of the time for trials that is used, at most 1."""
        return min(1.0, self.clock.elapsed / self._for_trials) if self._for_trials else 1.0

    def allows(self, cells: int) -> bool:
        """Whether there is time for so many trial cells; true if none has been timed."""
        return not self.taken or self.clock.elapsed + self._needed(cells) <= self._for_trials

    def allows_confirming(self, cells: int) -> bool:
        """Whether there is time for so many confirming cells."""
        return self.clock.elapsed + self._factor * self._needed(cells) <= self.seconds


class _Search:
    """One search: its space, its trials and its remaining time."""

    def __init__(
        self, name: str, space: Space, plan: StudyPlan, config: RunConfig, paths: Paths
    ) -> None:
        self._name, self._space, self._plan = name, space, plan
        self._config, self._paths = config, paths
        self._store = Store(paths.runs)
        self._cell = cache(lambda kind, rate: space.cell(kind, rate, plan.datasets))
        self._records: dict[str, RunRecord] = {}
        missing = sum(not self._store.has(cell.key) for cell in baseline_of(plan).cells)
        self._budget = Budget(
            config.search_minutes,
            reserved=CONFIRMED * len(plan.study.seeds) + missing,
            workers=config.workers,
            factor=1 / (1 - space.recipe.training.validation_share),
        )
        self._trials = Trials(
            open_storage(paths.runs, name, paths.storage),
            f"{name}-{_identity(space, plan)}",
            space.rates,
            digest([platform.node(), str(paths.runs.resolve())]),
            plan.record.better or "greater",
        )
        self._budget.taken += [t.seconds for t in self.record().settings if t.seconds]

    def _record_of(self, cell: PlannedCell) -> RunRecord | None:
        record = self._records.get(cell.key) or self._store.run(cell.key)
        if record is not None:
            self._records[cell.key] = record
        return record

    def _value(self, cell: PlannedCell) -> float | None:
        """The objective of a trial; None if its cell failed or has no record."""
        run = self._record_of(cell)
        return run.metrics[self._plan.study.metric] if run and run.status == "ok" else None

    def explore(self, wanted: int, console: Console) -> None:
        """Runs trials until there are enough or the time is up."""
        budget = self._budget
        prepare([self._cell(KINDS[0], 0.0)], self._paths, self._plan.datasets, console)
        limit = "" if budget.seconds == inf else f", at most {budget.seconds / 60:g} min"
        with stage(console, f"Searching: {wanted} trials{limit}") as update:
            while batch := self._batch(wanted):
                done = len(self._history())

                def show(share: float, text: str, done: int = done, size: int = len(batch)) -> None:
                    now = done + share * size
                    update(max(now / wanted, budget.used()), f"{int(now)} of {wanted} trials")

                todo = {cell.key: cell for cell in batch.values() if not self._store.has(cell.key)}
                run_cells(list(todo.values()), self._paths, self._config, show)
                runs = map(self._record_of, todo.values())
                budget.taken += [sum(run.clocks.values()) for run in runs if run is not None]
                for number, cell in batch.items():
                    self._trials.tell(number, self._value(cell))
                self._write(self.record())
        self._write(self.record())

    def _batch(self, wanted: int) -> dict[int, PlannedCell]:
        """New trials to train, enough to keep the workers busy, by number."""
        rounds = 2 if self._budget.taken else 1  # the first cells show how long one takes
        batch: dict[int, PlannedCell] = {}
        while (
            (different := len({cell.key for cell in batch.values()}))
            < rounds * self._config.workers
            and len(self._history()) + len(batch) < wanted
            and self._budget.allows(different + 1)
        ):
            number, kind, rate = self._trials.ask()
            cell = self._cell(kind, rate)
            if self._record_of(cell) is None:
                batch[number] = cell
            else:
                self._trials.tell(number, self._value(cell))
        return batch

    def _history(self) -> list[TrialRecord]:
        """Optuna's trials that ended, without interrupted ones."""
        history: list[TrialRecord] = []
        first: dict[str, int] = {}
        for trial in self._trials.ended():
            kind, rate = trial.params["kind"], trial.params["rate"]
            cell = self._cell(kind, rate)
            run = self._record_of(cell)
            if trial.value is None and (run is None or run.status == "ok"):
                continue
            number = len(history)
            fresh = first.setdefault(cell.key, number) == number
            history.append(
                TrialRecord(
                    number=number,
                    kind=kind,
                    rate=rate,
                    patchout=cell.recipe.patchout,
                    tokens=cell.summary.tokens,
                    keys=(cell.key,),
                    status=run.status if run else "ok",
                    value=trial.value,
                    repeats=None if fresh else first[cell.key],
                    seconds=round(sum(run.clocks.values()), 3) if run and fresh else 0.0,
                )
            )
        return history

    def record(self, confirmed: tuple[str, ...] = ()) -> SearchRecord:
        """The record of the search so far."""
        study = self._plan.study
        record = SearchRecord(
            name=self._name,
            question=f"Which kind and rate of patchout suits {study.baseline!r} of {study.name}?",
            metric=study.metric,
            better=self._plan.record.better or "greater",
            baseline=study.baseline,
            recipe=self._space.recipe,
            kinds=KINDS,
            rates=self._space.rates,
            fold=self._space.fold,
            seeds=(self._space.seed,),
            fingerprint=self._plan.record.fingerprint,
            trials=tuple(self._history()),
            confirmed=confirmed,
            confirmation_seeds=study.seeds if confirmed else (),
            command=typed_command(),
        )
        return replace(record, importance=importance(record))

    def _write(self, record: SearchRecord) -> None:
        with hold_studies_lock(self._paths.runs):
            write_document(record, self._paths.runs)

    def confirm(self, console: Console) -> tuple[SearchRecord, int]:
        """Trains the best settings again and tests as many of them as time allows."""
        record = self.record()
        failed = sum(trial.status != "ok" for trial in record.settings)
        best = [t for t in record.best if t.patchout.kind != "none"][:CONFIRMED]
        if best:
            plan = self._confirmation(best)
            while len(best) > 1 and not self._budget.allows_confirming(
                len(missing_cells(plan.cells, self._store))
            ):
                best = best[:-1]
                plan = self._confirmation(best)
            with hold_studies_lock(self._paths.runs):
                old = study_on_record(self._name, self._store)
                looks = planned_looks(plan.record, old)
                self._store.write_study(replace(plan.record, looks=looks))
            todo = missing_cells(plan.cells, self._store)
            prepare(todo, self._paths, self._plan.datasets, console)
            train(todo, self._paths, self._config, console)
            outcomes = [self._store.outcome(cell.key) for cell in plan.cells]
            failed += sum(end is None or end.status != "ok" for end in outcomes)
            record = self.record(tuple(setting_name(trial.kind, trial.rate) for trial in best))
            self._write(record)
        return record, failed

    def _confirmation(self, best: Sequence[TrialRecord]) -> StudyPlan:
        """A study of the best settings and the baseline, trained on all training clips.

        The seeds are the study's: the search used none of them, and a baseline on record is not
        trained again. Of a data set with folds only the fold that the search held out is tested,
        because the search used the others.
        """
        source, fold = self._plan.study, self._space.fold
        named = {setting_name(trial.kind, trial.rate): trial.patchout for trial in best}
        study = replace(
            source,
            name=self._name,
            question=f"Do the best settings of the search beat {source.baseline!r}?",
            base=baseline_of(self._plan).recipe,
            variants=(
                Variant(source.baseline),
                *(Variant(setting, {"patchout": patchout}) for setting, patchout in named.items()),
            ),
            folds=None if fold is None else (fold,),
            contrasts={},
            tune=None,
            shared="epochs",  # as its trials do
        )
        notebook = (
            "The best settings of a search over kind and rate of patchout. The search chose by a "
            "split cut from the training clips; here they are trained anew on all training clips, "
            f"with seeds that it did not use ({', '.join(map(str, source.seeds))}), and tested."
        )
        return plan_study(study, self._plan.datasets, notebook=notebook)


def _identity(space: Space, plan: StudyPlan) -> str:
    """The hash of all that decides a trial's value; trials with another hash are not comparable."""
    return digest(
        {
            "recipe": key_fields(space.recipe),
            "versions": component_versions(space.recipe),
            "fingerprint": plan.record.fingerprint.digest,
            "metric": plan.study.metric,
            "space": [KINDS, space.rates, space.fold, [space.seed]],
        }
    )
