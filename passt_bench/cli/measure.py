"""Commands that measure on this machine: compare, doctor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from passt_bench.cli import options
from passt_bench.cli.options import app, argument, console, error_console, flag, option, print_json


@app.command()
def compare(
    items: Annotated[
        list[str],
        argument(
            "MODEL[:FIELD=VALUE,…]…",
            "Models, optionally with changed fields: passt_s passt_s:stride=16 cnn14; or 'paper' "
            "for the models of the paper's Table 1. Large ones take hours on a CPU.",
        ),
    ],
    batch: Annotated[int, option("N", "Clips per training step.", min=1)] = 12,
    seconds: Annotated[float, option("SECONDS", "Clip length.", min=0.1)] = 10.0,
    device: options.Device = "cpu",
    published: Annotated[
        bool, flag("--published", "Also run the reference code's speed test.")
    ] = False,
    published_batch: Annotated[
        int, option("N", "Clips per step, reference code's speed test.", min=1)
    ] = 100,
    published_steps: Annotated[
        int, option("N", "Timed steps, reference code's speed test.", min=1)
    ] = 100,
    sets: options.Sets = None,
    name: Annotated[str | None, option("NAME", "Name of the study that is recorded.")] = None,
    json: options.Json = False,
    runs: options.NewRuns = options.RUNS,
    reports: options.Reports = None,
    quiet: options.Quiet = False,
) -> None:
    """Measure time, memory and FLOPs side by side."""
    from passt_bench import spec
    from passt_bench.measure.target import PublishedProtocol
    from passt_bench.report import build, terminal, view
    from passt_bench.runner import compare as chosen_models
    from passt_bench.runner.compare import PAPER, default_name, foreign_patchout, subjects
    from passt_bench.runner.plan import plan_request
    from passt_bench.runner.prediction import Predictor
    from passt_bench.runner.request import Paths, RunConfig, StudyRequest
    from passt_bench.runner.studies import StudyFile
    from passt_bench.spec.key import plain_name
    from passt_bench.study_run import run_plan

    shared = spec.Recipe(
        spec.ModelSpec(PAPER[0]),
        data=spec.DataSpec("audioset", seconds=seconds),
        training=spec.TrainingSpec(batch_size=batch),
        engine=spec.validate(spec.EngineSpec, {"device": device}, source="compare"),
        measurement=spec.MeasurementSpec(seconds=300.0, turn_seconds=600.0),
    )
    recipes = subjects(items, shared, spec.parse_assignments(sets or []))
    for warning in foreign_patchout(recipes):
        error_console().print(f"note: {warning}", style="yellow")
    study = chosen_models.as_study(plain_name(name or default_name(items), field="--name"), recipes)
    paths = Paths(runs, pages=reports)
    plan = plan_request(StudyFile(study, ""), StudyRequest(study.name), paths)
    chosen = plan.study.name
    config = RunConfig(
        remeasure=True,
        published=PublishedProtocol(published_batch, steps=published_steps) if published else None,
        track=False,
    )
    if remedy := chosen_models.shorter(plan.record, Predictor(runs)):
        error_console().print(f"note: {remedy}", style="yellow")
    done = run_plan(plan, config, paths, error_console() if json else console)
    if json:
        results, _ = build.load(chosen, runs, paths.reports)
        assert results is not None
        page = paths.reports / chosen / "index.html"
        print_json(terminal.result_json(view.study_view(results), None, page))
    if not done:
        raise typer.Exit(1)


_COLORS = {"good": "green", "note": "yellow", "missing": "red"}


@app.command()
def doctor(
    instruments: Annotated[
        bool, flag("--instruments", "Also check clock, memory and FLOP counts.")
    ] = False,
    device: options.Device = "cpu",
    runs: Annotated[
        Path, option("DIR", "Folder that runs would write to.", callback=options.check_new_folder)
    ] = options.RUNS,
    json: options.Json = False,
) -> None:
    """Examine this machine: what disturbs measurements, what is missing for which command."""
    import torch

    from passt_bench.runner.doctor import check_instruments, examine

    findings = examine(runs)
    readings = check_instruments(torch.device(device)) if instruments else []
    if json:
        checks = [asdict(item) | {"passed": item.passed} for item in readings]
        print_json({"machine": [asdict(item) for item in findings], "instruments": checks})
    else:
        table = Table("item", "state", "detail", "remedy")
        for finding in findings:
            state = Text(finding.state, style=_COLORS[finding.state])
            table.add_row(finding.what, state, finding.detail, finding.remedy)
        console.print(table)
    if readings and not json:
        table = Table("instrument", "known value", "reading", "tolerance")
        for item in readings:
            allowed = f"{100 * item.tolerance:g} %" if item.tolerance else "exactly"
            color = "green" if item.passed else "red"
            reading = Text(f"{item.measured:,.6g} {item.unit}", style=color)
            table.add_row(item.what, f"{item.known:,.6g} {item.unit}", reading, allowed)
        console.print(table)
    if not all(item.passed for item in readings):
        raise typer.Exit(1)
