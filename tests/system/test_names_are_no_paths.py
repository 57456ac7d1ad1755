"""What a record says of itself leads nowhere: names, keys and links of copied folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from study_on_disk import SMALL, fingerprint, write_study

from passt_bench.errors import InputError
from passt_bench.records.run import RunRecord
from passt_bench.records.search import SearchRecord, TrialRecord
from passt_bench.records.session import ComparisonRecord, SessionRecord
from passt_bench.records.store import (
    Store,
    read_record,
    read_search,
    write_comparison,
    write_search,
)
from passt_bench.report.build import build_comparison, build_search, build_study, build_variants
from passt_bench.runner.maintenance import find_removable, remove
from passt_bench.runner.merge import merge
from passt_bench.spec import Patchout, Recipe

Cli = Callable[..., tuple[int, str]]
REPORTS = Path(__file__).parents[2] / "reports"
KINDS = {"studies": "quick", "search": "search-quick", "comparisons": "costs"}
LEADING = ("/somewhere/thesis", "../thesis", "..", ".hidden", "", "a/../a", "a\\b", "a\0b")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A study, a search and a comparison, with a folder beside them that is none of theirs."""
    root = tmp_path / "runs"
    store = write_study(root, SMALL, rich=False)
    study, session = store.study("quick"), store.sessions()[0]
    key = study.variants[0].cells[0].key
    trial = TrialRecord(0, "time", 0.0, Patchout(), 66, (key,), "ok", 0.8)
    write_search(
        SearchRecord(
            "search-quick", "?", "mAP", "none", Recipe(), ("time",), (0.0, 0.125), None, (3,),
            fingerprint(), (trial,),
        ),
        root,
    )  # fmt: skip
    bare = tuple(replace(variant, cells=()) for variant in study.variants)
    write_comparison(ComparisonRecord("costs", "none", bare, (session.key,)), root)
    for name in ("thesis/figures", "thesis/tables", "reports/other/records"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mine.txt").write_text("mine")
    (tmp_path / "thesis" / "index.html").write_text("mine")
    return root


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain, sort_keys=True, separators=(",", ":")))


def build(folder: str, runs: Path, reports: Path) -> Path:
    made = {"studies": build_study, "search": build_search, "comparisons": build_comparison}
    return made[folder](KINDS[folder], runs, reports)


def refused(folder: str, runs: Path, tmp_path: Path) -> InputError:
    """The error with which a report and a merge end, both before anything is written."""
    before, errors = files(tmp_path), []
    for act in (
        lambda: build(folder, runs, tmp_path / "reports"),
        lambda: merge([runs], tmp_path / "all" / "a" / "b"),
    ):
        with pytest.raises(InputError) as caught:
            act()
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    assert files(tmp_path) == before
    return errors[0]


@pytest.mark.parametrize("folder", KINDS)
@pytest.mark.parametrize("name", [*LEADING, "another"])
def test_a_name_that_is_not_that_of_its_file_is_refused(
    folder: str, name: str, runs: Path, tmp_path: Path
) -> None:
    path = runs / folder / f"{KINDS[folder]}.json"
    rewrite(path, lambda plain: plain.update(name=name))
    error = refused(folder, runs, tmp_path)
    assert (error.source, error.field, error.value) == (path, "name", name)


@pytest.mark.parametrize("folder", KINDS)
def test_a_report_that_was_given_to_you_is_read_with_the_same_care(
    folder: str, runs: Path, tmp_path: Path
) -> None:
    """Records that only the reports have, as in a copied or cloned one."""
    reports = tmp_path / "reports"
    build(folder, runs, reports)
    path = reports / KINDS[folder] / folder / f"{KINDS[folder]}.json"
    rewrite(path, lambda plain: plain.update(name="../other"))
    before = files(tmp_path)
    with pytest.raises(InputError) as error:
        build(folder, tmp_path / "none", reports)
    assert (error.value.field, error.value.value) == ("name", "../other")
    assert files(tmp_path) == before


POINTERS = {
    ("studies", "variants.1.cells.2.key"): lambda plain: plain["variants"][1]["cells"][2],
    ("studies", "variants.1.arm"): lambda plain: plain["variants"][1],
    ("search", "trials.0.keys.0"): lambda plain: plain["trials"][0]["keys"],
    ("comparisons", "variants.1.arm"): lambda plain: plain["variants"][1],
    ("comparisons", "sessions.0"): lambda plain: plain["sessions"],
}


@pytest.mark.parametrize(("folder", "field"), POINTERS)
@pytest.mark.parametrize(
    "key", ["../../outside", "", "0123456789ABCDEF", "0" * 15, "0" * 16 + "\n"]
)
def test_what_points_to_a_record_is_hexadecimal(
    folder: str, field: str, key: str, runs: Path, tmp_path: Path
) -> None:
    shutil.copytree(next((runs / "records").iterdir()), tmp_path / "outside")
    path = runs / folder / f"{KINDS[folder]}.json"
    last = field.split(".")[-1]
    place: Any = int(last) if last.isdigit() else last
    rewrite(path, lambda plain: POINTERS[folder, field](plain).__setitem__(place, key))
    error = refused(folder, runs, tmp_path)
    assert (error.source, error.field, error.value) == (path, field, key)


@pytest.mark.parametrize("key", ["../../outside", "f" * 16])
@pytest.mark.parametrize("what", ["record", "session"])
def test_a_record_says_the_key_of_its_folder(
    what: str, key: str, runs: Path, tmp_path: Path
) -> None:
    path = _places(runs)[what]
    rewrite(path, lambda plain: plain.update(key=key))
    error = refused("studies", runs, tmp_path)
    assert (error.source, error.field, error.value) == (path, "key", key)
    with pytest.raises(InputError, match="key = "):
        read_record(path)
    if what == "record":  # nor is it asked how its cell ended
        with pytest.raises(InputError, match="key = "):
            Store(runs).outcome(path.parent.name)


def test_what_leads_elsewhere_is_neither_read_nor_written(runs: Path, tmp_path: Path) -> None:
    store, before = Store(runs), files(tmp_path)
    search = read_search("search-quick", runs)
    for act in (
        lambda: store.outcome("../../outside"),
        lambda: store.write(replace(_run(runs), key="../../outside")),
        lambda: store.write_study(replace(store.study("quick"), name="../../outside")),
        lambda: write_search(replace(search, name="../../outside"), runs),
    ):
        with pytest.raises(InputError, match=r"= '../../outside': may contain only letters"):
            act()
    assert files(tmp_path) == before


def _run(runs: Path) -> RunRecord:
    return next(record for record in Store(runs).records() if isinstance(record, RunRecord))


def _linked(path: Path, elsewhere: Path) -> Path:
    """Puts a link in the place of a file or folder, which moves elsewhere."""
    elsewhere.parent.mkdir(exist_ok=True)
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    return path


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


@pytest.mark.parametrize("what", [*KINDS, "record", "folder", "session", "samples"])
def test_links_are_not_followed(what: str, runs: Path, tmp_path: Path) -> None:
    path = _linked(_places(runs)[what], tmp_path / "elsewhere" / "x")
    error = refused(what if what in KINDS else "studies", runs, tmp_path)
    assert error.source == path and error.problem.startswith("a symbolic link")


def test_merge_copies_no_file_that_a_link_points_to(runs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = Store(runs).folder(_run(runs).key) / "model.safetensors"
    link.symlink_to(secret)
    with pytest.raises(InputError, match="a symbolic link") as error:
        merge([runs], tmp_path / "all")
    assert error.value.source == link
    assert not (tmp_path / "all").exists()


def test_nothing_is_written_through_a_link_in_a_records_place(runs: Path, tmp_path: Path) -> None:
    elsewhere, target = tmp_path / "elsewhere", tmp_path / "all"
    elsewhere.mkdir()
    (target / "records").mkdir(parents=True)
    (target / "records" / _run(runs).key).symlink_to(elsewhere)
    with pytest.raises(InputError, match="a symbolic link"):
        merge([runs], target)
    with pytest.raises(InputError, match="a symbolic link"):
        Store(target).write(_run(runs))
    assert list(elsewhere.iterdir()) == []


def test_clean_removes_links_and_not_what_they_point_to(runs: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("0123456789abcdef/notes", "thesis/text.tex", ".a.b", "notes.tmp", "checkpoint.pt"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("mine")
        os.utime(home / name, (0, 0))
    before = files(home)
    link = runs / "records" / ("e" * 16)
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


def test_clean_takes_no_record_that_a_link_points_to(runs: Path, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(Store(runs).folder(_run(runs).key), tmp_path / "elsewhere")
    link = runs / "records" / ("e" * 16)
    link.symlink_to(tmp_path / "elsewhere")
    before = files(tmp_path / "elsewhere")
    code, said = cli("records", "clean", "--runs", runs, "--yes", "--unused-records")
    assert (code, f"{link}: a symbolic link" in said) == (2, True)
    assert files(tmp_path / "elsewhere") == before


def test_a_folder_on_another_disk_may_be_a_link(runs: Path, tmp_path: Path) -> None:
    direct = files(build_study("quick", runs, tmp_path / "direct").parent)
    for place in (runs / "records", runs / "studies", runs):
        _linked(place, tmp_path / "disk" / place.name)
    assert files(build_study("quick", runs, tmp_path / "linked").parent) == direct
    assert merge([runs], tmp_path / "all").studies == ["quick"]
    assert [item.paths for item in find_removable(runs) if item.results] == [()]


@pytest.mark.parametrize("name", ["2026-été_b", "-x", "x" * 100])
def test_whatever_name_the_command_line_takes_is_read(name: str, tmp_path: Path) -> None:
    write_study(tmp_path / "runs", SMALL[:1], name=name, session=False, rich=False)
    page = build_study(name, tmp_path / "runs", tmp_path / "reports")
    assert page == tmp_path / "reports" / name / "index.html" and page.is_file()
    assert merge([tmp_path / "runs"], tmp_path / "all").studies == [name]


def test_a_study_file_of_a_name_that_cannot_be_read_again_is_refused(
    cli: Cli, tmp_path: Path
) -> None:
    source = Path(__file__).parents[2] / "ablations" / "quick.py"
    path = tmp_path / ".quick.py"
    path.write_text(source.read_text().replace('name="quick"', 'name=".quick"'))
    code, said = cli("plan", path, "--runs", tmp_path / "runs")
    assert (code, "name = '.quick'" in said) == (2, True), said


def test_all_records_that_are_published_are_read() -> None:
    count = 0
    for root in sorted(path.parent for path in REPORTS.glob("*/records")):
        store = Store(root)
        count += len(list(store.records()))
        assert [store.study(name).name for name in store.studies()] == store.studies()
        for path in root.glob("search/*.json"):
            assert read_search(path.stem, root).name == path.stem
        assert all(isinstance(session, SessionRecord) for session in store.sessions())
    assert count == len(list(REPORTS.glob("*/records/*/record.json"))) > 100


def test_a_record_that_is_only_looked_at_may_lie_anywhere(
    runs: Path, cli: Cli, tmp_path: Path
) -> None:
    one = Store(runs).folder(_run(runs).key) / "record.json"
    shutil.copy(one, tmp_path / "copy.json")
    (tmp_path / "link.json").symlink_to(one)
    for name in ("copy.json", "link.json"):
        code, said = cli("records", "diff", one, tmp_path / name, "--runs", runs)
        assert (code, "Same key" in said) == (0, True), said


def test_a_report_is_not_written_through_a_link_in_it(runs: Path, tmp_path: Path) -> None:
    folder = build_study("quick", runs, tmp_path / "reports").parent
    (folder / "search").mkdir()
    for place in ("figures", "tables", "records", "studies", "search"):
        part = _linked(folder / place, tmp_path / "mine" / place)
        before = files(tmp_path)
        with pytest.raises(InputError, match="symbolic link") as error:
            build_study("quick", runs, tmp_path / "reports")
        assert error.value.source == part
        assert files(tmp_path) == before
        part.unlink()
        (tmp_path / "mine" / place).rename(part)


def test_a_page_of_some_variants_is_not_written_through_a_link(runs: Path, tmp_path: Path) -> None:
    page = build_study("quick", runs, tmp_path / "reports")
    (tmp_path / "mine").mkdir()
    (page.parent / "variants").symlink_to(tmp_path / "mine")
    name = Store(runs).study("quick").variants[1].name
    with pytest.raises(InputError, match="symbolic link"):
        build_variants("quick", [name], runs, tmp_path / "reports")
    assert not list((tmp_path / "mine").iterdir())


def test_clean_leaves_what_is_no_record_alone(runs: Path) -> None:
    key = _run(runs).key
    shutil.copytree(runs / "records" / key, runs / "records" / f"{key}.bak")
    (runs / "records" / "mine").mkdir()
    assert [item.paths for item in find_removable(runs) if item.results] == [()]
    assert f"{key}.bak" not in Store(runs).record_keys()
