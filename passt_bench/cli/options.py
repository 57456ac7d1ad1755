"""The application, its console, and the options that several commands share."""

import functools
import inspect
import json
import math
import os
import sys
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import passt_bench.console
from passt_bench import __version__
from passt_bench.console import plain_console, visible
from passt_bench.errors import InputError, StorageError, check_known
from passt_bench.processes import default_workers

# No `from __future__ import annotations`: `asks_for_study` needs evaluated annotations.
if TYPE_CHECKING:
    from rich.console import Console

    from passt_bench.records.run import Status
    from passt_bench.runner.request import Paths, StudyRequest
    from passt_bench.runner.studies import StudyFile

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ablations of patchout in audio transformers: quality, speed and memory, with intervals.",
)
console = plain_console()

RUNS, CORES = Path("runs"), default_workers()
# The commands that write into the folders that they are given.
_WRITING = ("run", "train", "search", "compare", "evaluate", "report", "sync", "merge")


def option(metavar: str, text: str, *names: str, **more: Any) -> Any:
    """An option with a value; its names are by default the parameter's."""
    return typer.Option(*names, metavar=metavar, help=text, **more)


def flag(names: str, text: str) -> Any:
    """An option without a value."""
    return typer.Option(names, help=text)


def argument(metavar: str, text: str) -> Any:
    """An argument."""
    return typer.Argument(metavar=metavar, help=text)


def error_console() -> "Console":
    """A console on stderr, so that stdout has only the output of the command."""
    return plain_console(stderr=True)


def _set_quiet(quiet: bool) -> bool:
    passt_bench.console.quiet = quiet
    return quiet


Json = Annotated[bool, flag("--json", "Print JSON instead of text.")]
# Commands that show progress have this option, which acts by itself.
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print only results and errors.", callback=_set_quiet)
]


def print_json(value: object) -> None:
    """Prints a value of lists, dictionaries, texts and numbers as JSON."""
    print_data(json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n")


def print_data(text: str) -> None:
    """Prints text for programs as it is; on a terminal, its control characters as escapes."""
    # Without color=True escape sequences would be removed.
    typer.echo(visible(text) if sys.stdout.isatty() else text, nl=False, color=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"passt-bench {__version__}")
        raise typer.Exit


@app.callback()
def _top_level(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Options that come before a command."""


def number(unit: str, low: float = 0, high: float = math.inf) -> Callable[..., Any]:
    """A check of a numeric option between ``low`` (exclusive) and ``high`` (inclusive)."""

    def check(given: typer.CallbackParam, value: float | None) -> float | None:
        """Returns the value; InputError if it lies outside."""
        if value is not None and not low < value <= high:
            problem = f"must be at most {high:g}" if value > high else f"must be above {low:g}"
            remedy = f"Give {unit}, or leave the option out."
            raise InputError(problem, field=given.opts[0], value=value, remedy=remedy)
        return value

    return check


def part_of(text: str | None) -> tuple[int, int]:
    """The numbers in ``K/N``; all is 1/1 (wrong ones raise `InputError`)."""
    number, _, of = (text or "1/1").partition("/")
    if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        remedy = "Write K/N with K from 1 to N, e.g. --part 2/3."
        raise InputError("not a part", field="--part", value=text, remedy=remedy)
    return int(number), int(of)


def _device(device: str) -> str:
    from passt_bench.runner.executor import check_available

    check_available(device)
    return device


def check_runs(context: typer.Context, given: typer.CallbackParam, folder: Path) -> Path | None:
    """Refuses a folder of records that does not exist, unless it is the default one."""
    if folder != RUNS:
        check_exists(folder, "--runs", "Give the folder that holds the records of your runs.")
    return check_new_folder(context, given, folder)


def check_exists(path: Path, field: str, remedy: str) -> None:
    """Refuses a path that does not exist (raises `InputError`)."""
    if not path.exists():
        raise InputError("no such file or folder", field=field, value=str(path), remedy=remedy)


def check_new_folder(
    context: typer.Context, given: typer.CallbackParam, folder: Path | None
) -> Path | None:
    """Refuses a folder that cannot be created or written to, before anything is computed."""
    if folder is None:
        return None
    field, there = given.opts[0], next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        problem = "this is a file, not a folder"
        remedy = "Give a folder; it is created if it does not exist."
        raise InputError(problem, source=there, field=field, value=str(folder), remedy=remedy)
    if context.info_name in _WRITING and not os.access(there, os.W_OK):
        remedy = "Give a folder that can be written to, or the right to write there."
        raise StorageError("cannot be written", source=there, field=field, remedy=remedy)
    return folder


def check_new_file(
    context: typer.Context, given: typer.CallbackParam, path: Path | None
) -> Path | None:
    """Refuses a file that cannot be written, because of what is in its or its folder's place."""
    if path is None:
        return None
    check_new_folder(context, given, path.parent)
    if path.is_dir():
        problem = "this is a folder, not a file"
        remedy = "Give the name of a file in it."
        raise InputError(problem, field=given.opts[0], value=str(path), remedy=remedy)
    return path


Runs = Annotated[Path, option("DIR", "Folder of the records.", callback=check_runs)]
NewRuns = Annotated[
    Path, option("DIR", "Folder of the records; need not exist yet.", callback=check_new_folder)
]
Reports = Annotated[
    Path | None,
    option(
        "DIR", "Folder of the pages.", callback=check_new_folder, show_default="reports in --runs"
    ),
]
Workers = Annotated[
    int, option("N", "Number of parallel runs.", min=1, show_default="one per core")
]
PerGpu = Annotated[int, option("N", "Number of parallel runs on one GPU.", min=1)]
RunTimeout = Annotated[
    float | None, option("SECONDS", "Time limit per run.", callback=number("seconds"))
]
Memory = Annotated[
    float | None, option("GIB", "Memory limit per run.", callback=number("GiB", high=2.0**33))
]
Variants = Annotated[
    list[str] | None,
    option("NAME", "Only this variant (as in `plan`) and the baseline; repeatable.", "--variant"),
]
Device = Annotated[str, option("cpu|cuda", "Device to use.", callback=_device)]
Sets = Annotated[
    list[str] | None,
    option(
        "FIELD=VALUE",
        "Change a field of the recipe (`passt-bench list fields`), e.g. training.epochs=3; "
        "repeatable. The value none unsets a field; patchout.kind=none means no patchout.",
        "--set",
    ),
]
Curves = Annotated[bool, flag("--curves", "Print loss and validation metric of each epoch.")]
Track = Annotated[bool, flag("--track/--no-track", "Log the runs to MLflow.")]
Checkpoints = Annotated[
    list[str] | None,  # not required by typer, which could not name the kept models
    option(
        "MODEL",
        "A model file, a kept model (STUDY:VARIANT:SEED[:FOLD]), or published weights or a set of "
        "them (required); repeat to average several.",
    ),
]
Dropped = Annotated[
    str | None, option("KIND:RATE", "Share of the patches to drop, e.g. structured:.5.")
]
Labels = Annotated[
    Path | None, option("FILE", "Class names, one per line, for model files that contain none.")
]


def _study_options(
    study: Annotated[str, argument("STUDY", "Name of a study, or path of its file.")],
    sets: Sets = None,
    data: Annotated[
        list[str] | None, option("NAME=DIR", "Folder of a data set; repeatable.")
    ] = None,
    seeds: Annotated[
        int | None, option("N", "Number of seeds.", show_default="the study's")
    ] = None,
    folds: Annotated[int | None, option("N", "Number of folds (the first N).")] = None,
    device: Annotated[str | None, option("cpu|cuda", "Device.", show_default="the study's")] = None,
    name: Annotated[
        str | None, option("NAME", "Name in records and reports.", show_default="the study file's")
    ] = None,
    runs: NewRuns = RUNS,
    variants: Variants = None,
    no_baseline: Annotated[bool, flag("--no-baseline", "Leave the baseline out.")] = False,
) -> tuple["StudyRequest", "Paths"]:
    """The request and the folders, from the options of every command about a study."""
    from passt_bench.runner.request import Paths, StudyRequest, data_folders
    from passt_bench.runner.studies import files_named

    files = files_named(study)
    for path in files[1:]:
        text = f"{path} is not used: {study!r} means {files[0]}. To use it, give its path."
        console.print(text, style="yellow")
    chosen = tuple(variants or ())
    given = tuple(item.partition("=")[0] for item in data or ())
    request = StudyRequest(
        study, sets or (), seeds, folds, device, name, chosen, not no_baseline, given
    )
    return request, Paths(runs, data_folders(data or ()))


def asks_for_study(
    command: Callable[..., None], without: Collection[str] = ()
) -> Callable[..., None]:
    """Adds the options of a study to a command that takes a `StudyRequest` and `Paths` first."""
    every = inspect.signature(_study_options).parameters
    shared = {name: option for name, option in every.items() if name not in without}
    own = dict(list(inspect.signature(command).parameters.items())[2:])

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        study = _study_options(**{name: given[name] for name in shared})
        command(*study, **{name: given[name] for name in own})

    # A command's own option replaces a shared one of the same name. Typer reads both of these.
    parameters = {**shared, **own}
    typed.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
    typed.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    return typed


def load_file(request: "StudyRequest", paths: "Paths") -> "StudyFile":
    """The requested study; refuses a wrong name or field before slow imports (of PyTorch).

    It also refuses folders of data that the study does not use.
    """
    from passt_bench.records.store import Store
    from passt_bench.runner.request import apply_overrides
    from passt_bench.runner.studies import load_study

    file = load_study(request.study, Store(paths.runs))
    study = apply_overrides(file.study, request)
    used = {study.recipe(variant).data.name for variant in study.variants}
    if request.data and used.isdisjoint(request.data):
        problem, name = f"the study is on {', '.join(sorted(used))}", request.data[0]
        remedy = f"To run it on these data, add --set data.name={name}; or leave --data out."
        raise InputError(problem, source=study.name, field="--data", value=name, remedy=remedy)
    return file


def listed(items: Iterable[str] | None) -> list[str]:
    """Names that were separated by commas or given in several options."""
    return [name.strip() for item in items or () for name in item.split(",") if name.strip()]


def statuses(items: Iterable[str] | None) -> tuple["Status", ...]:
    """Statuses of failed runs, as in ``--retry oom,error``; `InputError` for an unknown one."""
    from passt_bench.records.run import STATUSES

    known, chosen = [status for status in STATUSES if status != "ok"], listed(items)
    for status in chosen:
        check_known(status, known, "not the status of a failed run", field="--retry")
    return tuple(status for status in known if status in chosen)
