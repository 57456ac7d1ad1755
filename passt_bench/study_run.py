"""Runs a study from its file to its page: plans, trains, measures and reports."""

from __future__ import annotations

import filecmp
import shlex
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path

import torch
from rich.console import Console

from passt_bench.analysis.frame import measured_arms
from passt_bench.analysis.noise import clip_sentence
from passt_bench.analysis.results import begun, load_results
from passt_bench.console import Stopwatch, aside, duration, stage
from passt_bench.errors import InputError
from passt_bench.records.files import to_json
from passt_bench.records.run import STATUSES, count_of
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Store
from passt_bench.runner.budget import describe_tuning, step_ratios
from passt_bench.runner.cells import clear
from passt_bench.runner.cluster import train_cells
from passt_bench.runner.cost import CostPlan, estimate_cost_time, measure_cost, plan_cost
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.executor import (
    check_device,
    disk_bytes,
    feature_seconds,
    fork_server,
    parallel_runs,
)
from passt_bench.runner.kept_models import describe_models, kept_models, with_kept_models
from passt_bench.runner.plan import StudyPlan, describe_data, missing_cells, plan_request
from passt_bench.runner.planned_cell import PlannedCell
from passt_bench.runner.prediction import Predictor
from passt_bench.runner.request import Paths, RunConfig, StudyRequest
from passt_bench.runner.run_status import COSTS, PROGRESS, STUDIES, count_runs, hold, is_running
from passt_bench.runner.studies import StudyFile, study_difference, study_on_record
from passt_bench.runner.tracking import regular_sync, updating_mlflow
from passt_bench.spec.study import INTERVAL_FROM, Study, parse_assignments

_MODELS = 12  # kept models that are named at the end
# About what a command takes that trains nothing, on two free cores.
_START_SECONDS, _MLFLOW_SECONDS = 10.0, 10.0


def run_study(
    file: StudyFile,
    request: StudyRequest,
    config: RunConfig,
    paths: Paths,
    console: Console,
    datasets: Datasets | None = None,
) -> bool:
    """Plans a study, runs its missing runs and renders its page; whether everything is done.

    Data sets that are open already may be given.
    """
    plan_with = partial(plan_request, file, paths=paths, datasets=datasets or Datasets(paths))
    if not (file.study.seeds or config.cost):
        problem = "this study measures only costs, so nothing remains to be done"
        raise file.study.error(problem, "--no-cost", file.study.name, "Leave it out.")
    looks = _looks(file.study, request) if config.until_decided else (request.seeds,)
    for seeds in looks:
        plan = _plan(plan_with, replace(request, seeds=seeds), config, paths, console)
        if seeds == looks[0]:
            warn_of_unused_cuda(plan, request, console)
        done = run_plan(plan, config, paths, console)
        if seeds == looks[-1] or not (names := _undecided(plan, paths, seeds)):
            break
        aside(console).print(f"Undecided with {seeds} seeds: {names}.", markup=False)
    return done


def _plan(
    plan_with: Callable[..., StudyPlan],
    request: StudyRequest,
    config: RunConfig,
    paths: Paths,
    console: Console,
) -> StudyPlan:
    """The plan; where equal seconds are shared, the steps are measured first, once and for all."""
    plan, store, ratios = plan_with(request), Store(paths.runs), None
    if plan.study.shared == "seconds" and not plan.record.step_ratios:
        sessions = measure(plan, config, store, console)
        ratios = step_ratios(plan.record, sessions)
        if ratios is None:
            problem = "the steps were not measured, which decide how long each variant is trained"
            remedy = "Run it without --no-cost and --no-baseline."
            raise plan.study.error(problem, "shared", "seconds", remedy)
        plan = plan_with(request, ratios=ratios)
    if todo := missing_cells(plan.tuning, store, config.retry):
        check_device(plan)
        aside(console).print(describe_tuning(plan.study, todo), markup=False)
        train_cells(todo, plan.datasets, config, paths, console)
        if missing_cells(plan.tuning, store):
            problem, remedy = "the tuning did not finish", "Run the same command to resume."
            raise plan.study.error(problem, "tune", count_of(len(todo), "run"), remedy)
        plan = plan_with(request, ratios=ratios)
    return plan


def _looks(study: Study, request: StudyRequest) -> tuple[int, ...]:
    if request.seeds is not None:
        problem = "the study's looks decide the number of seeds"
        raise study.error(problem, "--seeds", request.seeds, "Leave out one of the two options.")
    if not study.looks:
        remedy = "Plan them in the study file, e.g. looks=(5, 7, 10), before the first run."
        raise study.error("the study has no looks to go through", "--until-decided", (), remedy)
    return study.looks


def _undecided(plan: StudyPlan, paths: Paths, seeds: int | None) -> str:
    """What is undecided, of what answers the question; empty before the look has been reached.

    Looks other than those of the first run are refused (raises `InputError`).
    """
    results = begun(load_results(plan.study.name, [Store(paths.runs)]))
    if (planned := results.study.judged_at) != plan.record.looks:
        remedy = "Run it under another --name, with fresh seeds."
        raise plan.study.error("it was begun with other looks", "looks", planned, remedy)
    scale = {variant.name for variant in plan.study.variants if variant.reference}
    found = [*results.comparisons, *(c for family in results.declared.values() for c in family)]
    names = [c.variant for c in found if c.verdict == "undecided" and c.variant not in scale]
    return ", ".join(names) if results.look == seeds else ""


def run_plan(plan: StudyPlan, config: RunConfig, paths: Paths, console: Console) -> bool:
    """Trains, measures and reports a planned study, see `run_study`; prints what failed."""
    # Slow (1 s), not needed for planning.
    from passt_bench.report.build import build_study, load
    from passt_bench.report.terminal import print_result
    from passt_bench.report.view import study_view

    store, clock, name = Store(paths.runs), Stopwatch(), plan.study.name
    todo = _todo(plan, store, config)
    notes = aside(console)
    notes.print(plan.study.question, markup=False)
    if plan.cells:
        notes.print(describe_data(plan.record.fingerprint), markup=False)
    notes.print(describe(plan, store, config, todo), markup=False)
    if todo:
        if plan.study.variants[1:] and len(plan.stored_record.seeds) < INTERVAL_FROM:
            notes.print(f"A verdict needs {INTERVAL_FROM} seeds: --seeds {INTERVAL_FROM}.")
        notes.print(describe_models(todo), markup=False)
    incomplete = execute_plan(plan, config, paths, console, todo)
    with updating_mlflow(paths.runs, clock, console) if config.track else nullcontext():
        with notes.status("Writing the page"):
            page = _newer_page(name, paths) or build_study(name, paths.runs, paths.reports)
        notes.print(f"Finished in {duration(clock.elapsed)}.", markup=False)
        results, search = load(name, paths.runs, paths.reports)
        assert results is not None
        print_result(console, study_view(results), search)
        console.print(f"Page: {page}", markup=False)
        for sentence in incomplete:
            console.print(sentence, markup=False)
        _print_models(plan, paths, console)
    return not incomplete


def _print_models(plan: StudyPlan, paths: Paths, console: Console) -> None:
    """Prints the names of the models that were kept, and a command for the first."""
    if names := kept_models(plan.record, Store(paths.runs)):
        more = [f"… {len(names) - _MODELS} more"] if len(names) > _MODELS else []
        data = plan.record.fingerprint.dataset
        data += f"={paths.data[data]}" if data in paths.data else ""
        of = f"--checkpoint {shlex.quote(names[0])} --data {shlex.quote(data)}"
        line = f"Models for predict and evaluate, e.g. passt-bench evaluate {of}:"
        console.print(line, markup=False)
        for line in (*names[:_MODELS], *more):
            console.print(f"  {line}", markup=False)


def execute_plan(
    plan: StudyPlan,
    config: RunConfig,
    paths: Paths,
    console: Console,
    todo: Sequence[PlannedCell] | None = None,
) -> list[str]:
    """Trains and measures the missing runs of a planned study (``todo``, if already known).

    MLflow is updated while models are trained, not while costs are measured. Returns the sentences
    of `find_incomplete`; none if everything is done. See also `check_device`.
    """
    store = Store(paths.runs)
    todo = _todo(plan, store, config) if todo is None else todo
    check_device(plan)
    if todo and config.dask is None:
        fork_server()  # imports while features are prepared
    write_study(plan, store)
    remove_leftovers(plan, paths, config, todo)
    with regular_sync(paths.runs, plan.study.name) if config.track and todo else nullcontext():
        train_cells(todo, plan.datasets, config, paths, console)
    sessions = measure(plan, config, store, console)
    return find_incomplete(plan, store, sessions, config.share_of(plan.cells))


def _todo(plan: StudyPlan, store: Store, config: RunConfig) -> list[PlannedCell]:
    """What is to be trained, with the choice of the models that are kept."""
    cells = config.share_of(plan.cells)
    todo = missing_cells(cells, store, config.retry, models=config.keep_models is True)
    return with_kept_models(todo, config.keep_models)


def _newer_page(name: str, paths: Paths) -> Path | None:
    """The page of a study, if it is newer than its records and the code that renders it.

    The records beside it must be those here: another folder of records may share the reports.
    """
    page, store = paths.reports / name / "index.html", Store(paths.runs)
    cells = [cell for variant in store.study(name).variants for cell in variant.cells]
    records = [f"records/{cell.key}/record.json" for cell in cells if store.has(cell.key)]
    same = [f"studies/{name}.json", *records]
    if not page.is_file() or filecmp.cmpfiles(paths.runs, page.parent, same, False)[0] != same:
        return None
    inputs = [paths.runs / "studies" / f"{name}.json", *paths.runs.glob("records/*/record.json")]
    source_files = [path for path in Path(__file__).parent.rglob("*.*") if path.suffix != ".pyc"]
    newest = max(path.stat().st_mtime_ns for path in (*inputs, *source_files))
    return page if page.stat().st_mtime_ns > newest else None


def write_study(plan: StudyPlan, store: Store) -> None:
    """Writes the record of the whole study, even if only some variants are run.

    Raises:
        InputError: another study of this name was started since this one was planned.
    """
    with hold(store.root, STUDIES):
        recorded = study_on_record(plan.stored_record.name, store)
        if recorded is not None and study_difference(plan, recorded) is not None:
            raise InputError(
                "another command just started a study of this name with other settings",
                source=store.root,
                field="name",
                value=plan.stored_record.name,
                remedy="Run the same command again; it will choose another name.",
            )
        stored = plan.stored_record
        if recorded is not None and plan.record != stored:
            asked = replace(recorded, command=stored.command, asked=stored.asked)
            if to_json(asked) == to_json(stored):  # the recorded command covers more variants
                stored = replace(stored, command=recorded.command)
        if recorded is None or to_json(recorded) != to_json(stored):
            store.write_study(stored)


def remove_leftovers(
    plan: StudyPlan, paths: Paths, config: RunConfig, todo: Collection[PlannedCell]
) -> None:
    """Removes the files of runs that were killed after their record was written."""
    store = Store(paths.runs)
    for key in {cell.key for cell in plan.cells} - {cell.key for cell in todo}:
        left = (store.folder(key) / PROGRESS).is_file() and store.has(key)
        if left and not is_running(paths.runs, key):
            clear(paths, config, key)


def measure(
    plan: StudyPlan, config: RunConfig, store: Store, console: Console
) -> list[SessionRecord]:
    """Measures costs of variants, if requested and if the baseline is included.

    Two measurements at once would disturb each other; the second waits for what the first records.

    Returns:
        All sessions on record; none if costs are not measured.
    """
    if not (config.cost and plan.has_baseline):
        return []
    if _cost_plan(plan, config, sessions := store.sessions())[0].all_known:
        return sessions
    waiting = "Another command measures costs in this folder; waiting for its end."
    with hold(store.root, COSTS, lambda: console.print(waiting)):
        costs, variants = _cost_plan(plan, config, sessions := store.sessions())
        if not costs.all_known:
            with stage(console, f"Measuring the cost of {variants}, interleaved") as update:
                sessions += measure_cost(costs, store, update)
    return sessions


def _cost_plan(
    plan: StudyPlan, config: RunConfig, sessions: Sequence[SessionRecord]
) -> tuple[CostPlan, str]:
    """What is to be measured, and the number of variants in words, the baseline included."""
    record, recipes = plan.record, {v.name: v.recipe for v in plan.record.variants}
    costs = plan_cost(
        *(recipes, record.baseline, len(record.fingerprint.classes)),
        sessions=sessions,
        retry=STATUSES if config.remeasure else config.retry,
        published=config.published,
    )
    arms = (costs.baseline, *costs.new)
    return costs, count_of(sum(v.arm in arms for v in record.variants), "variant")


def find_incomplete(
    plan: StudyPlan,
    store: Store,
    sessions: Sequence[SessionRecord],
    cells: Sequence[PlannedCell] | None = None,
) -> list[str]:
    """Sentences about cells (by default all) that failed or did not finish, and unmeasured costs.

    Without its baseline a study has no sessions.
    """
    outcomes = [store.outcome(cell.key) for cell in (plan.cells if cells is None else cells)]
    failed = [end.status for end in outcomes if end is not None and end.status != "ok"]
    measured = measured_arms(plan.record, sessions) if sessions else {}
    unmeasured = sum(arm.status != "ok" for _, arm in measured.values())
    unfinished, found = outcomes.count(None), []
    if failed:
        retry = f"To retry, add --retry {','.join(sorted({*failed}))}."
        found += [f"{count_of(len(failed), 'run')} failed; see the report page. {retry}"]
    if unfinished:
        runs = count_of(unfinished, "run")
        found += [f"{runs} did not finish; run the same command to resume."]
    if unmeasured:
        found += [f"The cost of {count_of(unmeasured, 'variant')} could not be measured."]
    return found


def describe(
    plan: StudyPlan,
    store: Store,
    config: RunConfig,
    todo: Sequence[PlannedCell] | None = None,
    predictor: Predictor | None = None,
) -> str:
    """Sentences about what a command will run (``todo``, if known) and how long that takes."""
    predictor = predictor or Predictor(store.root)
    todo = missing_cells(plan.cells, store, config.retry) if todo is None else todo
    trials = missing_cells(plan.tuning, store)
    tuned = describe_tuning(plan.study, trials)
    first = (*plan.notes, plan.stored_record.cannot_run, tuned)
    text = "".join(f"{sentence} " for sentence in first if sentence)
    if plan.absent:
        each = [plan.expected(variant, predictor) for variant in plan.record.variants]
        runs, hours = sum(n for n, _ in each), sum(n * s for n, s in each) / 3600
        text += f"{plan.record.name}: {count_of(runs, 'run')}"
        if isnan(hours):
            return f"{text}. How long they take is not known; give a GPU's name: --gpu H100."
        return f"{text}, about {hours:.1f} h one after the other, without measuring costs."
    text += count_runs(plan.record, len(plan.study.variants), store, config.retry)
    text += "" if todo or not plan.cells else " Nothing to train."
    if plan.cells and (coarse := clip_sentence(plan.record, _test_clips(plan))):
        text = f"{coarse}\n{text}"
    width = config.per_gpu if predictor.gpu else parallel_runs(todo, config)
    work = sum(cell.seconds(predictor) for cell in (*trials, *todo))
    seconds = work / min(width, len(todo) or 1)
    paths = Paths(store.root)
    seconds += feature_seconds([*trials, *todo], paths, plan.datasets)
    if config.cost and plan.has_baseline:
        sessions = [] if predictor.gpu else store.sessions()
        costs, variants = _cost_plan(plan, config, sessions)
        if not costs.all_known:
            text += f" The cost of {variants}, the baseline included, is to be measured."
            seconds += estimate_cost_time(costs, predictor)
        elif not plan.cells:
            text += " All are measured."
    elif config.cost:
        text += " Costs are not measured: they are ratios to the baseline, which --no-baseline "
        text += "excludes."
    if isnan(seconds):
        return f"{text} How long it takes is not known; for a GPU, give its name: --gpu H100."
    place = " ".join(predictor.gpu.name_parts) if predictor.gpu else "this machine"
    disk = f", and {disk_bytes(todo, paths, config, plan.datasets) / 1e6:.0f} MB of disk"
    total = duration(seconds + _START_SECONDS + _MLFLOW_SECONDS * config.track)
    expected = f"Expected: about {total} in all on {place}{disk if todo else ''}; of this "
    expected += f"{duration(seconds)} to train and measure, the rest to start and to report."
    return f"{text} {expected}" if seconds else text


def _test_clips(plan: StudyPlan) -> int:
    """The number of test clips of one seed."""
    dataset = plan.datasets.get(plan.cells[0].recipe)
    return sum(len(dataset.split(fold)[1]) for fold in plan.record.folds or (None,))


def warn_of_unused_cuda(plan: StudyPlan, request: StudyRequest, console: Console) -> None:
    """Warns that a CUDA device is available and unused, unless a device was chosen."""
    device_chosen = request.device or "engine.device" in parse_assignments(list(request.overrides))
    devices = {variant.recipe.engine.device for variant in plan.record.variants}
    if torch.cuda.is_available() and devices == {"cpu"} and not device_chosen:
        sentence = "A CUDA device is available but not used; to use it, add --device cuda."
        console.print(sentence, style="yellow", markup=False)
