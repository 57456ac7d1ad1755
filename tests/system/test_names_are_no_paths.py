"""What a record says of itself leads nowhere: names, keys and links of copied folders."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
from fixtures import Cli
from on_disk import files
from study_on_disk import SMALL, fingerprint, write_study

from passt_bench.errors import InputError
from passt_bench.records.run import RunRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.store import Store, read_record, read_search, write_document
from passt_bench.report.build import build_study
from passt_bench.runner.maintenance import find_removable, merge, remove
from passt_bench.spec import Patchout, Recipe

KINDS = {"studies": "quick", "search": "search-quick"}
LEADING = ("/somewhere/thesis", "../thesis", "..", ".hidden", "", "a/../a", "a\\b", "a\0b")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study and a search."""
    root = tmp_path_factory.mktemp("written") / "runs"
    store = write_study(root, SMALL, rich=False)
    study = store.study("quick")
    key = study.variants[0].cells[0].key
    trial = TrialRecord(0, "time", 0.0, Patchout(), 66, (key,), "ok", 0.8)
    write_document(
        SearchRecord(
            "search-quick", "?", "mAP", "none", Recipe(), ("time",), (0.0, 0.125), None, (3,),
            fingerprint(), (trial,),
        ),
        root,
    )  # fmt: skip
    return root


@pytest.fixture
def runs(written: Path, tmp_path: Path) -> Path:
    """A copy of them, with a folder beside it that is none of theirs."""
    for name in ("thesis/figures", "reports/other/records"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mine.txt").write_text("mine")
    return Path(shutil.copytree(written, tmp_path / "runs"))


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain, sort_keys=True, separators=(",", ":")))


def build(folder: str, runs: Path, reports: Path) -> Path:
    return build_study(KINDS[folder], runs, reports)


def end_unwritten(root: Path, *acts: Callable[[], object]) -> list[InputError]:
    """The errors with which they end, all before anything is written."""
    before, errors = files(root), []
    for act in acts:
        with pytest.raises(InputError) as caught:
            act()
        errors.append(caught.value)
    assert files(root) == before
    return errors


def refused(folder: str, runs: Path, tmp_path: Path) -> InputError:
    """The error with which a report and a merge end."""
    error, other = end_unwritten(
        tmp_path,
        lambda: build(folder, runs, tmp_path / "reports"),
        lambda: merge([runs], tmp_path / "all" / "a" / "b"),
    )
    assert str(error) == str(other)
    return error


def _run(runs: Path) -> RunRecord:
    return next(record for record in Store(runs).records() if isinstance(record, RunRecord))


def _places(runs: Path) -> dict[str, Path]:
    run = runs / "records" / _run(runs).key
    session = runs / "records" / Store(runs).sessions()[0].key
    named = {folder: runs / folder / f"{name}.json" for folder, name in KINDS.items()}
    return named | {
        "record": run / "record.json",
        "folder": run,
        "session": session / "record.json",
        "samples": session / "samples.json.gz",
    }


KEYS = ("../../outside", "0123456789ABCDEF", "0" * 16 + "\n")
# A file, the place of a name or key in it, and what is put there.
DAMAGES: list[tuple[str, tuple[str | int, ...], str]] = [
    *((folder, ("name",), "another") for folder in KINDS),
    *(("studies", ("name",), name) for name in LEADING),
    *(("studies", ("variants", 1, "cells", 2, "key"), key) for key in KEYS),
    ("studies", ("variants", 1, "arm"), KEYS[0]),
    ("search", ("trials", 0, "keys", 0), KEYS[0]),
    *((what, ("key",), key) for what in ("record", "session") for key in (KEYS[0], "f" * 16)),
]


@pytest.mark.parametrize(("what", "place", "value"), DAMAGES)
def test_a_name_or_key_that_leads_elsewhere_is_refused(
    what: str, place: tuple[Any, ...], value: str, runs: Path, tmp_path: Path
) -> None:
    path = _places(runs)[what]
    *parents, last = place
    rewrite(path, lambda plain: reduce(getitem, parents, plain).__setitem__(last, value))
    error = refused(what if what in KINDS else "studies", runs, tmp_path)
    assert (error.source, error.field) == (path, ".".join(map(str, place)))
    assert error.value == value
    if what == "record":
        for other in end_unwritten(
            runs, lambda: read_record(path), lambda: Store(runs).outcome(path.parent.name)
        ):
            assert other.field == "key"


@pytest.mark.parametrize("folder", KINDS)
def test_a_report_from_elsewhere_is_read_with_care(folder: str, runs: Path, tmp_path: Path) -> None:
    """Records that only the reports have, as in a copied or cloned one."""
    reports = tmp_path / "reports"
    build(folder, runs, reports)
    path = reports / KINDS[folder] / folder / f"{KINDS[folder]}.json"
    rewrite(path, lambda plain: plain.update(name="../other"))
    (error,) = end_unwritten(tmp_path, lambda: build(folder, tmp_path / "none", reports))
    assert (error.field, error.value) == ("name", "../other")


def test_what_leads_elsewhere_is_neither_read_nor_written(runs: Path, tmp_path: Path) -> None:
    store, out = Store(runs), "../../outside"
    search, study = read_search("search-quick", runs), store.study("quick")
    for error in end_unwritten(
        tmp_path,
        lambda: store.outcome(out),
        lambda: store.write(replace(_run(runs), key=out)),
        lambda: store.write_study(replace(study, name=out)),
        lambda: write_document(replace(search, name=out), runs),
    ):
        assert error.value == out


def _linked(path: Path, elsewhere: Path) -> Path:
    """Puts a link in the place of a file or folder, which moves elsewhere."""
    elsewhere.parent.mkdir(exist_ok=True)
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    return path


@pytest.mark.parametrize("what", [*KINDS, "record", "folder", "session", "samples"])
def test_links_are_not_followed(what: str, runs: Path, tmp_path: Path) -> None:
    path = _linked(_places(runs)[what], tmp_path / "elsewhere" / "x")
    error = refused(what if what in KINDS else "studies", runs, tmp_path)
    assert error.source == path and error.problem.startswith("a symbolic link")


def test_nothing_is_copied_or_written_through_a_link(runs: Path, tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "all"
    elsewhere.mkdir()
    (target / "records").mkdir(parents=True)
    (target / "records" / _run(runs).key).symlink_to(elsewhere)
    model = Store(runs).folder(_run(runs).key) / "model.safetensors"
    model.symlink_to(tmp_path / "secret")
    folder = build_study("quick", runs, tmp_path / "reports").parent
    for error in end_unwritten(
        tmp_path,
        lambda: merge([runs], tmp_path / "new"),
        lambda: merge([runs], target),
        lambda: Store(target).write(_run(runs)),
    ):
        assert "symbolic link" in error.problem
    assert not list(elsewhere.iterdir())
    for place in ("figures", "tables", "records", "studies"):
        part = _linked(folder / place, tmp_path / "mine" / place)
        (error,) = end_unwritten(tmp_path, lambda: build_study("quick", runs, tmp_path / "reports"))
        assert error.source == part and "symbolic link" in error.problem
        part.unlink()
        (tmp_path / "mine" / place).rename(part)


def test_clean_removes_links_and_not_their_targets(runs: Path, cli: Cli, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("0123456789abcdef/notes", "thesis/text.tex", ".a.b", "notes.tmp", "checkpoint.pt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("mine")
        os.utime(home / name, (0, 0))
    link = runs / "records" / ("e" * 16)
    shutil.copytree(Store(runs).folder(_run(runs).key), home / "record")
    before = files(home)
    link.symlink_to(home / "record")
    code, said = cli("records", "clean", "--runs", runs, "--yes", "--unused-records")
    assert (code, f"{link}: a symbolic link" in said) == (2, True)
    link.unlink()
    link.symlink_to(home)
    for removable in find_removable(runs):
        remove(removable)
    assert not link.is_symlink() and files(home) == before
    for place in ("records", "cache", "search"):
        if (runs / place).exists():
            (runs / place).rename(tmp_path / f"was-{place}")
        (runs / place).symlink_to(home)
    for removable in find_removable(runs):
        remove(removable)
    assert files(home) == before


def test_folders_and_shown_records_may_be_links(runs: Path, cli: Cli, tmp_path: Path) -> None:
    one = Store(runs).folder(_run(runs).key) / "record.json"
    (tmp_path / "link.json").symlink_to(one)
    code, said = cli("records", "diff", one, tmp_path / "link.json", "--runs", runs)
    assert (code, "Same key" in said) == (0, True), said
    direct = files(build_study("quick", runs, tmp_path / "direct").parent)
    for place in (runs / "records", runs / "studies", runs):
        _linked(place, tmp_path / "disk" / place.name)
    assert files(build_study("quick", runs, tmp_path / "linked").parent) == direct
    assert merge([runs], tmp_path / "all").studies == ["quick"]
    assert [item.paths for item in find_removable(runs) if item.results] == [()]


def test_whatever_name_the_command_line_takes_is_read(tmp_path: Path) -> None:
    names = ["-x", "2026-été_b", "x" * 100]
    for name in names:
        write_study(tmp_path / "runs", SMALL[:1], name=name, session=False, rich=False)
    page = build_study(names[1], tmp_path / "runs", tmp_path / "reports")
    assert page == tmp_path / "reports" / names[1] / "index.html" and page.is_file()
    assert sorted(merge([tmp_path / "runs"], tmp_path / "all").studies) == sorted(names)
