"""Commands that run a study: run, search, status."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from passt_bench.cli import options
from passt_bench.cli.options import app, argument, asks_for_study, console, flag, option, print_json

if TYPE_CHECKING:
    from passt_bench.records.run import StudyRecord
    from passt_bench.records.store import Store
    from passt_bench.runner.request import Paths, StudyRequest


@app.command()
@asks_for_study
def run(
    request: "StudyRequest",
    paths: "Paths",
    workers: options.Workers = options.CORES,
    per_gpu: options.PerGpu = 1,
    retry: Annotated[
        list[str] | None, option("STATUS", "Statuses to retry, e.g. oom,error.")
    ] = None,
    run_timeout: options.RunTimeout = None,
    memory: options.Memory = None,
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
        bool | None,
        flag(
            "--keep-models/--no-models",
            "Save all trained models with their records, or none; by default one per variant.",
        ),
    ] = None,
    curves: options.Curves = False,
    until_decided: Annotated[
        bool, flag("--until-decided", "Run only as many of the study's looks as verdicts take.")
    ] = False,
    part: Annotated[
        str | None,
        option("K/N", "Only this part of the runs, e.g. 2/3; for another folder or machine each."),
    ] = None,
    dask: Annotated[
        str | None, option("ADDRESS", "Train on the workers of this Dask scheduler.")
    ] = None,
    cost: Annotated[bool, typer.Option(help="Measure time and memory of training steps.")] = True,
    remeasure: Annotated[
        bool, flag("--remeasure", "Measure costs again, even if already measured.")
    ] = False,
    track: options.Track = True,
    reports: options.Reports = None,
    quiet: options.Quiet = False,
) -> None:
    """Train and evaluate what a study still lacks, measure its costs, and write its page."""
    from passt_bench.runner.request import RunConfig

    paths = replace(paths, pages=reports)
    config = RunConfig(
        workers=workers,
        per_gpu=per_gpu,
        fresh_processes=fresh_processes,
        retry=options.statuses(retry),
        timeout=run_timeout,
        memory=max(1, round(memory * 2**30)) if memory is not None else None,
        checkpoint_seconds=checkpoint_seconds,
        keep_checkpoints=keep_checkpoints,
        keep_models=keep_models,
        curves=curves,
        until_decided=until_decided,
        part=options.part_of(part),
        dask=dask,
        cost=cost and part is None,  # costs are measured once, where the parts come together
        remeasure=remeasure,
        track=track,
    )
    file = options.load_file(request, paths)
    from passt_bench.study_run import run_study

    if not run_study(file, request, config, paths, console):
        raise typer.Exit(1)


@app.command()
def train(
    data: Annotated[str, option("NAME=DIR", "A data set; NAME alone if in PASST_BENCH_DATA.")],
    model: Annotated[
        str | None,
        argument(
            "MODEL[:FIELD=VALUE,…]",
            "A model, optionally with changed fields, e.g. passt_s:stride=16; by default that of "
            "--from, or passt_micro.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        option("MODEL", "Weights to start from: a file, a kept model or published ones.", "--from"),
    ] = None,
    patchout: options.Dropped = None,
    seconds: Annotated[float, option("SECONDS", "Clip length.", min=0.1)] = 10.0,
    epochs: Annotated[int, option("N", "Passes over the training clips.", min=1)] = 20,
    seeds: Annotated[int, option("N", "Number of runs.", min=1)] = 1,
    folds: Annotated[int | None, option("N", "Number of folds (the first N).")] = None,
    sets: options.Sets = None,
    device: options.Device = "cpu",
    name: Annotated[str | None, option("NAME", "Name in records and reports.")] = None,
    workers: options.Workers = options.CORES,
    curves: options.Curves = False,
    track: options.Track = True,
    runs: options.NewRuns = options.RUNS,
    reports: options.Reports = None,
    quiet: options.Quiet = False,
) -> None:
    """Train one model on your recordings, or fine-tune it, and keep it."""
    from passt_bench.runner.datasets import Datasets
    from passt_bench.runner.kept_models import find_model
    from passt_bench.runner.request import Paths, RunConfig, StudyRequest, data_folders
    from passt_bench.runner.studies import StudyFile
    from passt_bench.runner.train import note_on_epoch, train_study
    from passt_bench.spec.key import plain_name
    from passt_bench.spec.study import parse_assignments, parse_patchout
    from passt_bench.study_run import run_study

    kind, paths = data.partition("=")[0], Paths(runs, data_folders([data], True), pages=reports)
    datasets = Datasets(paths)
    study = train_study(
        name and plain_name(name, field="--name"),  # refused before data are read
        model,
        kind,
        datasets,
        checkpoint=find_model(start, runs, "--from") if start else None,
        patchout=parse_patchout(patchout),
        overrides=parse_assignments(sets or []) | {"engine.device": device},
        seconds=seconds,
        epochs=epochs,
        seeds=seeds,
    )
    config = RunConfig(workers=workers, keep_models=True, curves=curves, cost=False, track=track)
    request = StudyRequest(study.name, folds=folds)
    done = run_study(StudyFile(study, ""), request, config, paths, console, datasets)
    if note := note_on_epoch(study.base, datasets):
        console.print(note)
    if not done:
        raise typer.Exit(1)


@app.command()
@partial(asks_for_study, without=("variants", "no_baseline"))
def search(
    request: "StudyRequest",
    paths: "Paths",
    workers: options.Workers = options.CORES,
    per_gpu: options.PerGpu = 1,
    trials: Annotated[int, option("N", "Trials in total, earlier ones included.", min=1)] = 40,
    search_minutes: Annotated[
        float,
        option("MINUTES", "Time after which no trial begins; the confirmation follows.", min=0.01),
    ] = 2.5,
    storage: Annotated[
        str | None, option("URL", "Optuna storage; by default a journal in --runs.")
    ] = None,
    track: options.Track = True,
    reports: options.Reports = None,
    quiet: options.Quiet = False,
) -> None:
    """Search for the best settings on a validation split, then confirm them on the test split."""
    file = options.load_file(request, paths)
    from passt_bench.records.run import count_of
    from passt_bench.report.build import build_study
    from passt_bench.report.terminal import print_result
    from passt_bench.runner.executor import fork_server
    from passt_bench.runner.plan import plan_request
    from passt_bench.runner.request import RunConfig
    from passt_bench.runner.search import search as explore
    from passt_bench.runner.tracking import regular_sync
    from passt_bench.study_run import run_plan

    # A tuned study is searched as it is before.
    file, paths = replace(file, study=replace(file.study, tune=None)), replace(paths, pages=reports)
    request = replace(request, variants=(file.study.baseline,))  # the others are not trained
    study = plan_request(file, request, paths, avoid_taken_name=False)
    paths = replace(paths, storage=storage)
    config = RunConfig(
        workers=workers, per_gpu=per_gpu, search_minutes=search_minutes, cost=False, track=track
    )
    fork_server()  # before the one of the syncs, which would lack what runs import
    with regular_sync(paths.runs) if track else nullcontext():
        record, best = explore(study, trials, config, paths, console)
    if best is None:
        page = build_study(record.name, paths.runs, paths.reports)
        print_result(console, None, record)
        console.print(f"Page: {page}")
    done = best is None or run_plan(best, config, paths, console)
    if failed := sum(trial.status not in ("ok", "pruned") for trial in record.settings):
        console.print(f"{count_of(failed, 'trial')} failed; see the report page.")
    if failed or not done:
        raise typer.Exit(1)


@app.command()
@asks_for_study
def status(
    request: "StudyRequest",
    paths: "Paths",
    study: Annotated[
        str, argument("STUDY", "A study, or its file; by default those on record are listed.")
    ] = "",
    json: options.Json = False,
    runs: options.Runs = options.RUNS,
) -> None:
    """Show which runs of a study are done, failed (and why), running, interrupted or missing."""
    if not study:
        print_record(runs, json=json)
        return
    from passt_bench.records.store import Store
    from passt_bench.runner.request import apply_overrides
    from passt_bench.runner.run_status import chosen, named_on_record, recorded_study

    store = Store(runs)
    if named := named_on_record(request, store):
        if print_status(chosen(named, request), len(named.variants), store, json=json):
            console.print(f"For the rest: {named.command}")
        return
    file = options.load_file(request, paths)
    declared = apply_overrides(file.study, request)
    record = recorded_study(declared, request, store)
    notes: tuple[str, ...] = ()
    rest, command = "For the rest", "run"
    if record is None:
        from passt_bench.runner.plan import plan_request

        plan = plan_request(file, request, paths)
        record, notes = plan.record, plan.notes
        rest, command = "How long the rest takes", "plan"
    if print_status(record, len(declared.variants), store, notes, json=json):
        console.print(f"{rest}: {shlex.join(['passt-bench', command, *sys.argv[2:]])}")


def print_record(runs: Path, *, json: bool) -> None:
    """Prints the studies and searches on record in a folder."""
    from passt_bench.records.store import Store
    from passt_bench.runner.run_status import list_record

    rows = list_record(Store(runs))
    if json or not rows:
        nothing = f"Nothing is on record in {runs} yet; try passt-bench run quick."
        print_json(rows) if json else console.print(nothing)
        return
    table, texts = Table("name", "runs done", "last"), {None: "cannot be read", 0: "only costs"}
    for row in rows:
        done = texts.get(row["planned"], f"{row['done']} of {row['planned']}")
        table.add_row(row["name"] + " (search)" * (row["kind"] == "search"), done, row["date"])
    console.print(table)
    place = f" --runs {runs}" if runs != options.RUNS else ""
    console.print(f"Of one of them: passt-bench status NAME{place}, passt-bench show NAME{place}")


def print_status(
    study: "StudyRecord",
    of_variants: int,
    store: "Store",
    notes: Sequence[str] = (),
    *,
    json: bool = False,
) -> bool:
    """Prints runs by state, failures, notes and a summary; whether runs or costs are missing.

    As JSON it prints the same, and returns False, because nothing may follow.
    """
    from passt_bench.records.run import count_of
    from passt_bench.records.store import SEARCHES, document_names
    from passt_bench.runner.run_status import STATES, cost_statuses, count_runs, variant_statuses

    variants, costs = variant_statuses(study, store), cost_statuses(study, store)
    # Nobody measures the only model of a study, which there is nothing to compare with, or those
    # of a search.
    alone = of_variants == 1 and len(study.seeds) > 0
    never = alone or study.name in document_names(store.root / SEARCHES)
    unmeasured = 0 if never else list(costs.values()).count(None)
    missing = unmeasured > 0 or not all(store.has(c.key) for v in study.variants for c in v.cells)
    text = " ".join((*notes, count_runs(study, of_variants, store)))
    if unmeasured:
        text += f" The cost of {count_of(unmeasured, 'variant')} is not measured yet."
    if json:
        rows = [
            {"variant": v.variant, "runs": v.cells, "retried": v.retried, "failures": v.failures}
            for v in variants
        ]
        print_json({"study": study.name, "summary": text, "variants": rows, "costs": costs})
        return False
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
    console.print(text)
    return missing
