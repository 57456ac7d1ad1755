"""Commands that look at this machine: compare and paper-costs measure, doctor examines it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from passt_bench.cli.options import Out, Reports, app, console
from passt_bench.errors import InputError

if TYPE_CHECKING:
    from passt_bench.measure.target import PublishedProtocol
    from passt_bench.runner.compare import Settings
    from passt_bench.runner.foreseen import Foreseen
    from passt_bench.spec import EngineSpec

_PIPE = re.compile(r"(?<!\\)\|")
_NAME_WIDTH = 14  # characters that the names in the short table get in any case
_CELL_WIDTH, _WIDE = 8, 110  # the most of the others, in a narrower window than that


@app.command()
def compare(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL[:FIELD=VALUE,…]…",
            help="Models, with fields changed: passt_s passt_s:stride=16 passt_s:precision=bfloat16"
            " cnn14; 'paper' means the systems of the paper's Table 1.",
        ),
    ],
    batch: Annotated[int, typer.Option(min=1, help="Clips a step.")] = 12,
    seconds: Annotated[float, typer.Option(min=0.1, help="Clip length.")] = 10.0,
    classes: Annotated[int, typer.Option(min=1, help="Outputs.")] = 527,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    engine: Annotated[str, typer.Option(help="eager or compiled.")] = "eager",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each process.")] = 1,
    half_width: Annotated[
        float, typer.Option(min=0.001, help="Rounds go on until ratios are known to this share.")
    ] = 0.03,
    limit: Annotated[
        float,
        typer.Option(
            min=1,
            help="Seconds after which no round starts beyond the sixth, counted from the first.",
        ),
    ] = 300.0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each model in a round.")] = 3,
    published: Annotated[
        bool, typer.Option(help="The reference code's speed test as well, batch 100, 110 steps.")
    ] = False,
    published_batch: Annotated[int, typer.Option(min=1, help="Its batch.")] = 100,
    published_steps: Annotated[int, typer.Option(min=1, help="Its timed steps.")] = 100,
    profile: Annotated[bool, typer.Option(help="Operator tables and Chrome traces too.")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of all: a.b=value.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Report name.")] = None,
    out: Out = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """Time, memory and FLOPs of models or settings side by side, interleaved, now."""
    from passt_bench.measure.target import PublishedProtocol

    settings = _settings(
        _engine(device, precision, engine, threads),
        PublishedProtocol(published_batch, steps=published_steps) if published else None,
        sets,
        batch=batch,
        seconds=seconds,
        classes=classes,
        half_width=half_width,
        limit=limit,
        steps=steps,
        profile=profile,
    )
    if _compare(items, settings, name, out, reports):
        raise typer.Exit(1)


def _settings(
    engine: EngineSpec,
    published: PublishedProtocol | None,
    sets: list[str] | None,
    *,
    batch: int,
    seconds: float,
    limit: float,
    classes: int = 527,
    half_width: float = 0.03,
    steps: int = 3,
    profile: bool = False,
) -> Settings:
    from passt_bench.runner.compare import Settings
    from passt_bench.spec import MeasurementSpec, parse_assignments

    return Settings(
        batch=batch,
        seconds=seconds,
        classes=classes,
        engine=engine,
        measurement=MeasurementSpec(
            half_width=half_width, seconds=limit, steps=steps, turn_seconds=600.0
        ),
        overrides=parse_assignments(sets or []),
        published=published,
        profile=profile,
    )


def _compare(
    items: list[str], settings: Settings, name: str | None, out: Path, reports: Path
) -> bool:
    """Measures, renders and shows; whether something failed, which stands in the table."""
    from passt_bench.console import stage
    from passt_bench.names import plain_name
    from passt_bench.records.store import Store
    from passt_bench.report.build import render_index
    from passt_bench.report.comparison import build_comparison
    from passt_bench.runner.compare import compare as measure
    from passt_bench.runner.compare import default_name, foresee, subjects
    from passt_bench.runner.request import typed

    recipes = subjects(items, settings)
    chosen = plain_name(name or default_name(items), field="--name")
    console.print(_announce(len(recipes), settings, foresee(recipes, settings)), markup=False)
    with stage(console, "Measuring side by side") as update:
        measure(chosen, recipes, settings, Store(out), command=typed(), progress=update)
    page = build_comparison(chosen, out, reports)
    render_index(reports)
    failed = _show(reports / chosen)
    console.print(f"The page: {page}", markup=False)
    if settings.profile:
        console.print(f"Profiles: {out / 'profiles' / chosen}", markup=False)
    return failed


def _announce(models: int, settings: Settings, foreseen: Foreseen) -> str:
    """What will be measured, and how long that takes."""
    from passt_bench.console import rough
    from passt_bench.measure.session import LEAST_ROUNDS

    limits, sessions = settings.measurement, len(foreseen.rounds)
    each = f" in each of {sessions} sessions" if sessions > 1 else ""  # memory does not hold all
    return (
        f"{models} models, {settings.batch} clips of {settings.seconds:g} s a step; at least "
        f"{LEAST_ROUNDS} rounds{each}, about {rough(foreseen.least)}; then until ratios are "
        f"known to ±{100 * limits.half_width:g} %, but no new round after {limits.seconds:g} s of "
        "rounds."
    )


def _engine(device: str, precision: str, engine: str, threads: int) -> EngineSpec:
    from passt_bench.runner.run import check_available
    from passt_bench.spec import EngineSpec, validate

    check_available(device, "--device")
    if engine not in ("eager", "compiled"):
        raise InputError(
            "no such engine", field="--engine", value=engine, remedy="Known: eager, compiled."
        )
    fields = {"device": device, "precision": precision, "threads": threads}
    return validate(EngineSpec, fields | {"compile": engine == "compiled"}, source="compare")


def _show(folder: Path) -> bool:
    """Prints the short table and what failed; whether anything did."""
    for name in ("speed", "failures"):
        path = folder / "costs" / f"{name}.md"
        if path.is_file():
            _print_table(path.read_text(encoding="utf-8"))
    return (folder / "costs" / "failures.md").is_file()


def _print_table(text: str) -> None:
    """Prints a Markdown table; what is too long for its column breaks, so that names stay whole.

    The ratio of throughputs is left out: it is the step's, turned over, and space is scarce.
    """
    caption, _, *lines = text.splitlines()
    titles, marks, *rows = [[_plain(cell) for cell in _PIPE.split(line)[1:-1]] for line in lines]
    shown = Table(
        title=Text(_plain(caption)), title_justify="left", box=SIMPLE, padding=0, show_edge=False
    )
    wanted = [number for number, title in enumerate(titles) if title != "ratio"]
    for number in wanted:
        title, mark = titles[number], marks[number]
        justify: JustifyMethod = "right" if mark.endswith(":") else "left"
        widest = max((len(word) for row in rows for word in row[number].split()), default=0)
        shown.add_column(
            Text(title),
            justify=justify,
            overflow="fold",
            min_width=min(widest, _NAME_WIDTH) if number == 0 else None,
            max_width=_CELL_WIDTH if justify == "right" and console.width < _WIDE else None,
        )
    for row in rows:
        shown.add_row(*(Text(row[number]) for number in wanted))
    console.print(shown)


def _plain(cell: str) -> str:
    return re.sub(r"\\(.)", r"\1", cell).strip()


@app.command("paper-costs")
def paper_costs(
    items: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL…]", help="Others than the paper's.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cuda",
    batch: Annotated[int, typer.Option(min=1, help="Clips a step.")] = 12,
    precisions: Annotated[
        str, typer.Option(help="Separated by commas: float32, bfloat16, float16.")
    ] = "float16,bfloat16",
    engines: Annotated[
        str, typer.Option(help="Separated by commas: eager, compiled.")
    ] = "eager,compiled",
    limit: Annotated[float, typer.Option(min=1, help="Seconds of rounds, each.")] = 90.0,
    published_batch: Annotated[int, typer.Option(min=1, help="Batch of the published test.")] = 100,
    published_steps: Annotated[int, typer.Option(min=1, help="Steps of the published test.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Clip length.")] = 10.0,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field of all: a.b=value.")
    ] = None,
    out: Out = Path("runs"),
    reports: Reports = Path("reports"),
) -> None:
    """The systems of the paper's Table 1, and installed models to compare with it.

    Checks the instruments first, then compares in every precision, eager and compiled, with the
    published speed test beside; each comparison is a report of its own.
    """
    from passt_bench.measure.target import PublishedProtocol
    from passt_bench.registry import MODELS
    from passt_bench.runner.compare import PAPER

    if not check(device):
        raise InputError(
            "an instrument reads wrong here",
            field="--device",
            value=device,
            remedy="See the table above; measure on a machine that is left alone.",
        )
    installed = [component for component in MODELS.all() if not component.missing()]
    items = items or [*PAPER, *(item for model in installed for item in model.beside_paper)]
    failed = False
    for engine in engines.split(","):
        for precision in precisions.split(","):
            name = f"paper-costs-{device}-{precision.strip()}-{engine.strip()}"
            console.rule(name)
            settings = _settings(
                _engine(device, precision.strip(), engine.strip(), threads=1),
                PublishedProtocol(published_batch, steps=published_steps),
                sets,
                batch=batch,
                seconds=seconds,
                limit=limit,
            )
            failed |= _compare(items, settings, name, out, reports)
    if failed:
        raise typer.Exit(1)


_COLOURS = {"good": "green", "note": "yellow", "missing": "red"}


@app.command()
def doctor(
    instruments: Annotated[
        bool, typer.Option("--instruments", help="Check clock, memory and FLOPs as well.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to check them: cpu or cuda.")] = "cpu",
    out: Out = Path("runs"),
) -> None:
    """What this machine has, what disturbs measuring, what is missing for which command."""
    from passt_bench.runner.doctor import examine

    table = Table("what", "state", "found", "remedy", show_lines=False)
    for finding in examine(out):
        state = f"[{_COLOURS[finding.state]}]{finding.state}[/]"
        table.add_row(finding.what, state, finding.detail, finding.remedy)
    console.print(table)
    if instruments and not check(device):
        raise typer.Exit(1)


def check(device: str) -> bool:
    """Shows what the instruments read of known truth; whether all passed."""
    import torch

    from passt_bench.measure.checks import check_instruments
    from passt_bench.runner.run import check_available

    check_available(device, source="--device")
    found = check_instruments(torch.device(device))
    table = Table("instrument", "known", "read", "within")
    for item in found:
        colour = "green" if item.passed else "red"
        allowed = f"{100 * item.tolerance:g} %" if item.tolerance else "exactly"
        reading = f"[{colour}]{item.found:,.6g} {item.unit}[/]"
        table.add_row(item.what, f"{item.known:,.6g} {item.unit}", reading, allowed)
    console.print(table)
    return all(item.passed for item in found)
