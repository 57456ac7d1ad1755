"""Runs the trials of a search on a validation split, and plans the study that confirms the best.

The objective is the study's metric on a split cut from the training clips, with as much training as
the baseline's budget pays for. The test split is used only by the confirming study, with seeds that
the search did not use. A setting on record is never trained again.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from math import inf
from statistics import fmean
from threading import Lock
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from passt_bench.console import Stopwatch, stage
from passt_bench.records.run import RunRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import SEARCHES, Store, document_names, read_search, write_document
from passt_bench.runner.budget import check_budgets, on_validation, with_budget
from passt_bench.runner.cells import clear, validated_epochs
from passt_bench.runner.estimates import batch_size, step_work, summarize_model
from passt_bench.runner.executor import check_device, parallel_runs, prepare, run_cells
from passt_bench.runner.plan import StudyPlan, plan_study
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.runner.request import Paths, RunConfig, typed_command
from passt_bench.runner.run_status import STUDIES, hold
from passt_bench.runner.search_space import Params, is_same, make_space, setting_name
from passt_bench.runner.studies import free_name, is_other_data, join_record, study_on_record
from passt_bench.runner.trials import Failed, Pruned, Report, Trials, importance, open_storage
from passt_bench.spec.key import component_versions, digest, key_fields, recipe_difference
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import Study, Variant, flatten, override, pairwise
from passt_bench.training.batches import epoch_steps, total_steps
from passt_bench.training.loop import LEAST_STEPS

CONFIRMING = 5  # fewest seeds of a verdict on a confirmed setting
CONFIRMED = 3  # most settings of a Pareto front that are confirmed


def search(
    plan: StudyPlan, trials: int, config: RunConfig, paths: Paths, console: Console
) -> tuple[SearchRecord, StudyPlan | None]:
    """Searches over a study's baseline.

    The number of trials includes those of earlier calls. If interrupted, the same call resumes:
    cells from their checkpoints, trials from Optuna's storage.

    Returns:
        The written record, and the study that confirms the best settings; None if there is nothing
        to compare with the baseline, or other commands still run trials.

    Raises:
        InputError: there is nothing to search over, the storage cannot be opened, or a search of
            the same name is running in the same folder.
    """
    if not plan.cells:
        remedy = "Name a study with seeds."
        raise plan.study.error("this study measures only costs", "seeds", (), remedy)
    check_device(plan)
    work, folder = _Search(plan, config, paths, console), paths.runs / SEARCHES
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / f"{work.name}.lock").acquire(timeout=0)
    except Timeout:
        remedy = "Wait until it ends, or search in another folder (--runs)."
        raise plan.study.error("already running here", "search", work.name, remedy) from None
    with held:
        work.run(trials)
        best = work.confirmation()
        return work.write(best), best


class _Search:
    """One search: its space, its trials, its record and the study that confirms it."""

    def __init__(self, plan: StudyPlan, config: RunConfig, paths: Paths, console: Console) -> None:
        study = plan.study
        self._plan, self._config, self._paths, self._console = plan, config, paths, console
        self._spec, self._store, self._guard = study.search, Store(paths.runs), Lock()
        self._study = replace(study, shared=study.search.budget)
        self._baseline = study.variant(plan.record.baseline)
        self._data = plan.datasets.get(study.recipe(self._baseline))
        self._fold = plan.record.folds[0] if plan.record.folds else None
        self._clips = len(self._data.split(self._fold)[0])
        self._recipe = self._recipe_of(self._baseline)
        first = max(CONFIRMING, max(study.seeds) + 1)
        self._seeds = tuple(range(first, first + self._spec.runs))
        inner = [fold for fold in self._data.folds if fold != self._fold]
        folds = inner if self._spec.pruning == "wilcoxon" and len(inner) > 1 else [None]
        self._blocks = list(product(self._seeds, folds))
        self._check()
        self._classes = len(self._data.fingerprint.classes)
        self._space = make_space(self._spec, self._recipe, self._classes)
        self._planned: dict[str, list[PlannedCell]] = {}
        self._runs: dict[str, RunRecord] = {}
        self.name, note = free_name(f"search-{study.name}", self._difference)
        if note is not None:
            console.print(note, markup=False)

    def _check(self) -> None:
        study, pruning = self._study, self._spec.pruning
        steps = total_steps(self._recipe.training, self._clips)
        if self._spec.budget != "epochs" and steps < LEAST_STEPS:
            problem = f"of {steps} steps no equal budget can be made, which takes {LEAST_STEPS}"
            remedy = "Give search=Search(budget='epochs'), or the baseline more epochs."
            raise study.error(problem, "search.budget", self._spec.budget, remedy)
        if pruning == "hyperband" and study.metric != self._recipe.metrics[0]:
            problem, remedy = "only the first metric is known by epoch", "Name the study's first."
            raise study.error(problem, "metrics", self._recipe.metrics, remedy)
        if pruning == "wilcoxon" and len(self._blocks) < 2:
            raise study.error("compares several runs", "search.pruning", pruning, "Give runs=5.")

    def _recipe_of(self, variant: Variant) -> Recipe:
        """The recipe of a trial: as many steps as the budget pays for on all training clips."""
        clips, classes = self._clips, len(self._data.fingerprint.classes)
        return on_validation(with_budget(self._study, variant, clips, classes), clips)

    def _difference(self, name: str) -> str | None:
        """The difference of this search from the record under a name, see `free_name`."""
        if name not in document_names(self._paths.runs / SEARCHES):
            return "that is a study" if name in self._store.studies() else None
        recorded = read_search(name, self._paths.runs)
        if is_other_data(self._plan, recorded.fingerprint):
            return "the data"
        own: dict[str, Any] = {"metric": self._study.metric, "fold": self._fold}
        own |= {"budget": self._spec.budget, "objectives": self._spec.objectives}
        own |= {"space": self._space.describe(), "seeds": self._seeds}
        own, old = flatten(own), flatten({name: getattr(recorded, name) for name in own})
        if changed := [name for name in {**own, **old} if own.get(name) != old.get(name)]:
            return f"{changed[0]} = {own.get(changed[0])}"
        return recipe_difference(self._recipe, recorded.recipe)

    def _variant(self, params: Params) -> Variant:
        changes = {**self._baseline.changes, **self._space.changes(params)}
        return replace(self._baseline, name=setting_name(params), changes=changes)

    def _cells(self, params: Params) -> list[PlannedCell]:
        """The cells of a trial; settings with the same patches share them."""
        with self._guard:
            key = json.dumps(params)
            if key not in self._planned:
                variant = self._variant(params)
                recipe = self._recipe_of(variant)
                given, cells = (self._fold, self._plan.datasets), []
                for seed, fold in self._blocks:
                    held = override(recipe, {"training.validation_fold": fold}) if fold else recipe
                    cells.append(plan_cell(variant.name, held, seed, *given))
                self._planned[key] = cells
            return self._planned[key]

    def _costs(self, recipe: Recipe) -> dict[str, float]:
        """What a training step of a clip costs by objective: FLOPs, and bytes beyond weights."""
        plain, batch = override(recipe, {"training.steps": None}), batch_size(recipe)
        costs = dict[str, float]()
        with self._guard:
            for name in self._spec.objectives:
                if name == "time":
                    costs[name] = summarize_model(recipe, self._classes).flops
                else:
                    costs[name] = step_work(plain, self._classes, batch).rise / batch
        return costs

    def run(self, total: int) -> None:
        """Runs trials until there are enough or the time is up."""
        config, training = self._config, self._recipe.training
        extremes = self._space.extremes()  # all are planned before anything is trained
        dearest = [self._variant(params) for params in extremes]
        check_budgets(self._study, dearest, self._clips, self._classes)
        cells, *_ = [self._cells(params) for params in extremes]
        self._keys_of_baseline = tuple(cell.key for cell in cells)
        prepare(cells, self._paths, self._plan.datasets, self._console)
        self._costs_of_baseline = self._costs(self._recipe)
        steps, per_epoch = (count(training, self._clips) for count in (total_steps, epoch_steps))
        self._epochs = max(1, round(steps / per_epoch))
        self._trials = Trials(
            partial(open_storage, self._paths.runs, self.name, self._paths.storage),
            f"{self.name}-{self._identity()}",
            self._space,
            self._spec,
            digest([platform.node(), str(self._paths.runs.resolve())]),
            self._plan.record.better or "greater",
            self._epochs,
            self._study.metric,
        )
        minutes, clock, written = config.search_minutes, Stopwatch(), -1
        seconds = inf if minutes is None else 60 * minutes

        def show(ended: int) -> None:
            nonlocal written
            update(max(ended / total, clock.elapsed / seconds), f"{ended} of {total} trials")
            if ended != written:
                self.write()
                written = ended

        limit = "" if minutes is None else f", none begun after {minutes:g} min"
        with stage(self._console, f"Searching: {total} trials{limit}") as update:
            workers = parallel_runs(cells * config.workers, config)
            self._trials.optimize(self._objective, total, workers, seconds, show)
        missing, self._running = total - len(self._trials.ended()), self._trials.elsewhere()
        if self._running:
            told = f"Still running in other commands: {self._running} of {total} trials. The "
            told += "last of them confirms the best; if it stopped, give this one again in 3 min."
        elif missing > 0:
            told = f"{missing} of {total} trials have not ended: the same command resumes the "
            told += "search; a larger --search-minutes gives it longer."
        if self._running or missing > 0:
            self._console.print(told, markup=False)

    def _identity(self) -> str:
        """The hash of all that decides a trial's value; others cannot be compared with it."""
        data, space = self._plan.record.fingerprint.digest, [asdict(self._spec), self._fold]
        parts = [key_fields(self._recipe), component_versions(self._recipe), data]
        return digest([*parts, self._study.metric, *space, self._blocks])

    def _objective(self, params: Params, report: Report) -> tuple[float, ...]:
        """Trains the cells of a trial that are not on record; the mean of the metric, and costs."""
        cells, values = self._cells(params), list[float]()
        pruned = self._spec.pruning == "wilcoxon" and not all(map(self._run, cells))
        for number, cell in enumerate(cells):
            run = self._run(cell) or self._train(cell, report)
            if run is None or run.status != "ok":
                raise Failed(run.status if run else None)
            values.append(run.metrics[self._study.metric])
            if pruned:  # of what is on record there is nothing to save
                report(values[-1], number)
        return fmean(values), *self._ratios(cells[0].recipe).values()

    def _ratios(self, recipe: Recipe) -> dict[str, float]:
        base = self._costs_of_baseline
        return {name: cost / base[name] for name, cost in self._costs(recipe).items()}

    def _run(self, cell: PlannedCell) -> RunRecord | None:
        """The record of a cell; read once."""
        if cell.key not in self._runs and (run := self._store.run(cell.key)) is not None:
            self._runs[cell.key] = run
        return self._runs.get(cell.key)

    def _train(self, cell: PlannedCell, report: Report) -> RunRecord | None:
        """Trains a cell; its metric by epoch can end the trial."""
        told, watched = 0, self._spec.pruning == "hyperband"

        def watch(values: Sequence[float], epochs: float) -> None:
            """Reports the epochs that are new, in units of the baseline's, which cost as much."""
            nonlocal told
            for epoch in range(told + 1, len(values) + 1):
                told, step = epoch, int(epoch * self._epochs / epochs)
                if step > int((epoch - 1) * self._epochs / epochs):
                    report(values[epoch - 1], step)

        def progress(share: float, text: str) -> None:
            if self._trials.stopped.is_set():
                raise SystemExit
            if watched:
                watch(*validated_epochs(self._store.folder(cell.key)))

        config = replace(self._config, workers=1)
        try:
            run_cells([replace(cell, watched=watched)], self._paths, config, progress)
            run = self._run(cell)
            if watched and run is not None and run.status == "ok":
                curve = run.curves.get(f"inner/{self._study.metric}", ())
                watch(curve, len(curve))
        except Pruned:
            clear(self._paths, self._config, cell.key)
            raise
        return run

    def _history(self) -> list[TrialRecord]:
        """The trials that ended, without interrupted ones."""
        history: list[TrialRecord] = []
        first: dict[tuple[str, ...], int] = {}
        for number, trial in enumerate(self._trials.ended()):
            params = dict(trial.params)
            cells, value = self._cells(params), trial.values[0] if trial.values else None
            cell, keys = cells[0], tuple(cell.key for cell in cells)
            ended = "pruned" if trial.state.name == "PRUNED" else "ok"
            status = trial.user_attrs.get("status", ended)
            known = number if status == "pruned" else first.setdefault(keys, number)
            runs = [run for run in map(self._run, cells) if run] if known == number else []
            curve = trial.intermediate_values.values() if status == "pruned" and not runs else ()
            dropped = cell.summary.patchout.get("rate", 0.0)
            history.append(
                TrialRecord(
                    number=number,
                    kind=params["kind"],
                    rate=params.get("rate", dropped),
                    patchout=cell.recipe.patchout,
                    tokens=cell.summary.tokens,
                    keys=keys,
                    status=status,
                    value=None if status == "pruned" else value,
                    repeats=None if known == number else known,
                    seconds=round(sum(sum(run.clocks.values()) for run in runs), 3),
                    params=params,
                    costs=self._ratios(cell.recipe),
                    curve=tuple(curve),
                )
            )
        return history

    def record(self, best: StudyPlan | None = None) -> SearchRecord:
        """The record of the search so far, and of the study that confirms it."""
        study, baseline = self._study, self._baseline.name
        history = self._history()
        tried = {setting_name(trial.params) for trial in history}
        names = [v.name for v in best.study.variants if v.name != baseline] if best else []
        record = SearchRecord(
            name=self.name,
            question=f"Which patchout suits {baseline!r} of {study.name}?",
            metric=study.metric,
            better=self._plan.record.better or "greater",
            baseline=baseline,
            recipe=self._recipe,
            kinds=self._spec.kinds,
            rates=(),
            fold=self._fold,
            seeds=self._seeds,
            fingerprint=self._plan.record.fingerprint,
            trials=tuple(history),
            confirmed=tuple(name for name in names if name in tried),
            default=next((name for name in names if name not in tried), ""),
            confirmation_seeds=study.seeds if best else (),
            space=self._space.describe(),
            budget=self._spec.budget,
            objectives=self._spec.objectives,
            pruning=self._spec.pruning,
            command=typed_command(),
        )
        return replace(record, importance=importance(record))

    def write(self, best: StudyPlan | None = None) -> SearchRecord:
        """Writes the record."""
        record = self.record(best)
        with hold(self._paths.runs, STUDIES):
            write_document(record, self._paths.runs)
        return record

    def confirmation(self) -> StudyPlan | None:
        """The study of the best settings, the baseline, and the study's first variant that drops.

        They are trained on all training clips for the budget of the search, with the study's seeds,
        which the search did not use. Of a data set with folds only the fold that it held out is
        tested. What an earlier call confirmed stays in the study. None if no setting but the
        baseline succeeded, or other commands still run trials.
        """
        source, record, own = self._plan.study, self.record(), self._keys_of_baseline
        others = [trial for trial in record.best if trial.keys != own]
        if self._running or not others:
            return None
        old = study_on_record(self.name, self._store)
        known = [variant.name for variant in old.variants] if old is not None else []
        leaders = record.front[:CONFIRMED] if record.objectives else record.best[:1]
        trials = {setting_name(trial.params): trial for trial in leaders if trial.keys != own}
        best = next(iter(trials), None)
        trials |= {n: t for t in others if (n := setting_name(t.params)) in known}
        variants = [self._baseline, *(self._variant(trial.params) for trial in trials.values())]
        drops = (v.name for v in self._plan.stored_record.variants if v.patchout.get("dropped"))
        declared = (source.variant(name) for name in drops if name != self._baseline.name)
        default = next((variant for variant in declared if not variant.reference), None)
        if default is not None and default.name not in known:  # unless it was found as well
            given, *found = (source.recipe(v) for v in (default, *variants[1:]))
            default = None if any(is_same(given, r, self._classes) for r in found) else default
        variants += [replace(default, budget=1.0, shares=None)] if default is not None else []
        if len(variants) < 2:
            return None
        study = replace(
            source,
            name=self.name,
            question=f"Does the best of the search beat {self._baseline.name!r}?"
            if best
            else f"Is {self._baseline.name!r} the best on the test split too?",
            variants=tuple(variants),
            folds=None if self._fold is None else (self._fold,),
            contrasts={"the best and the default": pairwise(best, default.name)}
            if default is not None and best is not None
            else {},
            tune=None,
            shared=self._spec.budget,
            looks=(),
        )
        return join_record(self._expanded(study), self._store, lambda s: self._expanded(s).record)

    def _expanded(self, study: Study) -> StudyPlan:
        notebook = (
            "The best of a search. The search chose by a split cut from the training clips; here "
            "it is trained anew on all training clips, with seeds that the search did not use "
            f"({', '.join(map(str, self._study.seeds))}), and tested."
        )
        plan = plan_study(study, self._plan.datasets, notebook=notebook)
        record = replace(plan.record, looks=(max(len(study.seeds), CONFIRMING),))
        return replace(plan, record=record, stored_record=record)
