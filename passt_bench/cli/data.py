"""Commands about data sets: split, check, prepare."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from passt_bench.cli.options import (
    CORES,
    Quiet,
    app,
    argument,
    check_exists,
    check_new_file,
    console,
    error_console,
    flag,
    number,
    option,
    print_data,
)
from passt_bench.errors import InputError

if TYPE_CHECKING:
    from passt_bench.data import Dataset
    from passt_bench.data.check import Checked
    from passt_bench.data.prepared import Index
    from passt_bench.spec.recipe import DataSpec

SECONDS, RATE = 5.0, 32000  # defaults of a check, unless the clips are prepared
_RATE = number("Hz, e.g. 32000", low=999, high=768_000)
_LENGTH = number("seconds", high=86_400)
_CLASSES, _RAREST = 50, 10  # with more classes, the text lists only the rarest


data = typer.Typer(no_args_is_help=True, help="Split, check and prepare data sets.")
app.add_typer(data, name="data")

DataSet = Annotated[str, argument("NAME=DIR", "A data set and its folder.")]


def _folder_of(data_set: str) -> tuple[str, Path]:
    from passt_bench.runner.request import name_and_folder

    name, folder = name_and_folder(data_set, "NAME=DIR")
    check_exists(folder, name, "Give the folder of the data set.")
    return name, folder


@data.command()
def split(
    data_set: DataSet,
    test: Annotated[float, option("SHARE", "Share of the clips in test.", min=0.01, max=0.9)] = 0.2,
    validation: Annotated[
        float, option("SHARE", "Share of the clips in validation; 0 for none.", min=0, max=0.9)
    ] = 0.1,
    folds: Annotated[
        int | None, option("N", "Divide into folds instead.", "--into-folds", min=2, max=100)
    ] = None,
    seed: Annotated[int, option("N", "Seed of the division.", min=0)] = 0,
    again: Annotated[bool, flag("--again", "Replace the splits or folds of the manifest.")] = False,
) -> None:
    """Divide a manifest, or a folder with one folder per class, into splits or folds."""
    from passt_bench.runner.split_data import split_manifest

    name, root = _folder_of(data_set)
    if name != "manifest":
        problem, remedy = "has published splits", f"For recordings of your own: manifest={root}"
        raise InputError(problem, field="NAME=DIR", value=data_set, remedy=remedy)
    if test + validation >= 1:
        problem, remedy = "nothing is left to train on", "Give smaller shares."
        raise InputError(problem, field="--test", value=test + validation, remedy=remedy)
    counts, notes = split_manifest(
        root, test=test, validation=validation, folds=folds, seed=seed, again=again
    )
    table = Table("class", *counts.columns)
    for row in counts.itertuples():
        table.add_row(str(row[0]), *map(str, row[1:]))
    console.print(table)
    for note in notes:
        console.print(note)
    train = f"passt-bench train --data {shlex.quote(data_set)}"
    console.print(f"Written to the manifest. To train: {train}")


@data.command()
def check(
    data_set: DataSet,
    decode: Annotated[
        bool, flag("--decode", "Decode every file to find NaN, truncated files and silence.")
    ] = False,
    duplicates: Annotated[bool, typer.Option(help="Look for identical files.")] = True,
    workers: Annotated[
        int | None, option("N", "Files to read in parallel.", min=1, show_default="up to 8")
    ] = None,
    seconds: Annotated[
        float | None, option("SECONDS", "Clip length; by default 5.", callback=_LENGTH)
    ] = None,
    rate: Annotated[
        int | None, option("HZ", "Sampling rate; by default 32000.", callback=_RATE)
    ] = None,
    as_json: Annotated[bool, flag("--json", "Print JSON with all names.")] = False,
    output: Annotated[
        Path | None, option("FILE", "Also write the JSON to this file.", callback=check_new_file)
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Report missing, broken and duplicate clips, and leaks between splits."""
    from passt_bench.console import stage
    from passt_bench.data.check import check as examine
    from passt_bench.data.prepared import INDEX, broken, checksum_of, read_index
    from passt_bench.records.files import write_atomically
    from passt_bench.spec.codec import to_plain
    from passt_bench.spec.recipe import DataSpec

    name, folder = _folder_of(data_set)
    index = read_index(folder) if (folder / INDEX).is_file() else None
    cut = index.seconds if index is not None and index.cut else None
    spec = DataSpec(name=name, seconds=seconds or cut or SECONDS)
    sampling_rate = rate or (RATE if index is None else index.sampling_rate)
    errors = error_console()
    with stage(errors, f"Checking {name}") as update:
        update(0.0, "reading lists and headers")
        dataset, refusal = _open(spec, sampling_rate, folder)
        if decode and index is not None:
            checksum = checksum_of(folder, lambda done: update(done, "comparing with the checksum"))
            if checksum != index.checksum:
                raise broken(folder, "the checksum differs: the samples were changed")
        threads = workers or min(8, CORES)
        checked = examine(dataset, update, compare=duplicates, decode=decode, threads=threads)
        checked = replace(checked, refusal=refusal)
    text = json.dumps({"clean": checked.clean, **to_plain(checked)}, indent=1) + "\n"
    if as_json:
        print_data(text)
    else:
        _show(checked)
    if output is not None:
        write_atomically(output, text.encode())
        errors.print(str(output))
    if not as_json:
        console.print(f"Next: {_next(data_set, checked.clean, decode, index)}")
    if not checked.clean:
        raise typer.Exit(1)


def _open(spec: DataSpec, rate: int, folder: Path) -> tuple[Dataset, str]:
    """The data set, or its usable clips and why studies on it are refused."""
    from passt_bench.data import open_dataset
    from passt_bench.data.dataset import Incomplete

    try:
        return open_dataset(spec, rate, folder), ""
    except Incomplete as error:
        return error.dataset, str(error)
    except InputError as error:  # prepared clips of another rate, or shorter ones
        options = {"frontend.sampling_rate": "--rate", "data.seconds": "--seconds"}
        error.field = options.get(error.field or "", error.field)
        raise


def _next(data_set: str, clean: bool, decoded: bool, index: Index | None) -> str:
    if not clean:
        again = "prepare the clips" if index is not None else "run the same command"
        return f"fix what is listed above, and {again} again."
    if not decoded:
        return f"passt-bench data check {data_set} --decode, which decodes every file"
    if index is not None:
        return f"passt-bench run STUDY --data {data_set}"
    return f"passt-bench data prepare {data_set} --rate {RATE}"


@data.command()
def prepare(
    data_set: DataSet,
    rate: Annotated[int, option("HZ", "Sampling rate of the recipes' front end.", callback=_RATE)],
    folder: Annotated[
        Path | None, option("DIR", "Output folder; by default prepared-HZ in DIR.")
    ] = None,
    workers: Annotated[
        int,
        option("N", "Clips to decode in parallel.", min=1, show_default="one per core"),
    ] = CORES,
    seconds: Annotated[
        float | None, option("SECONDS", "Cut clips to this length.", callback=_LENGTH)
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Decode and resample a data set once, for all later runs."""
    from passt_bench.console import stage
    from passt_bench.runner.prepare_data import Preparation, prepare_data

    name, root = _folder_of(data_set)
    asked = Preparation(name, root, rate, out=folder, seconds=seconds, workers=workers)
    with stage(console, f"Preparing {name}") as update:
        update(0.0, "reading lists and headers")
        index, was_there = prepare_data(asked, update)
    console.print(f"{asked.folder}: {_describe(index)}.")
    if was_there:
        console.print("All clips were prepared already.")
    console.print(f"To use them: --data {name}={asked.folder}")


def _describe(index: Index) -> str:
    from passt_bench.data.fingerprint import first_few
    from passt_bench.records.run import count_of

    hours = index.samples / index.sampling_rate / 3600
    parts = [f"{count_of(index.clips, 'clip')}, {hours:.3g} hours at {index.sampling_rate} Hz"]
    if index.cut:
        parts.append(f"{index.cut} of them cut to {index.seconds:g} s")
    if index.clipped:
        of = count_of(len(index.clipped_clips), "clip")
        parts.append(f"{count_of(index.clipped, 'sample')} of {of} beyond ±1 clipped")
    if index.skipped:
        names = first_few([f"{name} ({reason})" for name, _, reason in index.skipped])
        parts.append(f"{len(index.skipped)} could not be decoded and were skipped: {names}")
    return "; ".join(parts)


def _show(checked: Checked) -> None:
    """Prints splits, classes, properties of the files, and the findings."""
    from passt_bench.data.check import NOTES
    from passt_bench.data.fingerprint import first_few
    from passt_bench.records.run import count_of

    published = checked.dataset != "manifest"  # of which the clips that are listed are expected
    titles = [*["expected"] * published, "found", "missing", "broken"]
    splits = Table("split", *titles)
    for split in checked.splits:
        numbers = [getattr(split, title) for title in titles]
        splits.add_row(split.name, *(f"{number:,}" for number in numbers))
    console.print(splits)
    shown, title = list(checked.classes), "class"
    if len(shown) > _CLASSES:
        title = f"the {_RAREST} rarest of {len(shown)} classes"
        shown = sorted(shown, key=lambda item: sum(item.found))[:_RAREST]
    classes = Table(title, *(split.name for split in checked.splits), "skipped")
    for item in shown:
        skipped = "?" if item.skipped is None else f"{item.skipped:,}"
        classes.add_row(item.name, *(f"{count:,}" for count in item.found), skipped)
    console.print(classes)
    unknown = "not known before decoding (--decode)"
    rates = [f"{value} Hz ({count_of(n, 'clip')})" for value, n in checked.rates.items()]
    channels = [f"{value} ({count_of(n, 'clip')})" for value, n in checked.channels.items()]
    of = "" if checked.expected is None else f" of {checked.expected:,}"
    lines = [
        f"Lengths: {checked.seconds or unknown}.",
        f"Sampling rates: {', '.join(rates) or unknown}.",
        f"Channels: {', '.join(channels) or unknown}.",
        *(f"Note: {note}." for note in checked.notes),
        f"Digest: {checked.digest}, {checked.found:,}{of} clips.",
    ]
    if checked.decoded:
        listed = sum(each.found + each.missing + each.broken for each in checked.splits)
        fine = sum(each.found for each in checked.splits)
        lines.append(f"Decoded {fine:,} of {count_of(listed, 'clip')}.")
    console.print("\n".join(lines))
    for finding in checked.findings:
        names = first_few(finding.names, finding.count, "; ")
        text = f"{finding.kind}: {finding.count:,}: {names}. {finding.remedy}"
        console.print(text, style="yellow" if finding.kind in NOTES else "red")
    if checked.refusal:
        console.print(f"Studies refuse these data: {checked.refusal}", style="red")
    if checked.clean:
        how = "every file was decoded" if checked.decoded else "files were not decoded"
        console.print(f"No problems found ({how}).")
    if not checked.compared:
        console.print("Identical files were not looked for.")
