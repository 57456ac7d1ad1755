"""What commands share: the application, the console, options, and a study as it was asked for."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from rich.console import Console

from passt_bench.errors import InputError
from passt_bench.records.run import STATUSES, Status

if TYPE_CHECKING:
    from passt_bench.runner.request import Paths, StudyRequest

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Controlled ablations of patchout: quality, speed and memory, with intervals.",
)
console = Console(highlight=False, soft_wrap=True)

Out = Annotated[Path, typer.Option("--out", help="Folder of the records.")]
Reports = Annotated[Path, typer.Option("--reports", help="Folder of the rendered reports.")]


def above_zero(found: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses a number that is not above zero; click's own words leave the value out."""
    if value is not None and not value > 0:
        raise InputError(
            "must be above 0",
            field=f"--{found.name}",
            value=value,
            remedy="Give a larger number, or leave it out.",
        )
    return value


Workers = Annotated[
    int | None, typer.Option("--workers", callback=above_zero, help="Processes at a time.")
]
Timeout = Annotated[
    float | None, typer.Option("--timeout", callback=above_zero, help="Seconds a run may take.")
]


def _bytes(found: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses what is no limit: the kernel takes a limit of 0 bytes for none."""
    above_zero(found, value)
    if value is not None and not 1 <= value * 2**30 < math.inf:
        raise InputError(
            "invalid memory limit",
            field=f"--{found.name}",
            value=value,
            remedy="Give GiB, e.g. 1.5, or leave it out for no limit.",
        )
    return value


Memory = Annotated[
    float | None,
    typer.Option("--memory", callback=_bytes, help="GiB that the process of a run may allocate."),
]

Variants = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        metavar="NAME",
        help="Only this variant, by its whole name, and the baseline; may be repeated.",
    ),
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Leave the baseline out.")]


def choosing(request: StudyRequest, variants: list[str] | None, no_baseline: bool) -> StudyRequest:
    """The request for some variants alone."""
    return replace(request, variants=tuple(variants or ()), baseline=not no_baseline)


def _asked(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name in ablations/, or a path.")],
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a field: a.b=value.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option("--data", help="Folder of a data set: NAME=DIR.")
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Number of seeds.")] = None,
    folds: Annotated[
        int | None, typer.Option("--folds", help="Use the first that many folds.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the study in store and reports.")
    ] = None,
    out: Out = Path("runs"),
) -> tuple[StudyRequest, Paths]:
    """The options of every command that begins with a study."""
    from passt_bench.runner.request import Paths, StudyRequest, data_folders
    from passt_bench.runner.studies import files_named

    files = files_named(study)
    for path in files[1:]:
        text = f"{path} is not used: {study!r} means {files[0]}. To use it, give its path."
        console.print(text, style="yellow", markup=False)
    request = StudyRequest(study, sets or (), seeds, folds, device, name)
    return request, Paths(out, data_folders(data or ()))


def asks_for_study(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command that takes a `StudyRequest` and `Paths` first the options that make them."""
    shared, own = inspect.signature(_asked), inspect.signature(command)
    _, _, *rest = own.parameters.values()

    @functools.wraps(command)
    def typed(**given: Any) -> None:
        command(*_asked(**{key: given.pop(key) for key in shared.parameters}), **given)

    # Typer reads the signature, and the hints for what stands in it as text.
    hints = {**_hints(_asked), **_hints(command)}
    parameters = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in (*shared.parameters.values(), *rest)
    ]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    typed.__annotations__ = {parameter.name: hints[parameter.name] for parameter in parameters}
    return typed


def _hints(command: Callable[..., Any]) -> dict[str, Any]:
    imported_for_types = {"StudyRequest": object, "Paths": object}
    names = {**command.__globals__, **imported_for_types}
    return get_type_hints(command, names, include_extras=True)


def statuses(text: str) -> tuple[Status, ...]:
    """A list of failures, as ``--retry oom,error``.

    Raises:
        InputError: one that there is not.
    """
    known = [status for status in STATUSES if status != "ok"]
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    for status in chosen:
        if status not in known:
            raise InputError(
                "no such status",
                field="--retry",
                value=status,
                remedy=f"Known: {', '.join(known)}.",
            )
    return tuple(status for status in known if status in chosen)
