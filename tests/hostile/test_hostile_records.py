"""Records from elsewhere, changed at random places: a result or a sentence, and nothing else."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixtures import Cli, Mistake
from on_disk import files
from study_on_disk import SMALL, write_study

from passt_bench.records.files import pack_json
from passt_bench.records.run import RunRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Record, Store
from passt_bench.spec.key import RESERVED

VALUES = (None, -1, 10**12, 1.5, "../../x", "x" * 3000, [], {}, [[]], True, "\x1b[31m", "delete")
READING = (("show", "quick"), ("status", "quick"), ("records", "clean"), ("plan", "quick"))
PICTURE = {"logmel": [[1, 2], [3, 4]], "kept": [0], "grid": [2, 2]}
PICTURE |= {"patch": [1, 1], "stride": [1, 1]}
WRITING = (("sync",), ("records", "merge"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("records") / "runs"
    write_study(root, SMALL, seeds=range(3), rich=False)
    return root


def _places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = node.items() if isinstance(node, dict) else enumerate(node[:1])
    for name, value in inside:
        yield (*above, name)
        if isinstance(value, dict | list) and len(above) < 3:
            yield from _places(value, (*above, name))


def _answered(answer: tuple[int, str]) -> None:
    """A traceback would fail before this."""
    code, said = answer
    assert code in (0, 2) and "\x1b" not in said
    assert code == 0 or "error: " in said


@pytest.mark.parametrize("seed", range(6))
def test_a_changed_record_is_a_result_or_a_sentence(
    seed: int, written: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, random_ = Path(shutil.copytree(written, tmp_path / "runs")), random.Random(seed)
    store = Store(root)
    keys = [store.study("quick").variants[n].cells[0].key for n in (1, 2)]
    records = [store.folder(key) / "record.json" for key in (*keys, store.sessions()[0].key)]
    path = random_.choice([*records, root / "studies" / "quick.json"])
    plain = json.loads(path.read_text())
    for _ in range(2):
        *parents, last = random_.choice(list(_places(plain)))
        node, value = plain, random_.choice(VALUES)
        for name in parents:
            node = node[name]
        node[last] = value
        if value == "delete":
            del node[last]
    path.write_text(json.dumps(plain, sort_keys=True, separators=(",", ":")))
    before = files(tmp_path)
    for command in (*READING, ("records", "diff", str(records[0]), str(records[1]))):
        _answered(cli(*command, "--runs", root))
    assert files(tmp_path) == before
    monkeypatch.setenv("PASST_BENCH_TRACKERS", "csv")
    for command in WRITING:
        place = (root, "--runs", tmp_path / "all") if "merge" in command else ("--runs", root)
        _answered(cli(*command, *place))
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", "all"}


def _with_metric(value: str, written: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of a store in which one run has this metric; its folder, and the record."""
    root = Path(shutil.copytree(written, tmp_path / "runs"))
    path = Store(root).folder(Store(root).study("quick").variants[1].cells[0].key) / "record.json"
    text = json.dumps({**json.loads(path.read_text()), "metrics": {"mAP": "here"}}, sort_keys=True)
    path.write_text(text.replace('"here"', value))
    return root, path


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "nan", "inf"])
def test_a_number_that_is_none_is_named(
    number: str, written: Path, mistake: Mistake, tmp_path: Path
) -> None:
    root, path = _with_metric(number, written, tmp_path)
    error = mistake("report", "quick", "--runs", root)
    named = "holds NaN, Infinity, or a number beyond" if number[-1] in "Ny0" else f"'{number}}}"
    assert error.source == path and named in error.problem and "complete" not in error.problem


@pytest.mark.parametrize("value", [17, -0.5, 1.001])
@pytest.mark.parametrize("part", ["metrics", "per_class", "probes"])
def test_a_metric_is_within_its_bounds(
    part: str, value: float, written: Path, mistake: Mistake, tmp_path: Path
) -> None:
    root, path = _with_metric("0.5", written, tmp_path)
    plain = json.loads(path.read_text())
    inside = {"metrics": {"mAP": value}, "per_class": {"mAP": {"x": value}}}
    inside["probes"] = {"hide": {"mAP/low": value}}
    path.write_text(json.dumps({**plain, part: inside[part]}, sort_keys=True))
    error = mistake("report", "quick", "--runs", root)
    assert (error.source, error.value) == (path, value) and "between 0 and 1" in error.problem


SHAPES: dict[str, tuple[type[Record], str, object]] = {
    "a machine of no number of cores": (RunRecord, "machine", {"cores": [2]}),
    "a GPU without a name": (RunRecord, "machine", {"gpus": [{"name": "x"}]}),
    "a day that is none": (RunRecord, "finished", "yesterday"),
    "a time before all computers": (RunRecord, "finished", "0001-01-01T00:00:00+14:00"),
    "a picture of unequal rows": (RunRecord, "picture", {**PICTURE, "logmel": [[1, 2], [3]]}),
    "a patch beside the grid": (RunRecord, "picture", {**PICTURE, "kept": [4]}),
    "a warning that is no text": (SessionRecord, "disturbance", {"warnings": 3.0}),
}


@pytest.mark.parametrize("what", SHAPES)
def test_what_a_page_cannot_show_is_refused(
    what: str, written: Path, mistake: Mistake, tmp_path: Path
) -> None:
    kind, field, value = SHAPES[what]
    root = Path(shutil.copytree(written, tmp_path / "runs"))
    key = next(record.key for record in Store(root).records() if isinstance(record, kind))
    path = Store(root).folder(key) / "record.json"
    plain = {**json.loads(path.read_text()), field: value}
    path.write_text(json.dumps(plain, sort_keys=True, separators=(",", ":")))
    for words in (("report", "quick"), ("show", "quick"), ("sync",)):
        error = mistake(*words, "--runs", root)
        assert error.source == path and str(error.field).startswith(field)


@pytest.mark.parametrize("change", [{"baseline": "gone"}, {"variants": []}])
def test_a_study_has_its_baseline(
    change: dict[str, object], written: Path, mistake: Mistake, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(written, tmp_path / "runs"))
    path = root / "studies" / "quick.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    error = mistake("show", "quick", "--runs", root)
    assert (error.source, error.field) == (path, "baseline")


@pytest.mark.parametrize("samples", [[], {"a": 1.0}, {"a": {"train_step": [1.0]}}, {"a": {"b": 1}}])
def test_samples_of_a_session_are_rounds(samples: object, mistake: Mistake, tmp_path: Path) -> None:
    store = write_study(tmp_path, SMALL[:2], seeds=())
    path = store.folder(store.sessions()[0].key) / "samples.json.gz"
    path.write_bytes(pack_json(samples))
    assert mistake("show", "quick", "--runs", tmp_path).source == path


@pytest.mark.parametrize("name", RESERVED)
def test_a_study_of_others_does_not_take_the_suites_folders(
    name: str, written: Path, mistake: Mistake, tmp_path: Path
) -> None:
    plain = json.loads((written / "studies" / "quick.json").read_text())
    path = tmp_path / "runs" / "studies" / f"{name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({**plain, "name": name}))
    error = mistake("report", name, "--runs", tmp_path / "runs", "--reports", tmp_path / "pages")
    assert (error.source, error.field, error.value) == (path, "name", name)
    assert not (tmp_path / "pages" / name).exists()


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "nested", "nothing"])
def test_a_file_that_is_no_file(kind: str, written: Path, cli: Cli, tmp_path: Path) -> None:
    root = Path(shutil.copytree(written, tmp_path / "runs"))
    path = Store(root).folder(Store(root).study("quick").variants[1].cells[0].key) / "record.json"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    else:
        path.write_text("[" * 10**5 if kind == "nested" else "")
    for command in READING:
        code, said = cli(*command, "--runs", root)
        assert code in (0, 2)
        assert code == 0 or str(path.parent) in said
    if kind not in ("pipe", "folder"):  # which are no records at all
        code, said = cli("report", "quick", "--reports", tmp_path / "reports", "--runs", root)
        assert code == 2 and str(path) in said
        assert not list(tmp_path.glob("reports/quick/*"))
