"""Runs a search: trials on a validation split, then its best settings on the test split.

The objective is the study's metric on a split cut from the training clips. The test split is used
only afterwards, for the best settings, with seeds that the search did not use; they are compared
with the baseline like the variants of any study. A setting on record is never trained again.

Trials are requested in batches that keep the workers busy (Optuna's ask-and-tell interface): with
`study.optimize` in several threads, the suggestions would depend on which run ends first.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from passt_bench.console import Estimate, stage
from passt_bench.errors import InputError
from passt_bench.records.run import RunRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, read_search, search_names, write_search
from passt_bench.runner.executor import run_cells
from passt_bench.runner.locks import studies_held
from passt_bench.runner.plan import PlannedCell, StudyPlan, missing_cells, plan_study
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.run import check_device, prepare, train
from passt_bench.runner.study_names import (
    free_name,
    is_other_data,
    recipe_difference,
    renamed_note,
)
from passt_bench.runner.trials import (
    KINDS,
    Budget,
    Space,
    Trials,
    baseline_of,
    importance,
    open_storage,
    setting_name,
    space_of,
)
from passt_bench.spec.key import component_versions, digest, key_fields
from passt_bench.spec.study import Study, Variant

CONFIRMED = 3  # maximum number of best settings that are trained again and tested


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        record: the written record.
        trained: number of trial cells that this call trained.
        failed: number of settings and confirming cells whose status is not ok.
    """

    record: SearchRecord
    trained: int
    failed: int


def search(
    plan: StudyPlan,
    request: StudyRequest,
    config: RunConfig,
    paths: Paths,
    console: Console,
    *,
    command: str = "",
) -> SearchResult:
    """Searches over a study's baseline and confirms the best settings.

    If interrupted, the same call resumes: cells from their checkpoints, trials from
    Optuna's storage.

    Args:
        plan: plan of the study; the confirmation uses its seeds and its first fold.
        request: number of trials.
        config: number of processes and time limit.
        paths: folders of records and trials.
        console: shows progress.
        command: the command as typed.

    Raises:
        InputError: there is nothing to search over, the storage cannot be opened, or a search of
            the same name is running in the same folder.
    """
    check_device(plan)
    wanted, space = f"search-{plan.study.name}", space_of(plan)
    name, differs = free_name(wanted, lambda name: _difference(name, space, plan, paths.runs))
    if differs is not None:
        console.print(renamed_note(wanted, name, differs), markup=False)
    with _search_locked(paths.runs, name):
        work = _Search(name, space, plan, request, config, paths, command)
        work.explore(console)
        return work.confirm(console)


def _difference(name: str, space: Space, plan: StudyPlan, runs: Path) -> str | None:
    """The difference of a search from the record under a name, see `free_name`."""
    if name not in search_names(runs):
        return "that is a study" if name in Store(runs).studies() else None
    recorded = read_search(name, runs)
    if is_other_data(plan, recorded.fingerprint):
        return "the data"
    for field, value in (("metric", plan.study.metric), ("fold", space.fold)):
        if getattr(recorded, field) != value:
            return f"{field} = {value}"
    return recipe_difference(space.recipe, recorded.recipe)


class _Search:
    """One search: its space, its trials and its remaining time."""

    def __init__(
        self,
        name: str,
        space: Space,
        plan: StudyPlan,
        request: StudyRequest,
        config: RunConfig,
        paths: Paths,
        command: str,
    ) -> None:
        self._plan, self._paths, self._command = plan, paths, command
        self._name, self._space, self._wanted = name, space, request.trials
        self._config = RunConfig(workers=config.workers)
        self._store, self._trained = Store(paths.runs), 0
        self._cells: dict[tuple[str, float], PlannedCell] = {}
        self._records: dict[str, RunRecord] = {}
        missing = sum(not self._store.has(cell.key) for cell in baseline_of(plan).cells)
        self._budget = Budget(
            None if config.search_minutes is None else 60 * config.search_minutes,
            Estimate(),
            reserved=CONFIRMED * len(plan.study.seeds) + missing,
            workers=config.workers,
            confirmation_factor=1 / (1 - self._space.recipe.training.validation_share),
        )
        self._trials = Trials(
            open_storage(paths.runs, self._name, paths.storage),
            f"{self._name}-{_identity(self._space, plan)}",
            self._space.rates,
            digest([platform.node(), str(paths.runs.resolve())]),
            plan.record.better or "greater",
        )
        self._budget.note(trial.seconds for trial in self.record().settings if trial.seconds)

    def _cell(self, kind: str, rate: float) -> PlannedCell:
        if (kind, rate) not in self._cells:
            self._cells[kind, rate] = self._space.cell(kind, rate, self._plan.datasets)
        return self._cells[kind, rate]

    def _record_of(self, cell: PlannedCell) -> RunRecord | None:
        if cell.key not in self._records:
            record = self._store.run(cell.key)
            if record is None:
                return None
            self._records[cell.key] = record
        return self._records[cell.key]

    def _value(self, cell: PlannedCell) -> float | None:
        """The objective of a trial; None if its cell failed or has no record."""
        run = self._record_of(cell)
        return run.metrics[self._plan.study.metric] if run and run.status == "ok" else None

    def explore(self, console: Console) -> None:
        """Runs trials until there are enough or the time is up."""
        prepare([self._cell(KINDS[0], 0.0)], self._paths, self._plan.datasets, console)
        with stage(console, f"Searching: {self._wanted} trials{self._budget.limit}") as update:
            while batch := self._batch():
                done = len(self._history())

                def show(share: float, text: str, done: int = done, size: int = len(batch)) -> None:
                    now = done + share * size
                    used = max(now / self._wanted, self._budget.share())
                    update(min(used, 0.99), f"{int(now)} of {self._wanted} trials")

                todo = {cell.key: cell for cell in batch.values() if not self._store.has(cell.key)}
                run_cells(list(todo.values()), self._paths, self._config, show)
                runs = [run for run in map(self._record_of, todo.values()) if run is not None]
                self._trained += len(runs)
                self._budget.note(sum(run.clocks.values()) for run in runs)
                for number, cell in batch.items():
                    self._trials.tell(number, self._value(cell))
                self._write(self.record())
        self._write(self.record())

    def _batch(self) -> dict[int, PlannedCell]:
        """New trials to train, enough to keep the workers busy, by number."""
        rounds = 2 if self._budget.has_times else 1  # the first cells show how long one takes
        batch: dict[int, PlannedCell] = {}
        while (
            (different := len({cell.key for cell in batch.values()}))
            < rounds * self._config.workers
            and len(self._history()) + len(batch) < self._wanted
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
                    tokens=cell.facts.tokens,
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
            command=self._command,
        )
        return replace(record, importance=importance(record))

    def _write(self, record: SearchRecord) -> None:
        with studies_held(self._paths.runs):
            write_search(record, self._paths.runs)

    def confirm(self, console: Console) -> SearchResult:
        """Trains the best settings again and tests as many of them as time allows."""
        record = self.record()
        failed = sum(trial.status != "ok" for trial in record.settings)
        best = [t for t in record.best if t.patchout.kind != "none"][:CONFIRMED]
        if best:
            plan = self._confirmation(best)
            while len(best) > 1 and not self._budget.allows_confirming(
                len(missing_cells(plan, self._store))
            ):
                best = best[:-1]
                plan = self._confirmation(best)
            with studies_held(self._paths.runs):
                self._store.write_study(plan.record)
            todo = missing_cells(plan, self._store)
            prepare(todo, self._paths, self._plan.datasets, console)
            train(todo, self._paths, self._config, console)
            ends = [self._store.outcome(cell.key) for cell in plan.cells]
            failed += sum(end is None or end.status != "ok" for end in ends)
            record = self.record(tuple(setting_name(trial.kind, trial.rate) for trial in best))
            self._write(record)
        return SearchResult(record, self._trained, failed)

    def _confirmation(self, best: Sequence[TrialRecord]) -> StudyPlan:
        """A study of the best settings and the baseline, trained on all training clips.

        The seeds are the study's: the search used none of them, and a baseline on record is not
        trained again. Of a data set with folds only the fold that the search held out is tested,
        because the search used the others.
        """
        source, fold = self._plan.study, self._space.fold
        named = {setting_name(trial.kind, trial.rate): trial.patchout for trial in best}
        study = Study(
            name=self._name,
            question=f"Do the best settings of the search beat {source.baseline!r}?",
            base=baseline_of(self._plan).recipe,
            variants=(
                Variant(source.baseline),
                *(Variant(setting, {"patchout": patchout}) for setting, patchout in named.items()),
            ),
            baseline=source.baseline,
            metric=source.metric,
            seeds=source.seeds,
            folds=None if fold is None else (fold,),
            margin=source.margin,
        )
        notebook = (
            "The best settings of a search over kind and rate of patchout. The search chose by a "
            "split cut from the training clips; here they are trained anew on all training clips, "
            f"with seeds that it did not use ({', '.join(map(str, source.seeds))}), and tested."
        )
        return plan_study(
            study,
            self._paths,
            notebook=notebook,
            command=self._command,
            datasets=self._plan.datasets,
        )


def _identity(space: Space, plan: StudyPlan) -> str:
    """The hash of all that decides a trial's value; trials with another one belong elsewhere."""
    return digest(
        {
            "recipe": key_fields(space.recipe),
            "versions": component_versions(space.recipe),
            "fingerprint": plan.record.fingerprint.digest,
            "metric": plan.study.metric,
            "space": [KINDS, space.rates, space.fold, [space.seed]],
        }
    )


@contextmanager
def _search_locked(root: Path, name: str) -> Iterator[None]:
    folder = root / "search"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / f"{name}.lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            "this search is already running here",
            source=root,
            field="search",
            value=name,
            remedy="Wait until it ends, or search in another folder (--runs).",
        ) from None
