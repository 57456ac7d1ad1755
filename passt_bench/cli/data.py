"""Commands about folders of audio: check, prepare."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from passt_bench.cli.options import Workers, app, console
from passt_bench.cli.sound_options import RATE, length_and_rate, possible_length, possible_rate
from passt_bench.errors import InputError

if TYPE_CHECKING:
    from passt_bench.data.check import Look, Update
    from passt_bench.data.dataset import Dataset
    from passt_bench.data.findings import Checked
    from passt_bench.data.prepared_files import Index
    from passt_bench.spec.recipe import DataSpec

data = typer.Typer(no_args_is_help=True, help="Look over and prepare data sets.")
app.add_typer(data, name="data")

Named = Annotated[str, typer.Argument(metavar="NAME=DIR", help="A data set and its folder.")]


def named_folder(item: str) -> tuple[str, Path]:
    """A data set's name and folder, as ``esc50=/data/ESC-50``.

    Raises:
        InputError: it is not NAME=DIR, there is no such data set, or nothing there.
    """
    from passt_bench.registry import DATASETS

    name, mark, folder = item.partition("=")
    if not mark or not name or not folder:
        raise InputError(
            "not NAME=DIR",
            field="NAME=DIR",
            value=item,
            remedy="Write e.g. passt-bench data check esc50=/data/ESC-50.",
        )
    DATASETS.get(name)
    if not Path(folder).exists():
        raise InputError(
            "no such folder or file",
            field=name,
            value=folder,
            remedy="Give the folder that the data set lies in.",
        )
    return name, Path(folder)


def default_threads() -> int:
    """As many as this process may use processors, and eight at most."""
    return min(8, len(os.sched_getaffinity(0)))


@data.command()
def check(
    named: Named,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every file: NaN, cut ends, silence.")
    ] = False,
    fold: Annotated[
        int | None, typer.Option("--fold", help="Hold this fold out; else each is a split.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare/--no-compare", help="Search for identical files.")
    ] = True,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="That read; else one a core, 8 at most.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(callback=possible_length, help="Else as prepared, or 5.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(callback=possible_rate, help="Hz; else as prepared, or 32000.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every name.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write the JSON to as well.")
    ] = None,
) -> None:
    """Counts what is there and what is wrong with it; exit status 1 if anything is."""
    from passt_bench.cli.checked import as_text, show
    from passt_bench.console import stage
    from passt_bench.data.check import Look
    from passt_bench.data.prepared import find_prepared
    from passt_bench.data.prepared_files import INDEX, read_index
    from passt_bench.records.files import write_atomically
    from passt_bench.spec.recipe import DataSpec

    name, folder = named_folder(named)
    index = read_index(folder) if (folder / INDEX).is_file() else None
    length, hertz = length_and_rate(folder, index, seconds, rate)
    spec = DataSpec(name=name, seconds=length)
    look = Look(fold, compare, decode, threads or default_threads())
    beside = Console(stderr=True, highlight=False, soft_wrap=True)  # the output stays pure
    with stage(beside, f"Checking {name}") as update:
        checked = _looked_over(spec, hertz, folder, index, look, update)
    text = as_text(checked)
    if as_json:
        typer.echo(text, nl=False)
    else:
        show(console, checked)
        prepared = find_prepared(folder, hertz)
        if prepared is not None and prepared != folder:
            fresh = read_index(prepared).source.digest == checked.digest
            then = "use it" if fresh else "are refused: the data have changed since"
            console.print(f"{prepared} is made from it; runs at {hertz} Hz {then}.", markup=False)
    if out is not None:
        write_atomically(out, text.encode())
        beside.print(str(out), markup=False)
    if not as_json:
        console.print(f"Next: {_next(named, checked.clean, decode, index)}", markup=False)
    if not checked.clean:
        raise typer.Exit(1)


def _looked_over(
    spec: DataSpec, rate: int, folder: Path, index: Index | None, look: Look, update: Update
) -> Checked:
    """What lies in a folder, and what is wrong with it."""
    from passt_bench.data.check import check
    from passt_bench.data.prepared_files import check_samples

    update(0.0, "reading lists and headers")
    dataset, refusal = _opened(spec, rate, folder, index)
    if look.decode and index is not None and index.form == "int16":
        check_samples(folder, index, lambda share: update(share, "comparing with the checksum"))
    return replace(check(dataset, look, update), refusal=refusal)


def _opened(spec: DataSpec, rate: int, folder: Path, index: Index | None) -> tuple[Dataset, str]:
    """What lies in the folder itself, and why no study may run on it; mostly nothing."""
    from passt_bench.data import open_dataset
    from passt_bench.data.dataset import Incomplete
    from passt_bench.registry import DATASETS

    # Not what was prepared from it in a folder inside, which `open_dataset` would take.
    read = DATASETS.get(spec.name).build if index is None else open_dataset
    try:
        return read(spec, rate, folder), ""
    except Incomplete as error:
        return error.dataset, str(error)


def _next(named: str, clean: bool, decoded: bool, index: Index | None) -> str:
    """What to do after a check."""
    if not clean and index is not None:
        return "mend the data that the clips were made from, and prepare them anew."
    if not clean:
        return "mend what is named above, and give the same command again."
    if not decoded:
        return f"passt-bench data check {named} --decode looks into every file."
    if index is not None:
        return f"passt-bench run STUDY --data {named}"
    return f"passt-bench data prepare {named} --rate {RATE}"


@data.command()
def prepare(
    named: Named,
    rate: Annotated[
        int, typer.Option(callback=possible_rate, help="Hz: frontend.sampling_rate of the recipes.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; else prepared-RATE or hdf5-RATE in DIR.")
    ] = None,
    workers: Workers = None,
    form: Annotated[
        str, typer.Option("--format", help="cache (16-bit samples) or hdf5 (mp3 in HDF5 files).")
    ] = "cache",
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds", callback=possible_length, help="Cut longer clips; else all whole."
        ),
    ] = None,
) -> None:
    """Decodes and resamples once; killed, the same command goes on where it was."""
    from passt_bench.console import stage
    from passt_bench.runner.executor import default_workers
    from passt_bench.runner.prepare_data import Preparation, prepare_data

    if form not in ("cache", "hdf5"):
        raise InputError(
            "no such format", field="--format", value=form, remedy="Known: cache, hdf5."
        )
    name, folder = named_folder(named)
    asked = Preparation(
        name=name,
        root=folder,
        sampling_rate=rate,
        form="hdf5" if form == "hdf5" else "int16",
        out=out,
        seconds=seconds,
        workers=workers or default_workers(),
    )
    with stage(console, f"Preparing {name}") as update:
        update(0.0, "reading lists and headers")
        index, was_there = prepare_data(asked, update)
    console.print(f"{asked.folder}: {_held(index)}.", markup=False)
    if was_there:
        console.print("All of it was there already.", markup=False)
    console.print(f"To use it: --data {name}={asked.folder}", markup=False)


def _held(index: Index) -> str:
    """What a preparation came to, in words."""
    hours = index.samples / index.sampling_rate / 3600
    parts = [f"{index.clips} clips, {hours:.3g} hours at {index.sampling_rate} Hz"]
    if index.cut:
        parts.append(f"{index.cut} of them cut at {index.seconds:g} s")
    if index.clipped:
        count = len(index.clipped_clips)
        parts.append(f"{index.clipped} samples of {count} clips beyond ±1 clipped")
    if index.lost:
        names = ", ".join(f"{name} ({reason})" for name, _, reason in index.lost[:5])
        more = f" and {len(index.lost) - 5} more" if len(index.lost) > 5 else ""
        parts.append(f"{len(index.lost)} broke in decoding and were left out: {names}{more}")
    return "; ".join(parts)
