"""Commands that measure on this machine: compare, doctor."""

from __future__ import annotations

from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from passt_bench.cli.options import (
    RUNS,
    Device,
    NewRuns,
    Reports,
    Sets,
    app,
    argument,
    check_new_folder,
    console,
    flag,
    one_of,
    option,
    print_table,
)

if TYPE_CHECKING:
    from passt_bench.runner.cost import CostTime
    from passt_bench.spec import Recipe

ENGINES = ("eager", "compiled")


@app.command()
def compare(
    items: Annotated[
        list[str],
        argument(
            "MODEL[:FIELD=VALUE,…]…",
            "Models, optionally with changed fields: passt_s passt_s:stride=16 cnn14; or 'paper' "
            "for the models of the paper's Table 1.",
        ),
    ],
    batch: Annotated[int, option("N", "Clips per training step.", min=1)] = 12,
    seconds: Annotated[float, option("SECONDS", "Clip length.", min=0.1)] = 10.0,
    classes: Annotated[int, option("N", "Number of classes.", min=1)] = 527,
    device: Device = "cpu",
    precision: Annotated[str, option("NAME", "float32, bfloat16 or float16.")] = "float32",
    engine: Annotated[
        str, option("NAME", "eager or compiled.", callback=one_of(*ENGINES))
    ] = "eager",
    threads: Annotated[int, option("N", "CPU threads of each process.", min=1)] = 1,
    half_width: Annotated[
        float, option("FRACTION", "Desired half width of the time ratio's interval.", min=0.001)
    ] = 0.03,
    session_limit: Annotated[
        float, option("SECONDS", "Time limit; at least six rounds always run.", min=1)
    ] = 300.0,
    steps: Annotated[int, option("N", "Training steps of each model per round.", min=1)] = 3,
    published: Annotated[
        bool, flag("--published", "Also run the reference code's speed test.")
    ] = False,
    published_batch: Annotated[
        int, option("N", "Clips per step, reference code's speed test.", min=1)
    ] = 100,
    published_steps: Annotated[
        int, option("N", "Timed steps, reference code's speed test.", min=1)
    ] = 100,
    profile: Annotated[
        bool, flag("--profile", "Also write operator tables and Chrome traces.")
    ] = False,
    sets: Sets = None,
    name: Annotated[str | None, option("NAME", "Name of the study that is recorded.")] = None,
    runs: NewRuns = RUNS,
    reports: Reports = None,
) -> None:
    """Measure time, memory and FLOPs side by side."""
    from passt_bench.analysis.results import load_results
    from passt_bench.console import stage
    from passt_bench.measure.target import PublishedProtocol
    from passt_bench.records.store import Store
    from passt_bench.report.build import build_study
    from passt_bench.report.cost_tables import cost_tables
    from passt_bench.report.study_tables import MEMORY, failures
    from passt_bench.report.view import study_view
    from passt_bench.runner import compare as runner
    from passt_bench.runner.cost import estimate_cost_time, plan_cost
    from passt_bench.runner.prediction import Predictor
    from passt_bench.runner.request import Paths, typed_command
    from passt_bench.runner.studies import free_name
    from passt_bench.spec import (
        DataSpec,
        EngineSpec,
        MeasurementSpec,
        ModelSpec,
        Recipe,
        TrainingSpec,
        parse_assignments,
        validate,
    )
    from passt_bench.spec.key import plain_name

    fields = {"device": device, "precision": precision, "threads": threads}
    shared = Recipe(
        ModelSpec(runner.PAPER[0]),
        data=DataSpec(seconds=seconds),
        training=TrainingSpec(batch_size=batch),
        engine=validate(EngineSpec, fields | {"compile": engine == "compiled"}, source="compare"),
        measurement=MeasurementSpec(
            half_width=half_width, seconds=session_limit, steps=steps, turn_seconds=600.0
        ),
    )
    recipes, store = runner.subjects(items, shared, parse_assignments(sets or [])), Store(runs)
    wanted = plain_name(name or runner.default_name(items), field="--name")
    chosen, note = free_name(wanted, lambda name: runner.difference(name, recipes, store))
    if note is not None:
        console.print(note)
    costs = plan_cost(
        recipes,
        next(iter(recipes)),
        classes,
        published=PublishedProtocol(published_batch, steps=published_steps) if published else None,
        profiles=runs / "profiles" / chosen if profile else None,
    )
    expected = estimate_cost_time(costs, Predictor(runs))
    console.print(announcement(len(recipes), shared, expected))
    with stage(console, "Measuring side by side") as progress:
        runner.compare(chosen, recipes, costs, store, command=typed_command(), progress=progress)
    page = build_study(chosen, runs, Paths(runs, pages=reports).reports)
    view = study_view(load_results(chosen, [store]))
    failed = failures(view)
    # The rest is on the page; the ratio of clips per second is that of the step, inverted.
    hidden = {"clips", "forward", "backward", "optimizer", "frontend", "flops_inference", *MEMORY}
    print_table(cost_tables(view)["ratios"], without=[f"{name}_ratio" for name in hidden])
    if failed.rows:
        print_table(failed)
    console.print(f"Page: {page}")
    if costs.profiles is not None:
        console.print(f"Profiles: {costs.profiles}")
    if failed.rows:
        raise typer.Exit(1)


def announcement(models: int, shared: Recipe, expected: CostTime) -> str:
    """A sentence about what `compare` will measure and how long that takes."""
    from passt_bench.console import rough
    from passt_bench.measure.session import MIN_ROUNDS

    limits, sessions = shared.measurement, expected.sessions
    each = f" in each of {sessions} sessions" if sessions > 1 else ""  # when memory is short
    about = "" if isnan(expected.least) else f", about {rough(expected.least)}"
    return (
        f"{models} models, {shared.training.batch_size} clips of {shared.data.seconds:g} s per "
        f"step; at least {MIN_ROUNDS} rounds{each}{about}; more until "
        f"the ratios are precise to ±{100 * limits.half_width:g} %, but for at most "
        f"{limits.seconds:g} s."
    )


_COLORS = {"good": "green", "note": "yellow", "missing": "red"}


@app.command()
def doctor(
    instruments: Annotated[
        bool, flag("--instruments", "Also check clock, memory and FLOP counts.")
    ] = False,
    device: Device = "cpu",
    runs: Annotated[
        Path, option("DIR", "Folder that runs would write to.", callback=check_new_folder)
    ] = RUNS,
) -> None:
    """Examine this machine: what disturbs measurements, what is missing for which command."""
    from passt_bench.runner.doctor import examine

    table = Table("item", "state", "detail", "remedy")
    for finding in examine(runs):
        state = Text(finding.state, style=_COLORS[finding.state])
        table.add_row(finding.what, state, finding.detail, finding.remedy)
    console.print(table)
    if instruments and not _check_instruments(device):
        raise typer.Exit(1)


def _check_instruments(device: str) -> bool:
    """Prints readings of the instruments next to known values; returns whether all are right."""
    import torch

    from passt_bench.runner.doctor import check_instruments

    readings = check_instruments(torch.device(device))
    table = Table("instrument", "known value", "reading", "tolerance")
    for item in readings:
        allowed = f"{100 * item.tolerance:g} %" if item.tolerance else "exactly"
        color = "green" if item.passed else "red"
        reading = Text(f"{item.measured:,.6g} {item.unit}", style=color)
        table.add_row(item.what, f"{item.known:,.6g} {item.unit}", reading, allowed)
    console.print(table)
    return all(item.passed for item in readings)
