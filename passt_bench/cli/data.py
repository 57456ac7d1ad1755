"""Commands about folders of audio: check, prepare."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from passt_bench.cli.options import Workers, above_zero, app, console
from passt_bench.errors import InputError

if TYPE_CHECKING:
    from passt_bench.data.check import CheckOptions, Update
    from passt_bench.data.dataset import Dataset
    from passt_bench.data.findings import Checked, ClassCount, Finding
    from passt_bench.data.prepared_files import Index
    from passt_bench.spec.recipe import DataSpec

SECONDS, RATE = 5.0, 32000  # of a check, unless others are given or prepared
_RATES = (1000, 768_000)  # Hz
_DAY = 86_400  # seconds


def possible_rate(found: typer.CallbackParam, value: int | None) -> int | None:
    """Refuses a rate that nobody records at."""
    low, high = _RATES
    if value is not None and not low <= value <= high:
        raise InputError(
            "no sampling rate of sound",
            field=f"--{found.name}",
            value=value,
            remedy=f"Give Hz from {low} to {high}, e.g. {RATE}.",
        )
    return value


def possible_length(found: typer.CallbackParam, value: float | None) -> float | None:
    """Refuses what is no length of a clip."""
    above_zero(found, value)
    if value is not None and value > _DAY:
        raise InputError(
            "longer than a day",
            field=f"--{found.name}",
            value=value,
            remedy="Give the seconds of a clip, e.g. 10, or leave it out.",
        )
    return value


def length_and_rate(
    folder: Path, index: Index | None, seconds: float | None, rate: int | None
) -> tuple[float, int]:
    """Seconds and Hz as they are given, else as the folder's clips are prepared.

    Args:
        folder: of a data set.
        index: of its clips, if they are prepared ones.
        seconds: that were given.
        rate: Hz that were given.

    Raises:
        InputError: the clips are prepared at another rate, or are cut shorter.
    """
    if index is None:
        return seconds or SECONDS, rate or RATE
    cut = index.seconds if index.cut else None
    if index.form == "int16" and rate not in (None, index.sampling_rate):
        raise InputError(
            f"the folder holds clips prepared at {index.sampling_rate} Hz",
            source=folder,
            field="--rate",
            value=rate,
            remedy=f"Leave --rate out, or give --rate {index.sampling_rate}.",
        )
    if cut is not None and seconds is not None and seconds > cut:
        raise InputError(
            f"the folder holds clips of which {index.cut} were cut at {cut:.10g} s",
            source=folder,
            field="--seconds",
            value=seconds,
            remedy=f"Leave --seconds out, or give --seconds {cut:.10g} or less.",
        )
    return seconds or cut or SECONDS, rate or index.sampling_rate


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
            remedy="Give the folder of the data set.",
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
    from passt_bench.console import stage
    from passt_bench.data.check import CheckOptions
    from passt_bench.data.prepared import find_prepared
    from passt_bench.data.prepared_files import INDEX, read_index
    from passt_bench.records.files import write_atomically
    from passt_bench.spec.recipe import DataSpec

    name, folder = named_folder(named)
    index = read_index(folder) if (folder / INDEX).is_file() else None
    length, hertz = length_and_rate(folder, index, seconds, rate)
    spec = DataSpec(name=name, seconds=length)
    options = CheckOptions(fold, compare, decode, threads or default_threads())
    beside = Console(stderr=True, highlight=False, soft_wrap=True)  # the output stays pure
    with stage(beside, f"Checking {name}") as update:
        checked = _looked_over(spec, hertz, folder, index, options, update)
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
    spec: DataSpec,
    rate: int,
    folder: Path,
    index: Index | None,
    options: CheckOptions,
    update: Update,
) -> Checked:
    """What lies in a folder, and what is wrong with it."""
    from passt_bench.data.check import check
    from passt_bench.data.prepared_files import check_samples

    update(0.0, "reading lists and headers")
    dataset, refusal = _opened(spec, rate, folder, index)
    if options.decode and index is not None and index.form == "int16":
        check_samples(folder, index, lambda share: update(share, "comparing with the checksum"))
    return replace(check(dataset, options, update), refusal=refusal)


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
        return "fix the data that the clips were made from, and prepare them again."
    if not clean:
        return "fix what is named above, and run the same command again."
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


_NAMED = 5  # things of a kind that text names; JSON names all
_CLASSES = 50  # classes that text lists; of more, the rarest
_RAREST = 10


def as_text(checked: Checked) -> str:
    """All that was found, as JSON."""
    return json.dumps({"clean": checked.clean, **asdict(checked)}, indent=1) + "\n"


def show(console: Console, checked: Checked) -> None:
    """Prints splits, classes, what the files are like, and what is wrong."""
    from passt_bench.data.findings import NOTES

    _splits(console, checked)
    _classes(console, checked)
    lines = [
        f"Lengths: {checked.seconds or 'not known before decoding (--decode)'}.",
        f"Sampling rates: {_counts(checked.rates, 'Hz')}.",
        f"Channels: {_counts(checked.channels, '')}.",
        *(f"Note: {note}." for note in checked.notes),
        f"Fingerprint: {checked.digest}, {_found(checked)}.",
    ]
    for line in lines:
        console.print(line, markup=False)
    for item in checked.findings:
        colour = "yellow" if item.kind in NOTES else "red"
        console.print(_sentence(item), style=colour, markup=False)
    if checked.refusal:
        console.print(f"No study runs on it. {checked.refusal}", style="red", markup=False)
    if checked.clean:
        looked = "every file was decoded" if checked.decoded else "nothing was decoded"
        console.print(f"No problems found ({looked}).", markup=False)
    if not checked.compared:
        console.print("Identical files were not searched for.", markup=False)


def _splits(console: Console, checked: Checked) -> None:
    table = Table("split", "expected", "found", "missing", "broken")
    for part in checked.parts:
        numbers = (part.expected, part.found, part.missing, part.broken)
        table.add_row(part.name, *(f"{number:,}" for number in numbers))
    console.print(table)


def _classes(console: Console, checked: Checked) -> None:
    shown = list(checked.classes)
    rare = len(shown) > _CLASSES
    if rare:
        shown = sorted(shown, key=lambda item: sum(item.found))[:_RAREST]
    title = f"the {_RAREST} rarest of {len(checked.classes)} classes" if rare else "class"
    table = Table(title, *(part.name for part in checked.parts), "lost")
    for item in shown:
        table.add_row(item.name, *(f"{count:,}" for count in item.found), _lost(item))
    console.print(table, markup=False)


def _lost(item: ClassCount) -> str:
    return "?" if item.lost is None else f"{item.lost:,}"


def _counts(counts: dict[str, int], unit: str) -> str:
    if not counts:
        return "not known before decoding (--decode)"
    return ", ".join(
        f"{' '.join((value, unit)).strip()} ({count:,} clips)" for value, count in counts.items()
    )


def _found(checked: Checked) -> str:
    of = "" if checked.expected is None else f" of {checked.expected:,}"
    return f"{checked.found:,}{of} clips"


def _sentence(item: Finding) -> str:
    more = item.count - _NAMED
    names = "; ".join(item.names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")
    return f"{item.kind}: {item.count:,}: {names}. {item.remedy}"
