"""Running a search: trials on a validation split, then its best settings on the test fold.

The objective is the study's metric on a split cut from the training clips. The test fold is opened
only afterwards, for the best settings, with seeds that the search never used, and they are compared
with the baseline as the variants of any study. A setting that is on record is never trained again.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from passt_bench.console import Estimate, Progress, stage
from passt_bench.errors import InputError
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, read_search, search_names, write_search
from passt_bench.runner.executor import run_cells
from passt_bench.runner.locks import studies_held
from passt_bench.runner.plan import Datasets, StudyPlan, missing_cells, plan_study
from passt_bench.runner.request import Paths, RunConfig
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
    Settings,
    Space,
    Suggester,
    Suggestion,
    baseline_of,
    importance,
    keys_of,
    open_storage,
    setting_name,
    space_of,
)
from passt_bench.spec.key import component_versions, decisive, digest
from passt_bench.spec.study import Study, Variant


@dataclass(frozen=True)
class SearchOptions:
    """How far to search.

    Attributes:
        trials: in all, those of earlier invocations included.
        minutes: no trial begins that would not leave time for the confirmation; None: no limit.
        workers: processes at a time.
        seeds: of every trial; the objective is their mean.
        confirm: how many of the best settings are trained anew and tested, if time allows.
        storage: an Optuna storage address; None is a journal file under the output folder.
    """

    trials: int = 40
    minutes: float | None = 4.0
    workers: int = 2
    seeds: int = 1
    confirm: int = 3
    storage: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        record: as it was written.
        trained: cells of trials that this invocation trained.
        failed: settings and confirming cells whose status is not ok.
    """

    record: SearchRecord
    trained: int
    failed: int


def search(
    plan: StudyPlan,
    paths: Paths,
    options: SearchOptions,
    console: Console,
    *,
    command: str = "",
) -> SearchResult:
    """Searches over a study's baseline and confirms the best settings.

    Interrupted at any point, the same call goes on: cells from their checkpoints, trials from the
    journal.

    Args:
        plan: of the study; its seeds and first fold serve the confirmation.
        paths: where records are written.
        options: how far.
        console: for progress.
        command: what was typed.

    Raises:
        InputError: nothing to search over, a storage that cannot be opened, or another search of
            the same name at work in the same folder.
    """
    check_device(plan)
    wanted, space = f"search-{plan.study.name}", space_of(plan, options.seeds)
    name, differs = free_name(wanted, lambda name: _difference(name, space, plan, paths.runs))
    if differs is not None:
        console.print(renamed_note(wanted, name, differs), markup=False)
    with _alone(paths.runs, name):
        work = _Search(name, plan, paths, options, command)
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
        plan: StudyPlan,
        paths: Paths,
        options: SearchOptions,
        command: str,
    ) -> None:
        self._name, self._plan, self._paths = name, plan, paths
        self._datasets, self._options, self._command = plan.datasets, options, command
        self._store, self._trained = Store(paths.runs), 0
        self._space = space_of(plan, options.seeds)
        self._settings = Settings(self._space, plan.datasets, self._store, plan.study.metric)
        self._budget = Budget(
            None if options.minutes is None else 60 * options.minutes,
            Estimate(),
            reserved=self._confirming_cells(),
            workers=options.workers,
            dearer=1 / (1 - self._space.recipe.training.validation_share),
        )
        self._suggester = Suggester(
            open_storage(paths.runs, name, options.storage),
            f"{name}-{self._identity()}",
            self._space.rates,
            digest([platform.node(), str(paths.runs.resolve())]),
            plan.record.better or "greater",
        )
        known = [trial for trial in self.record().settings if trial.seconds]
        self._budget.note(trial.seconds / options.seeds for trial in known)

    def _confirming_cells(self) -> int:
        """At most so many are left to train: the best settings, and the baseline if need be."""
        baseline = baseline_of(self._plan).cells
        missing = sum(not self._store.has(cell.key) for cell in baseline)
        return self._options.confirm * len(self._plan.study.seeds) + missing

    def _identity(self) -> str:
        """Of all that decides a trial's value: trials of another recipe are of another search."""
        return digest(
            {
                "recipe": decisive(self._space.recipe),
                "versions": component_versions(self._space.recipe),
                "fingerprint": self._plan.record.fingerprint.digest,
                "metric": self._plan.study.metric,
                "space": [KINDS, self._space.rates, self._space.fold, self._space.seeds],
            }
        )

    def explore(self, console: Console) -> None:
        """Runs trials until there are enough or time is up."""
        reference = self._settings.cells(Suggestion(KINDS[0], 0.0))
        prepare(reference, self._paths, self._datasets, console)
        minutes = self._options.minutes
        limit = f", at most {minutes:g} min" if minutes is not None else ""
        with stage(console, f"Searching: {self._options.trials} trials{limit}") as update:
            while batch := self._batch():
                self._run([suggestion for _, suggestion in batch], update)
                for number, suggestion in batch:
                    self._suggester.tell(number, self._value(suggestion))
                self._write(self.record())
        self._write(self.record())

    def _batch(self) -> list[tuple[int, Suggestion]]:
        """Trials with something to train, enough to keep the workers busy."""
        rounds = 2 if self._budget.informed else 1  # the first ones tell how long a cell takes
        size = max(1, ceil(rounds * self._options.workers / self._options.seeds))
        batch: list[tuple[int, Suggestion]] = []
        settings: set[tuple[str, ...]] = set()
        while (
            len(settings) < size
            and len(self._told()) + len(batch) < self._options.trials
            and self._budget.allows((len(settings) + 1) * self._options.seeds)
        ):
            number, suggestion = self._suggester.ask()
            if self._settings.outcome(suggestion) is None:
                batch.append((number, suggestion))
                settings.add(keys_of(self._settings.cells(suggestion)))
            else:
                self._suggester.tell(number, self._value(suggestion))
        return batch

    def _run(self, suggestions: Sequence[Suggestion], update: Progress) -> None:
        cells = {cell.key: cell for s in suggestions for cell in self._settings.cells(s)}
        todo = [cell for key, cell in cells.items() if not self._store.has(key)]
        done, wanted = len(self._told()), self._options.trials

        def show(share: float, text: str) -> None:
            now = done + share * len(suggestions)
            share = max(now / wanted, self._budget.share())
            update(min(share, 0.99), f"{int(now)} of {wanted} trials")

        config = RunConfig(workers=self._options.workers)
        ends = run_cells(todo, self._paths, config, show)
        self._trained += len(ends)
        records = [self._store.run(key) for key in ends]
        self._budget.note(sum(record.clocks.values()) for record in records if record is not None)

    def _value(self, suggestion: Suggestion) -> float | None:
        outcome = self._settings.outcome(suggestion)
        return outcome.value if outcome is not None else None

    def _told(self) -> list[tuple[Suggestion, float | None]]:
        def failed(suggestion: Suggestion) -> bool:
            outcome = self._settings.outcome(suggestion)
            return outcome is not None and outcome.value is None

        return self._suggester.told(failed)

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
            seeds=self._space.seeds,
            fingerprint=self._plan.record.fingerprint,
            trials=self._settings.trials(self._told()),
            confirmed=confirmed,
            confirmation_seeds=study.seeds if confirmed else (),
            command=self._command,
        )
        return replace(record, importance=importance(record))

    def _write(self, record: SearchRecord) -> None:
        with studies_held(self._paths.runs):
            write_search(record, self._paths.runs)

    def confirm(self, console: Console) -> SearchResult:
        """Trains the best settings anew and tests them."""
        record = self.record()
        failed = sum(trial.status != "ok" for trial in record.settings)
        best = [t for t in record.best if t.patchout.kind != "none"][: self._options.confirm]
        if best:
            best, plan = self._affordable(best)
            with studies_held(self._paths.runs):
                self._store.write_study(plan.record)
            config = RunConfig(workers=self._options.workers)
            todo = missing_cells(plan, self._store)
            prepare(todo, self._paths, self._datasets, console)
            train(todo, self._paths, config, console)
            final = [self._store.run(cell.key) for cell in plan.cells]
            failed += sum(found is None or found.status != "ok" for found in final)
            record = self.record(tuple(setting_name(trial.kind, trial.rate) for trial in best))
            self._write(record)
        return SearchResult(record, self._trained, failed)

    def _affordable(self, best: list[TrialRecord]) -> tuple[list[TrialRecord], StudyPlan]:
        """As many of the best as there is time for, but at least one."""
        plan = plan_confirmation(
            self._name,
            self._plan,
            best,
            self._space.fold,
            self._paths,
            self._datasets,
            self._command,
        )
        cells = len(missing_cells(plan, self._store))
        if len(best) == 1 or self._budget.allows_confirming(cells):
            return best, plan
        return self._affordable(best[:-1])


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


def plan_confirmation(
    name: str,
    plan: StudyPlan,
    best: Sequence[TrialRecord],
    fold: int | None,
    paths: Paths,
    datasets: Datasets,
    command: str,
) -> StudyPlan:
    """The best settings against the baseline, trained on all training clips.

    The seeds are the study's own: none of them was used by the search, and a baseline that the
    study has on record is not trained again. Of a folded data set only the fold that the search
    held out is tested, for the search saw the others.

    Args:
        name: of the study that it makes.
        plan: of the study that was searched over.
        best: settings, the best first.
        fold: that the search held out.
        paths: where the data are.
        datasets: opened data sets.
        command: what was typed.
    """
    source = plan.study
    named = {setting_name(trial.kind, trial.rate): trial.patchout for trial in best}
    study = Study(
        name=name,
        question=f"Do the best settings of the search beat {source.baseline!r}?",
        base=baseline_of(plan).recipe,
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
    return plan_study(study, paths, notebook=notebook, command=command, datasets=datasets)
