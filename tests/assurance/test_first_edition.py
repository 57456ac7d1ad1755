"""This edition computes what the first one did, bit for bit, side by side on this machine.

`nox -s assurance -- first_edition`. The first is the commit FIRST_EDITION of editions.py, in a git
worktree below ``.nox/first-edition/``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import edition_cells
import edition_mistakes
import pytest
from edition_cells import Batch
from editions import (
    FIRST_EDITION,
    HERE,
    ROOT,
    Edition,
    Pair,
    differences,
    first_edition,
    records,
)

# What differs and may: part/…/field (with * and ?) → reason, and the component whose version was
# raised with it. A difference that is not here is reverted.
_ADDED = "a field that came after the first edition; at its default it enters no key"
_WORDS = "the same refusal in other words"
_OPTION = "the option has another name"
_FOLDER = "NAME=DIR as it is given, with --data or, to data check, without"
_NO_VALUE = "a setting without a value names none"
_RENAMED = "the field's new name; records keep the first one"
_HALF = "runs in half precision are evaluated in it, with version 2 of the engine in their keys"
_CROP = "random parts near the end of Ogg files are now read where they are: version 2 of the crop"
_HDF5 = "HDF5 is no longer written; cells on manifest-hdf5 compare how what was written is read"
ALLOWED: dict[str, str] = {
    "*/recipe/engine/attention": _ADDED,
    "*/recipe/engine/graph": _ADDED,
    "*/recipe/engine/residual": _ADDED,
    "predictions/*/deit.pth *--format json/1/0": _WORDS,
    "predictions/*/vit.pth *--format json/1/0": _WORDS,
    "mistakes/plan good.py --out good.py*/field": _OPTION,
    "mistakes/status good.py --out good.py/field": _OPTION,
    "mistakes/records clean --out gone/field": _OPTION,
    "mistakes/run good.py --timeout 0/field": _OPTION,
    "mistakes/list nothing/field": _OPTION,
    "mistakes/plan good.py --device tpu/field": "the option that was given, not the field it sets",
    "mistakes/plan good.py --out runs --set =3/value": _NO_VALUE,
    "mistakes/plan good.py --out runs --set training.epochs/value": _NO_VALUE,
    "mistakes/data check manifest=INPUTS/empty/field": _FOLDER,
    "mistakes/plan good.py --data esc50=gone --set data.name=esc50/field": _FOLDER,
    "mistakes/plan inner.py */field": _RENAMED,
    "mistakes/plan inner.py */value": _RENAMED,
    "mistakes/plan averaged.py */field": _RENAMED,
    "mistakes/*frontend.deviation=0/field": _RENAMED,
    "mistakes/*engine.loaders=-1/field": _RENAMED,
    "mistakes/*training.select=frist/field": _RENAMED,
    "checks/data prepare * --format hdf5/0": _HDF5,
    "prepared/packed/*": _HDF5,
    "cells/engine/*/variants/*/cells/*/key": _HALF,
    "cells/*/variants/2/cells/*/key": _CROP,
    **{
        f"{runs}/{field}": _CROP
        for runs in ("cells/*/crop/*", "resumed/stopped_audio_files", "resumed/stopped_prepared_*")
        for field in ("*key", "*components/crop")
    },
    **{
        f"cells/engine/*float16/0/{field}": _HALF
        for field in ("key", "components/engine", "metrics/*", "per_class/*", "probes/*")
    },
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    scratch = tmp_path_factory.mktemp("editions")
    first = first_edition(scratch / "first-cache")
    both = Pair(first, Edition("now", ROOT, scratch / "now-cache"), scratch)
    for edition in (first, both.now):
        edition.check()
    both.inputs.mkdir()
    path = os.pathsep.join(str(first.root / name) for name in ("", "tests/helpers", "tests/models"))
    first.python([str(HERE / "edition_inputs.py"), "."], both.inputs, PYTHONPATH=path)
    return both


def compare(part: str, one: Any, two: Any) -> None:
    """Fails with a list of what differs and may not."""
    assert one, f"{part}: nothing was compared"
    found = differences(one, two, part)
    new = [line for line in found if not any(fnmatch(line.split(": ")[0], a) for a in ALLOWED)]
    print(f" {part}: {len(one)} compared, {len(found)} differences", flush=True)
    if new:
        text = "\n".join(new[:40])
        pytest.fail(f"{len(new)} differences that are not allowed:\n{text}", pytrace=False)


def weights(pair: Pair) -> dict[str, Path]:
    """Where both editions find published files."""
    return {"PASST_BENCH_WEIGHTS": pair.inputs / "published"}


@pytest.mark.parametrize("batch", edition_cells.BATCHES, ids=lambda batch: batch.name)
def test_cells(batch: Batch, pair: Pair) -> None:
    def work(edition: Edition, folder: Path) -> None:
        words = batch.words(folder, pair.inputs)
        edition.bench(words, folder, good=(0, 1), **weights(pair))
        commits = {
            json.loads(path.read_text())["commit"] for path in folder.glob("runs/records/*/*.json")
        }
        if edition is pair.first:  # also the processes that the command started
            assert commits == {FIRST_EDITION}

    first, now = (records(folder / "runs") for folder in pair.both(batch.name, work))
    statuses = Counter(record["status"] for record in first.values() if "status" in record)
    count = len(edition_cells.lines(batch.cells)) * (5 if batch.name == "esc50" else 1)  # folds
    diverging = int("diverges" in batch.cells)
    assert statuses == Counter(ok=count - diverging, diverged=diverging)
    compare(f"cells/{batch.name}", first, now)


@pytest.mark.parametrize("batch", edition_cells.STOPPED, ids=lambda batch: batch.name)
def test_killed_and_resumed(batch: Batch, pair: Pair) -> None:
    named = ["--variant", "one", "--checkpoint-seconds", "0"]

    def work(edition: Edition, folder: Path) -> None:
        words = [*batch.words(folder, pair.inputs), *named]
        if edition is pair.now:
            killed(edition, words, folder)
        edition.bench(words, folder)

    first, now = (records(folder / "runs") for folder in pair.both(batch.name, work))
    compare(f"resumed/{batch.name}", first, now)


def killed(edition: Edition, words: list[str], folder: Path) -> None:
    """Starts a command and kills all its processes after two epochs of its first run."""
    words = ["-m", "passt_bench", *edition.spelled(words)]
    process = edition.start(words, folder, folder / "killed.txt")
    while not any(
        len(path.read_text().splitlines()) >= 2
        for path in folder.glob("runs/records/*/progress.jsonl")
    ):
        assert process.poll() is None, (folder / "killed.txt").read_text()
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(folder.glob("runs/records/*/record.json")), "it was too fast to be killed"
    assert list(folder.glob("runs/records/*/checkpoint.pt"))


def test_search(pair: Pair) -> None:
    """Trials, which train without the inner split; their draws depend on the folder's path."""
    here = pair.scratch / "search-here"

    def work(edition: Edition, folder: Path) -> None:
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir(parents=True)
        edition_cells.write_studies(here, pair.inputs)
        words = "search good.py --trials 4 --minutes 9 --workers 1 --no-track --out runs"
        edition.bench([*words.split(), "--reports", "reports"], here)
        shutil.move(here / "runs", folder / "runs")

    found = []
    for edition in (pair.first, pair.now):
        folder = pair.scratch / edition.name / "search"
        folder.mkdir(parents=True)
        work(edition, folder)
        found.append(records(folder / "runs"))
    assert any(r.get("recipe", {}).get("training", {}).get("select") == "inner"
               for r in found[0].values())  # fmt: skip
    compare("search", *found)


def given(pair: Pair, name: str, commands: list[str]) -> tuple[list[Path], list[list[Any]]]:
    """What comes of commands in both editions: their folders and results."""
    placed = [line.replace("INPUTS", str(pair.inputs)).split() for line in commands]

    def work(edition: Edition, folder: Path) -> None:
        here = folder / "here"
        here.mkdir()
        edition_cells.write_studies(here, pair.inputs)
        edition_mistakes.write_wrong_studies(here, pair.inputs)
        spelled = [edition.spelled(words) for words in placed]
        (folder / "commands.json").write_text(json.dumps(spelled))
        driver = [
            str(HERE.parent / "helpers" / "commands.py"),
            "../commands.json",
            "../results.json",
        ]
        edition.python(driver, here, **weights(pair))

    folders = pair.both(name, work)
    results = [json.loads((folder / "results.json").read_text()) for folder in folders]
    return [folder / "here" for folder in folders], results


def test_predictions(pair: Pair) -> None:
    commands = edition_cells.PREDICTIONS
    _, results = given(pair, "predictions", commands)
    refused = [result["status"] for result in results[0] if result["status"]]
    assert refused == [2, 2], "all but the two image models predict"
    told = [[[r["status"], r["out"]] for r in result] for result in results]
    compare("predictions", *(dict(zip(commands, each, strict=True)) for each in told))


def test_evaluations(pair: Pair) -> None:
    folders, results = given(pair, "evaluations", edition_cells.EVALUATIONS)
    assert not [result["printed"] for result in results[0] if result["status"]]
    compare("evaluations", *(records(folder / "runs") for folder in folders))


def test_prepared_files(pair: Pair) -> None:
    commands = edition_cells.PREPARATIONS
    folders, results = given(pair, "preparations", commands)
    assert {result["status"] for result in results[0]} <= {0, 1}, results[0]
    told = [[[r["status"], counted(r["out"])] for r in result] for result in results]
    compare("checks", *(dict(zip(commands, each, strict=True)) for each in told))
    compare("prepared", *(hashes(folder) for folder in folders))


def counted(text: str) -> Any:
    """What `data check --json` found, without the sentences."""
    if not text.startswith("{"):
        return None
    found = json.loads(text)
    for item in found["findings"]:
        item["remedy"] = None
    return {**found, "notes": None, "seconds": None, "refusal": bool(found["refusal"])}


def hashes(folder: Path) -> dict[str, str]:
    """Hashes of the files in prepared folders."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py"]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.name != "log.txt"
    }


def test_mistakes(pair: Pair) -> None:
    commands = edition_mistakes.MISTAKES
    assert len(commands) == len(set(commands)) > 60
    folders, results = given(pair, "mistakes", commands)
    good = [r["printed"] for r in results[0] if r["status"] not in (1, 2)]
    assert not good, "no mistakes in the first edition"
    assert sum(result["error"] for result in results[0]) > 60
    told = []
    for folder, result in zip(folders, results, strict=True):
        text = json.dumps([{n: r[n] for n in ("status", "field", "value")} for r in result])
        values = json.loads(text.replace(str(folder), "HERE"))
        told.append(dict(zip(commands, values, strict=True)))
    compare("mistakes", *told)


def test_tables_of_the_committed_reports(pair: Pair) -> None:
    def work(edition: Edition, folder: Path) -> None:
        shutil.copytree(pair.first.root / "reports", folder / "reports")
        for path in folder.rglob("*.csv"):
            path.unlink()  # so that each is written anew
        (folder / "none").mkdir()  # a folder that is missing would be refused
        edition.bench(["report", "--runs", "none", "--out", "reports"], folder)

    found = [
        {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.csv"))}
        for folder in pair.both("reports", work)
    ]
    compare("reports", *found)
