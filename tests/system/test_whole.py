"""A report changes only once all of it is rendered, and what no report wrote stays."""

import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest
from fixtures import Cli, Mistake
from known_subjects import without_pipe
from on_disk import files, largest_file
from study_on_disk import SMALL, Arm, write_study

from passt_bench.errors import InputError, StorageError
from passt_bench.processes import PipedChild
from passt_bench.records.files import write_atomically
from passt_bench.records.store import Store
from passt_bench.report.build import build_study, written
from passt_bench.report.files import replacing
from passt_bench.spec import override

REPORTS = Path(__file__).parents[2] / "reports"
OWN = ("notes.md", "figures/my.png", "figures/differences.txt", "tables/my.csv", "more/a/b.txt")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write_study(tmp_path / "runs", SMALL, session=False, rich=False).root


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put_own(folder: Path) -> dict[str, bytes]:
    for name in OWN:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"my {name}")
    return {name: f"my {name}".encode() for name in OWN}


def test_files_that_no_report_wrote_stay_and_old_ones_go(runs: Path, tmp_path: Path) -> None:
    folder = build_study("quick", runs, tmp_path / "reports").parent
    rendered = files(folder)
    mine = put_own(folder)
    gone = folder / "tables" / "cost.md"
    gone.write_text("of an earlier report")
    (folder / "link").symlink_to(tmp_path / "nowhere")
    for name in ("empty", "figures/mine"):
        (folder / name).mkdir()
    shutil.copytree(folder, tmp_path / "reports" / ".other.new", symlinks=True)  # of a killed one
    build_study("quick", runs, tmp_path / "reports")
    assert files(folder) == rendered | mine
    assert (folder / "link").readlink() == tmp_path / "nowhere"
    assert (folder / "empty").is_dir() and (folder / "figures" / "mine").is_dir()
    index = (tmp_path / "reports" / "index.html").read_text(encoding="utf-8")
    assert index.count("<h2>") == 1 and ".other.new" not in index


def test_records_of_the_report_alone_stay_and_others_go(runs: Path, tmp_path: Path) -> None:
    folder = build_study("quick", runs, tmp_path / "reports").parent
    study = Store(runs).study("quick")
    lost, dropped = (study.variants[n].cells[0].key for n in (0, 1))
    shutil.rmtree(Store(runs).folder(lost))
    (folder / "records" / dropped / "notes.md").write_text("mine")
    Store(runs).write_study(replace(study, variants=(study.variants[0], study.variants[2])))
    build_study("quick", runs, tmp_path / "reports")
    assert Store(folder).run(lost) is not None
    assert names(folder / "records" / dropped) == ["notes.md"]
    gone = study.variants[1].cells[1].key
    assert not (folder / "records" / gone).exists() and Store(runs).has(gone)


def test_every_file_that_is_rendered_is_known_as_such(small: Path) -> None:
    """Else a figure that is left out one day would stay for ever."""
    known = written() | {"search/search-quick.json"}
    folders = [small, *(path.parent for path in REPORTS.glob("*/studies"))]
    assert len(folders) > 4
    for folder in folders:
        for name in files(folder):
            assert name.startswith(("records/", "studies/")) or name in known, name


@pytest.mark.parametrize("linked", ["", "records"])
def test_runs_that_lead_to_the_report_lose_nothing(linked: str, runs: Path, tmp_path: Path) -> None:
    """The only copy of a record must not go because the runs seem to hold it too."""
    reports, given = tmp_path / "reports", tmp_path / "given"
    folder = build_study("quick", runs, reports).parent
    study = Store(folder).study("quick")
    Store(folder).write_study(replace(study, variants=study.variants[:2]))
    before = set(Store(folder).record_keys())
    (given / linked).parent.mkdir(exist_ok=True)
    (given / linked).symlink_to(folder / linked)
    for place in (given, folder):
        build_study("quick", place, reports)
        assert set(Store(folder).record_keys()) == before


def test_a_full_disk_or_an_interruption_leaves_the_old_report(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses larger files: EFBIG where a disk says ENOSPC."""
    reports = tmp_path / "reports"
    folder = build_study("quick", runs, reports).parent
    put_own(folder)
    before = files(reports)
    shutil.rmtree(runs)
    write_study(runs, (*SMALL, Arm("late", "time", 0.25, effect=-0.1)), session=False)
    for size in (0, 6 * 1024):
        with largest_file(size), pytest.raises(StorageError):
            build_study("quick", runs, reports)
        assert files(reports) == before
        assert names(reports) == [".lock", "index.html", "quick"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("passt_bench.report.build.render", Mock(side_effect=KeyboardInterrupt))
        build_study("quick", runs, reports)
    assert names(reports) == [".lock", "index.html", "quick"]


def test_a_table_of_failures_goes_once_nothing_fails(runs: Path, tmp_path: Path) -> None:
    """It would be told as a failure again."""
    store = write_study(runs, SMALL, rich=False)
    bare = tuple(replace(variant, cells=()) for variant in store.study("quick").variants)
    for variants in (bare, bare[:2]):
        store.write_study(replace(store.study("quick"), name="costs", seeds=(), variants=variants))
        folder = build_study("costs", runs, tmp_path / "reports").parent
        mine = put_own(folder)
        assert (folder / "tables" / "failures.md").is_file() == (variants == bare)
    assert mine.items() <= files(folder).items()


def test_a_study_is_adopted_if_it_has_all_that_it_replaces(
    runs: Path, tmp_path: Path, cli: Cli, mistake: Mistake
) -> None:
    reports = tmp_path / "reports"
    words = ("report", "quick", "--adopt", "--runs", runs, "--reports", reports)
    assert "was replaced" not in cli(*words)[1]
    before, study = files(reports), Store(runs).study("quick")
    none, *others = study.variants
    longer = replace(none, recipe=override(none.recipe, {"training.epochs": 1}))
    for changed, said in (
        (longer, "variant 'none', training.epochs = 1"),
        (replace(none, cells=none.cells[:2]), "no such run of variant 'none', seed 2"),
    ):
        Store(runs).write_study(replace(study, variants=(changed, *others)))
        error = mistake(*words)
        assert error.source == reports / "quick" and "--name" in str(error.remedy)
        assert f"(first difference: {said})" in error.problem
        assert files(reports) == before
    write_study(runs, SMALL, seeds=range(6), session=False, rich=False)
    assert f"{reports / 'quick'} was replaced: it had 15 runs, and now has 18." in cli(*words)[1]
    error = mistake("report", "qiuck", "--runs", reports, "--reports", reports)
    assert (error.source, error.remedy[:22]) == (str(reports), "Did you mean 'quick'? ")


@pytest.mark.parametrize("moves", range(4))
def test_an_interrupted_move_leaves_whole_files_and_is_completed(
    moves: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of moves, every file is the old or the new one, and the page comes last."""
    folder = tmp_path / "reports" / "quick"
    before = {"index.html": b"old page", "notes.md": b"mine", "tables/a.md": b"old a",
              "tables/b.md": b"old b", "records/2/record.json": b"old 2"}  # fmt: skip
    rendered = {"tables/a.md": b"new a", "records/3/record.json": b"new 3",
                "index.html": b"new page"}  # fmt: skip
    after = {name: data for name, data in (before | rendered).items() if name != "tables/b.md"}
    for name, data in before.items():
        write_atomically(folder / name, data, sync=False)

    def render() -> None:
        with replacing(folder, {"index.html", "tables/a.md", "tables/b.md"}) as new:
            for name, data in rendered.items():
                write_atomically(new / name, data, sync=False)

    move, left = Path.replace, moves

    def interrupted(path: Path, target: Path) -> Path:
        nonlocal left
        left -= ".quick.new" not in str(target)
        if left < 0:
            raise KeyboardInterrupt
        return move(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        try:
            render()
        except KeyboardInterrupt:
            assert moves < len(rendered)
    found = files(folder)
    assert all(data in (before.get(name), after.get(name)) for name, data in found.items())
    assert found.keys() >= before.keys() & after.keys()
    assert (found["index.html"] == b"new page") == (moves >= len(rendered))
    render()
    assert files(folder) == after
    assert names(tmp_path / "reports") == [".lock", "quick"]


def test_a_report_takes_no_place_of_something_else(runs: Path, tmp_path: Path) -> None:
    reports, elsewhere = tmp_path / "reports", tmp_path / "elsewhere"
    reports.mkdir()
    put_own(elsewhere)
    before = files(elsewhere)
    for place in (reports / ".quick.new", reports / "quick"):
        place.symlink_to(elsewhere)
        with pytest.raises(InputError) as error:
            build_study("quick", runs, reports)
        assert error.value.source == place
        place.unlink()
        place.write_text("mine")
        with pytest.raises(InputError) as error:
            build_study("quick", runs, reports)
        assert error.value.source == place and place.read_text() == "mine"
        place.unlink()
    assert files(elsewhere) == before


def test_two_processes_render_one_report(runs: Path, tmp_path: Path) -> None:
    given = without_pipe, build_study, "quick", runs, tmp_path / "reports"
    both = [PipedChild(*given) for _ in range(2)]
    assert all(child.ended(120) for child in both)
    assert [child.status for child in both] == [0, 0]
    folder = tmp_path / "reports" / "quick"
    rendered = files(folder)
    build_study("quick", runs, tmp_path / "reports")
    assert files(folder) == rendered
    assert "tables/verdicts.csv" in rendered
