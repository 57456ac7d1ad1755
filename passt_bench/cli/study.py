"""Commands about studies: list, plan, run, search, status."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from passt_bench.cli.options import (
    CORES,
    RUNS,
    Memory,
    PerGpu,
    Reports,
    Runs,
    RunTimeout,
    Track,
    Workers,
    app,
    argument,
    asks_for_study,
    console,
    flag,
    option,
    statuses,
)
from passt_bench.errors import InputError, check_known

if TYPE_CHECKING:
    from pathlib import Path

    from passt_bench.records.run import StudyRecord
    from passt_bench.records.store import Store
    from passt_bench.runner.plan import StudyPlan
    from passt_bench.runner.prediction import Predictor
    from passt_bench.runner.request import Paths, StudyRequest
    from passt_bench.runner.studies import StudyFile


@app.command("list")
def list_(
    what: Annotated[
        str, argument("WHAT", "studies, models, frontends, datasets, patchout, metrics or figures.")
    ] = "studies",
) -> None:
    """List the available studies, models, data sets and other components."""
    from passt_bench import registry
    from passt_bench.runner.studies import study_names, summary

    kinds = ("models", "frontends", "datasets", "patchout", "metrics", "figures")
    tables = dict(zip(kinds, registry.ALL, strict=True))
    check_known(what, ("studies", *tables), "cannot be listed", field="WHAT")
    if what != "studies":
        rows = [(item.name, item.summary) for item in tables[what].all()]
    else:
        rows = []
        for name in study_names():
            try:
                rows.append((name, summary(name)))
            except InputError as error:  # a broken file of the user does not hide the others
                rows.append((name, f"cannot be loaded: {error}"))
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {text}")


@app.command()
@asks_for_study
def plan(
    request: "StudyRequest",
    paths: "Paths",
    workers: Workers = CORES,
    per_gpu: PerGpu = 1,
    gpu: Annotated[
        str | None, option("NAME", "Predict costs on this GPU from its data sheet, e.g. H100.")
    ] = None,
    utilization: Annotated[
        float, option("FRACTION", "Share of the GPU's peak that is assumed.", min=0.01, max=1)
    ] = 0.5,
    calibrate: Annotated[
        bool, flag("--calibrate", "Measure this machine for predictions, which --runs keeps.")
    ] = False,
) -> None:
    """Show what a study would run and how long it would take, without running it."""
    file = _load(request, paths)
    from passt_bench.analysis import noise
    from passt_bench.paper import published_numbers
    from passt_bench.records.store import Store
    from passt_bench.runner.estimates import batch_size, summarize_model
    from passt_bench.runner.plan import plan_request
    from passt_bench.runner.prediction import Predictor
    from passt_bench.runner.request import RunConfig
    from passt_bench.runner.studies import shipped_folder
    from passt_bench.study_run import describe, describe_data, warn_of_unused_cuda

    config = RunConfig(workers=workers, per_gpu=per_gpu)
    predictor = Predictor(paths.runs, gpu, utilization)
    study = plan_request(file, request, paths, listed=True)
    if calibrate:
        _calibrate(study, paths.runs)
    longest = max(len(word) for variant in study.record.variants for word in variant.name.split())
    names = Column("variant", min_width=min(longest, 16), overflow="fold")
    of_runs = ("runs", "min\nper run") if study.record.seeds else ("clips\nper step",)
    published = published_numbers(file.study.name)
    epochs = {v.name: v.spent.get("epochs", 0.0) for v in study.record.variants}
    spent = ("epochs",) if len({round(n, 2) for n in epochs.values()}) > 1 else ()
    heads = ("grid", "patches\ndropped", "tokens", "GFLOP\nper clip", *spent, *of_runs)
    table = Table(names, *heads, *(["pub-\nlished"] if published else []))
    classes = len(study.record.fingerprint.classes)
    for variant in study.record.variants:
        runs, seconds = study.expected(variant, predictor)
        dropped, schedule = variant.patchout.get("rate"), variant.recipe.patchout.schedule
        suffix = f", {schedule}" if schedule != "constant" else ""
        table.add_row(
            variant.name,
            f"{variant.grid[0]} x {variant.grid[1]}" if variant.grid else "-",
            f"{100 * dropped:.1f} %{suffix}" if dropped is not None else "-",
            f"{variant.tokens} of {variant.tokens_full}" if variant.grid else "-",
            f"{summarize_model(variant.recipe, classes).flops / 1e9:.3f}",
            *([f"{epochs[variant.name]:.1f}"] if spent else []),
            str(runs or batch_size(variant.recipe)),
            *([f"{seconds / 60:.2f}".replace("nan", "-")] if runs else []),
            *([f"{published[variant.name]:g}"] if published else []),
        )
    console.print(table)
    _print_predictions(study, predictor)
    here = study.absent is not None and study.absent.name in paths.data  # only weights are not
    if study.record.seeds and not here:
        console.print(describe_data(study.record.fingerprint, study.absent))
    if study.record.seeds:
        kept = [Store(paths.runs), Store(shipped_folder().parent / "reports" / noise.STUDY)]
        console.print(noise.design_sentence(study.record, noise.known_floor(study.record, kept)))
    console.print(describe(study, Store(paths.runs), config, predictor=predictor))
    if paths.runs != RUNS and not paths.runs.exists():
        console.print(f"{paths.runs} does not exist yet; a run creates it.")
    warn_of_unused_cuda([study], request, console)


def _calibrate(study: "StudyPlan", runs: "Path") -> None:
    """Calibrates this machine for the engines of a study that it is not calibrated for."""
    from passt_bench.console import stage
    from passt_bench.report.provenance import engine_text
    from passt_bench.runner.prediction import calibrate, kept_calibration

    for engine in dict.fromkeys(variant.recipe.engine for variant in study.record.variants):
        if kept_calibration(runs, engine) is None:
            with stage(console, f"Calibrating: {engine_text(engine)}") as update:
                calibrate(runs, engine, update)


def _print_predictions(study: "StudyPlan", predictor: "Predictor") -> None:
    """Prints the predicted cost of a step of each variant, and the largest batch that fits."""
    from passt_bench.runner.estimates import batch_size

    classes = len(study.record.fingerprint.classes)
    table = Table("variant", "ms\nper step", "clips\nper s", "MB", "largest\nbatch")
    for variant in study.record.variants:
        recipe = variant.recipe
        found = predictor.predict(recipe, classes)
        if found is None:
            text = "Rough: not calibrated on this machine; --calibrate does it in half a minute."
            if predictor.on_gpu(recipe.engine):
                text = f"No data sheet of the GPU with its peak in {recipe.engine.precision}."
            return console.print(text)
        table.add_row(
            variant.name,
            f"{1000 * found.seconds:.1f}",
            f"{batch_size(recipe) / found.seconds:.1f}",
            f"{found.bytes / 1e6:.0f}",
            str(predictor.largest_batch(recipe, classes)),
        )
    console.print(f"Predicted cost of a training step, {predictor.basis(recipe.engine)}:")
    console.print(table)
    recipes = [variant.recipe for variant in study.record.variants]
    if any(predictor.on_gpu(r.engine) and r.engine.attention == "materialised" for r in recipes):
        text = "An attention matrix in memory makes a step up to twice as long as predicted here."
        console.print(text)
    return None


def _load(request: "StudyRequest", paths: "Paths") -> "StudyFile":
    """The requested study; refuses a wrong name or field before slow imports (of PyTorch)."""
    from passt_bench.records.store import Store
    from passt_bench.runner.request import apply_overrides
    from passt_bench.runner.studies import load_study

    file = load_study(request.study, Store(paths.runs))
    apply_overrides(file.study, request)
    return file


@app.command()
@asks_for_study
def run(
    request: "StudyRequest",
    paths: "Paths",
    workers: Workers = CORES,
    per_gpu: PerGpu = 1,
    retry: Annotated[
        list[str] | None, option("STATUS", "Statuses to retry, e.g. oom,error.")
    ] = None,
    run_timeout: RunTimeout = None,
    memory: Memory = None,
    checkpoint_seconds: Annotated[
        float, option("SECONDS", "Time between checkpoints.", min=0)
    ] = 20.0,
    fresh_processes: Annotated[
        bool, flag("--fresh-processes", "Start a process for each run.")
    ] = False,
    keep_checkpoints: Annotated[
        bool, flag("--keep-checkpoints", "Keep the checkpoints of finished runs.")
    ] = False,
    keep_models: Annotated[
        bool, flag("--keep-models", "Save each trained model with its record.")
    ] = False,
    until_decided: Annotated[
        bool, flag("--until-decided", "Run only as many of the study's looks as verdicts take.")
    ] = False,
    cost: Annotated[bool, typer.Option(help="Measure time and memory of training steps.")] = True,
    remeasure: Annotated[
        bool, flag("--remeasure", "Measure costs again, even if already measured.")
    ] = False,
    track: Track = True,
    reports: Reports = None,
) -> None:
    """Train and evaluate what a study still lacks, measure its costs, and write its page."""
    from passt_bench.runner.request import RunConfig

    paths = replace(paths, pages=reports)
    config = RunConfig(
        workers=workers,
        per_gpu=per_gpu,
        fresh_processes=fresh_processes,
        retry=statuses(retry),
        timeout=run_timeout,
        memory=max(1, round(memory * 2**30)) if memory is not None else None,
        checkpoint_seconds=checkpoint_seconds,
        keep_checkpoints=keep_checkpoints,
        keep_models=keep_models,
        until_decided=until_decided,
        cost=cost,
        remeasure=remeasure,
        track=track,
    )
    file = _load(request, paths)
    from passt_bench.study_run import run_study

    if not run_study(file, request, config, paths, console):
        raise typer.Exit(1)


@app.command()
@partial(asks_for_study, without=("variants", "no_baseline"))
def search(
    request: "StudyRequest",
    paths: "Paths",
    workers: Workers = CORES,
    per_gpu: PerGpu = 1,
    trials: Annotated[int, option("N", "Trials in total, earlier ones included.", min=1)] = 40,
    search_minutes: Annotated[
        float, option("MINUTES", "Time limit of the whole search, confirmation included.", min=0.1)
    ] = 4.0,
    storage: Annotated[
        str | None, option("URL", "Optuna storage; by default a journal in --runs.")
    ] = None,
    track: Track = True,
    reports: Reports = None,
) -> None:
    """Search for the best patchout on a validation split, then confirm it on the test split."""
    file = _load(request, paths)
    from passt_bench.console import Stopwatch
    from passt_bench.report.build import build_study
    from passt_bench.runner.executor import fork_server
    from passt_bench.runner.plan import plan_request
    from passt_bench.runner.request import RunConfig, typed_command
    from passt_bench.runner.search import search as explore
    from passt_bench.runner.tracking import regular_sync, updating_mlflow

    # Trials differ in patchout alone, so that a tuned study is searched as it is before.
    file = replace(file, study=replace(file.study, tune=None))
    clock, paths = Stopwatch(), replace(paths, pages=reports)
    study = plan_request(file, request, paths, avoid_taken_name=False)
    paths = replace(paths, storage=storage)
    config = RunConfig(workers=workers, per_gpu=per_gpu, search_minutes=search_minutes)
    fork_server()  # before the one of the syncs, which would lack what runs import
    with regular_sync(paths.runs) if track else nullcontext():
        record, failed = explore(study, trials, config, paths, console, command=typed_command())
    with updating_mlflow(paths.runs, clock, console) if track else nullcontext():
        page = build_study(record.name, paths.runs, paths.reports)
    console.print(f"Page: {page}")
    if failed:
        console.print(f"{failed} runs failed; see the report page.")
        raise typer.Exit(1)


@app.command()
@asks_for_study
def status(
    request: "StudyRequest",
    paths: "Paths",
    runs: Runs = RUNS,
) -> None:
    """Show which runs of a study are done, failed (and why), running, interrupted or missing."""
    from passt_bench.records.store import Store
    from passt_bench.runner.request import apply_overrides
    from passt_bench.runner.run_status import chosen, named_on_record, recorded_study

    store = Store(runs)
    if named := named_on_record(request, store):
        if print_status(chosen(named, request), len(named.variants), store):
            console.print(f"For the rest: {named.command}")
        return
    file = _load(request, paths)
    study = apply_overrides(file.study, request)
    record = recorded_study(study, request, store)
    notes: tuple[str, ...] = ()
    if record is None:
        from passt_bench.runner.plan import plan_request

        plan = plan_request(file, request, paths)
        record, notes = plan.record, plan.notes
    if print_status(record, len(study.variants), store, notes):
        command = shlex.join(["passt-bench", "plan", *sys.argv[2:]])
        console.print(f"How long the rest takes: {command}")
    return


def print_status(
    study: "StudyRecord", of_variants: int, store: "Store", notes: Sequence[str] = ()
) -> bool:
    """Prints runs by state, failures, notes and a summary; whether runs or costs are missing."""
    from passt_bench.records.run import count_of
    from passt_bench.runner.run_status import STATES, cost_statuses, count_runs, variant_statuses

    variants, costs = variant_statuses(study, store), cost_statuses(study, store)
    retried = any(variant.retried for variant in variants)
    table = Table("variant", *STATES, *(["retried"] if retried else []))
    if not study.seeds:
        variants, table = [], Table("variant", "cost")
        for name, status in costs.items():
            table.add_row(name, {None: "missing", "ok": "done"}.get(status, status))
    for variant in variants:
        counts = [variant.cells[state] for state in STATES]
        counts += [variant.retried] if retried else []
        table.add_row(variant.variant, *map(str, counts))
    console.print(table)
    for line in (line for variant in variants for line in variant.failures):
        console.print(line)
    text = " ".join((*notes, count_runs(study, of_variants, store)))
    if unmeasured := list(costs.values()).count(None):
        text += f" The cost of {count_of(unmeasured, 'variant')} is not measured yet."
    console.print(text)
    return unmeasured > 0 or not all(store.has(c.key) for v in study.variants for c in v.cells)
