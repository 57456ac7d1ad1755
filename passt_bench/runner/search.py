"""Runs a search: trials on a validation split, then its best settings on the test fold.

The objective is the study's metric on a split cut from the training clips. The test fold is opened
only afterwards, for the best settings, with seeds that the search never used, and they are compared
with the baseline as the variants of any study. A setting that is on record is never trained again.

Trials are asked for in batches that keep the workers busy (Optuna's ask-and-tell interface): with
`study.optimize` in several threads, which suggestions come would depend on which run ends first.
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
from passt_bench.spec.key import component_versions, decisive, digest
from passt_bench.spec.study import Study, Variant

CONFIRMED = 3  # of the best settings are trained anew and tested, if time allows


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        record: as it was written.
        trained: cells of trials that this call trained.
        failed: settings and confirming cells whose status is not ok.
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

    Interrupted at any point, the same call resumes: cells from their checkpoints, trials from
    Optuna's storage.

    Args:
        plan: of the study; its seeds and first fold serve the confirmation.
        request: how many trials.
        config: processes at a time, and how long to search.
        paths: where records and trials are written.
        console: for progress.
        command: what was typed.

    Raises:
        InputError: nothing to search over, a storage that cannot be opened, or another search of
            the same name is running in the same folder.
    """
    check_device(plan)
    wanted, space = f"search-{plan.study.name}", space_of(plan)
    name, differs = free_name(wanted, lambda name: _difference(name, space, plan, paths.runs))
    if differs is not None:
        console.print(renamed_note(wanted, name, differs), markup=False)
    with _alone(paths.runs, name):
        work = _Search(name, space, plan, request, config, paths, command)
        work.explore(console)
        return work.confirm(console)


def _difference(name: str, space: Space, plan: StudyPlan, runs: Path) -> str | None:
    """How a search differs from what is on record under a name, see `free_name`."""
    if name not in search_names(runs):
        return "it is a search" if name in Store(runs).studies() else None
    there = read_search(name, runs)
    if is_other_data(plan, there.fingerprint):
        return "other data were found"
    for field, value in (("metric", plan.study.metric), ("fold", space.fold)):
        if getattr(there, field) != value:
            return f"{field} = {value}"
    return recipe_difference(space.recipe, there.recipe)


class _Search:
    """One search: its space, its trials, and what is left of its time."""

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
        self._ends: dict[str, RunRecord] = {}
        missing = sum(not self._store.has(cell.key) for cell in baseline_of(plan).cells)
        self._budget = Budget(
            None if config.search_minutes is None else 60 * config.search_minutes,
            Estimate(),
            reserved=CONFIRMED * len(plan.study.seeds) + missing,
            workers=config.workers,
            dearer=1 / (1 - self._space.recipe.training.validation_share),
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

    def _end(self, cell: PlannedCell) -> RunRecord | None:
        if cell.key not in self._ends:
            record = self._store.run(cell.key)
            if record is None:
                return None
            self._ends[cell.key] = record
        return self._ends[cell.key]

    def _value(self, cell: PlannedCell) -> float | None:
        """The objective of a trial; None where its cell failed or has no record."""
        end = self._end(cell)
        return end.metrics[self._plan.study.metric] if end and end.status == "ok" else None

    def explore(self, console: Console) -> None:
        """Runs trials until there are enough or time is up."""
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
                ends = [end for end in map(self._end, todo.values()) if end is not None]
                self._trained += len(ends)
                self._budget.note(sum(end.clocks.values()) for end in ends)
                for number, cell in batch.items():
                    self._trials.tell(number, self._value(cell))
                self._write(self.record())
        self._write(self.record())

    def _batch(self) -> dict[int, PlannedCell]:
        """Trials with something to train, enough to keep the workers busy, by their numbers."""
        rounds = 2 if self._budget.informed else 1  # the first ones tell how long a cell takes
        batch: dict[int, PlannedCell] = {}
        while (
            (different := len({cell.key for cell in batch.values()}))
            < rounds * self._config.workers
            and len(self._history()) + len(batch) < self._wanted
            and self._budget.allows(different + 1)
        ):
            number, kind, rate = self._trials.ask()
            cell = self._cell(kind, rate)
            if self._end(cell) is None:
                batch[number] = cell
            else:
                self._trials.tell(number, self._value(cell))
        return batch

    def _history(self) -> list[TrialRecord]:
        """Optuna's trials that ended, without those that were interrupted."""
        found: list[TrialRecord] = []
        first: dict[str, int] = {}
        for trial in self._trials.ended():
            kind, rate = trial.params["kind"], trial.params["rate"]
            cell = self._cell(kind, rate)
            end = self._end(cell)
            if trial.value is None and (end is None or end.status == "ok"):
                continue
            number = len(found)
            fresh = first.setdefault(cell.key, number) == number
            found.append(
                TrialRecord(
                    number=number,
                    kind=kind,
                    rate=rate,
                    patchout=cell.recipe.patchout,
                    tokens=cell.facts.tokens,
                    keys=(cell.key,),
                    status=end.status if end else "ok",
                    value=trial.value,
                    repeats=None if fresh else first[cell.key],
                    seconds=round(sum(end.clocks.values()), 3) if end and fresh else 0.0,
                )
            )
        return found

    def record(self, confirmed: tuple[str, ...] = ()) -> SearchRecord:
        """The search as a page shows it."""
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
        """Trains the best settings anew and tests as many of them as there is time for."""
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
        """The best settings against the baseline, trained on all training clips.

        The seeds are the study's own: none of them was used by the search, and a baseline that the
        study has on record is not trained again. Of a folded data set only the fold that the search
        held out is tested, for the search saw the others.
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
    """Of all that decides a trial's value: trials of another recipe are of another search."""
    return digest(
        {
            "recipe": decisive(space.recipe),
            "versions": component_versions(space.recipe),
            "fingerprint": plan.record.fingerprint.digest,
            "metric": plan.study.metric,
            "space": [KINDS, space.rates, space.fold, [space.seed]],
        }
    )


@contextmanager
def _alone(root: Path, name: str) -> Iterator[None]:
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
            remedy="Wait for it, or search in another folder (--runs).",
        ) from None
