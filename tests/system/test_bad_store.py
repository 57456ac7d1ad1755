"""Broken records, records of another version, and disks that take no more."""

import errno
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures import Cli
from on_disk import files, largest_file
from planned_study import planned, write

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError, StorageError, located
from passt_bench.records.files import write_atomically
from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.plan import StudyPlan
from passt_bench.training import checkpoint


@pytest.fixture
def plan(study_file: Path, tmp_path: Path) -> StudyPlan:
    """The tiny study with a record for every cell in ``runs``, of which the last one failed."""
    plan = planned(study_file, tmp_path / "runs")
    store = write(tmp_path / "runs", plan)
    store.write(failure(plan.cells[-1], "error", "Traceback\nValueError: why"))
    return plan


NEWER = ('"schema":1', '"schema":2')


@pytest.mark.parametrize(
    ("spoil", "field", "value"),
    [
        (lambda text: text[: len(text) // 2], None, None),
        (lambda text: "", None, None),
        (lambda text: text.replace(*NEWER), "schema", 2),
        (lambda text: text.replace('"status":"ok"', '"status":"fine"'), "status", "fine"),
        (lambda text: "[1]", "schema", None),
    ],
    ids=["half", "empty", "newer", "status", "other"],
)
def test_what_is_wrong_with_a_record_is_named(
    spoil: Callable[[str], str], field: str | None, value: object, plan: StudyPlan, tmp_path: Path
) -> None:
    store, key = Store(tmp_path / "runs"), plan.cells[0].key
    path = store.folder(key) / "record.json"
    path.write_text(spoil(path.read_text()))
    for act in (store.run, store.outcome):
        with pytest.raises(InputError) as caught:
            act(key)
        error = caught.value
        assert (error.source, error.field, error.value) == (path, field, value)
        assert ("install a newer" if field == "schema" else str(path.parent)) in error.remedy


NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-" + 400 * "9")


@pytest.mark.parametrize("metrics", [*(f'{{"mAP":{x}}}' for x in NUMBERS), "{}", '{"AUC":0.5}'])
def test_a_run_without_a_number_drops_out_of_no_mean_in_silence(
    metrics: str, plan: StudyPlan, tmp_path: Path
) -> None:
    store, key = Store(tmp_path / "runs"), plan.cells[0].key
    path = store.folder(key) / "record.json"
    text = path.read_text().replace('"metrics":{"mAP":0.5}', f'"metrics":{metrics}')
    path.write_text(text.replace('"message":null', '"message":"a text with 1e999 and [[[ is fine"'))
    with pytest.raises(InputError) as caught:
        load_results("tiny", [store])
    assert caught.value.source == path
    assert ("beyond 1e99" if "mAP" in metrics else "without its metric mAP") in caught.value.problem


@pytest.mark.parametrize("command", ["plan", "status", "run", "report"])
def test_what_cannot_be_read_is_named_and_left_alone(
    command: str, plan: StudyPlan, study_file: Path, cli: Cli, tmp_path: Path
) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    if command in ("run", "report"):
        path = runs / "studies" / "tiny.json"
        path.write_text(path.read_text().replace(*NEWER))
    else:
        path = Store(runs).folder(plan.cells[0].key) / "record.json"
        path.write_text(path.read_text()[:99])
    before = files(runs)
    options = {"run": ("--no-track", "--no-cost", "--reports"), "report": ("--reports",)}
    words = (*options[command], reports) if command in options else ()
    study = "tiny" if command == "report" else study_file
    code, said = cli(command, study, "--runs", runs, *words)
    assert code == 2 and str(path) in said, said
    assert files(runs) == before and not reports.exists()


def test_a_broken_expansion_is_written_anew(plan: StudyPlan, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "studies" / "tiny.json"
    path.write_text(path.read_text()[:99])
    with pytest.raises(InputError, match=rf"not valid JSON.*Remove {path} "):
        Store(tmp_path / "runs").study("tiny")
    Store(tmp_path / "runs").write_study(plan.record)
    assert Store(tmp_path / "runs").study("tiny") == plan.record


def test_a_full_disk_leaves_record_and_checkpoint_whole(plan: StudyPlan, tmp_path: Path) -> None:
    store, cell, folder = Store(tmp_path / "runs"), plan.cells[0], tmp_path / "cell"
    folder.mkdir()
    checkpoint.save(folder, {"key": "k", "attempt": 1, "step": 1})
    before = files(tmp_path)
    with largest_file(1000), pytest.raises(StorageError) as error:
        store.write(failure(cell, "error", "x" * 3000))
    assert error.value.errno == errno.EFBIG
    for fragment in (f"{cell.key}/record.json", "File too large", "Free space", "it resumes"):
        assert fragment in str(error.value)
    with largest_file(1000), pytest.raises(StorageError, match=r"checkpoint.*Free space"):
        checkpoint.save(folder, {"key": "k", "attempt": 1, "step": list(range(1000))})
    assert files(tmp_path) == before
    assert (checkpoint.load(folder, ("k", 1)) or {})["step"] == 1
    store.write(failure(cell, "error", "x" * 3000))
    assert store.outcome(cell.key) is not None


def test_a_full_disk_ends_a_run_with_a_message(
    study_file: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with largest_file(50_000):  # the features are larger
        code, said = cli("run", study_file, "--no-track", "--no-cost")
    assert code == 2
    for fragment in ("cache/features-", "cannot be written", "Free space", "it resumes"):
        assert fragment in said
    assert not list((tmp_path / "runs" / "cache").glob("*features*"))
    if Path("/proc/self").is_dir():  # which takes nothing
        code, said = cli("run", study_file, "--runs", "/proc/runs", "--no-track", "--no-cost")
        assert code == 2 and "/proc/runs/locks: cannot be written" in said


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    mounted = tmp_path / "disk"
    mounted.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(mounted)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        write_atomically(mounted / "f", b"old")
        with pytest.raises(StorageError, match=r"disk/f: .*No space left.*records clean") as error:
            write_atomically(mounted / "f", b"new" * 20_000)
        assert error.value.errno == errno.ENOSPC
        assert files(mounted) == {"f": b"old"}
        remount = ["mount", "-o", "remount,ro", str(mounted)]
        assert not subprocess.run(remount, check=False, capture_output=True).returncode
        with pytest.raises(StorageError, match=r"Read-only file system.*Give a folder"):
            write_atomically(mounted / "f", b"new")
        assert files(mounted) == {"f": b"old"}
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_where_it_came_from_is_added_once() -> None:
    with pytest.raises(InputError, match=r"^there: f = 1: wrong\. Mend\.$"), located("there"):
        raise InputError("wrong", field="f", value=1, remedy="Mend.")
    with pytest.raises(StorageError, match=r"^here: full\.$"), located("there"):
        raise StorageError("full", source="here")


def test_outcome_and_record_agree(plan: StudyPlan, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for cell in plan.cells:
        record, outcome = store.run(cell.key), store.outcome(cell.key)
        assert (outcome.status, outcome.message) == (record.status, record.message)
    assert store.outcome("none") is None
    path = store.folder("session") / "record.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": 1, "kind": "cost"}))
    with pytest.raises(InputError) as caught:
        store.outcome("session")
    assert caught.value.field == "key"
