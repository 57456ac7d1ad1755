"""What the file of a study can import, and what it cannot."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_folder import HostileFolder

from passt_bench.errors import InputError
from passt_bench.runner.studies import files_named, load_study, study_names

STUDY = '''"""Notes."""

{first}
from passt_bench.spec import Recipe, Study, Variant

STUDY = Study("near", QUESTION, Recipe(), (Variant("none"), Variant("b", {{"salt": 1}})), "none")
'''


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(folder: Path, first: str) -> Path:
    path = folder / "near.py"
    path.write_text(STUDY.format(first=first))
    return path


def test_it_imports_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    path = write(tmp_path, "from near_question import QUESTION")
    (tmp_path / "near_question.py").write_text("\n1 / 0\n")
    with pytest.raises(InputError, match=r"near_question\.py:2: .*ZeroDivisionError"):
        load_study(str(path))
    (tmp_path / "near_question.py").write_text('QUESTION = "Why, after all?"\n')
    monkeypatch.chdir(tmp_path)
    for name in (str(path), "near.py"):
        assert load_study(name).study.question == "Why, after all?"
        assert sys.path == before
        sys.modules.pop("near_question")
    write(tmp_path, "import sys\nsys.path.clear()\nQUESTION = 'Why?'")  # nor must this be fatal
    assert load_study("near.py").study.question == "Why?"


def test_what_a_library_or_the_suite_has_is_not_taken_from_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite's also under the name up to version 0.1, and from copies of the suite's own."""
    hostile = HostileFolder(tmp_path, ["colorsys", "ablations", "recipes"])
    for name in [name for name in sys.modules if name.split(".")[0] in ("ablations", "colorsys")]:
        monkeypatch.delitem(sys.modules, name)
    path = write(hostile.path, "import colorsys\nQUESTION = colorsys.__file__")
    assert not load_study(str(path)).study.question.startswith(str(tmp_path))
    for package in ("passt_bench.ablations", "ablations", ""):
        first = f"from {package}.recipes import synthetic\nQUESTION = synthetic.__name__"
        assert load_study(str(write(hostile.path, first))).study.question == "synthetic"
    assert not hostile.marks()


def test_a_folder_of_ones_own_is_listed_and_hides_no_study_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., tuple[int, str]]
) -> None:
    hostile = HostileFolder(tmp_path, ["ablations"])  # its __init__.py is not run
    monkeypatch.chdir(hostile.path)
    for name in ("ablations/near.py", "ablations/quick.py", "near.py"):
        write(hostile.path, "QUESTION = __file__.split('/')[-2]").rename(name)
    Path("ablations/broken.py").write_text("STUDY = 1 / 0")
    Path("alone.py").write_text("STUDY = 1 / 0")
    Path("ablations/common.py").write_text("HALF = 0.5")
    assert {"near", "broken", "quick"} < set(study_names())
    assert not {"common", "alone", "recipes"} & set(study_names())
    assert load_study("near").study.question == "ablations"
    assert load_study("./near.py").study.question == "current"
    assert files_named("near") == [Path("ablations/near.py"), Path("near.py")]
    assert len(load_study("quick").study.variants) == 10
    _, said = cli("list")
    assert "broken" in said and "ZeroDivisionError" in said and "alone cannot" not in said
    _, said = cli("plan", "near", "--runs", tmp_path / "runs")
    assert "near.py is not used: 'near' means ablations/near.py" in said.replace("\n", " ")
    assert not hostile.marks()


def test_a_name_that_could_not_be_read_again_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "QUESTION = '?'")
    hidden = tmp_path / ".near.py"
    hidden.write_text(path.read_text().replace('"near"', '".near"'))
    with pytest.raises(InputError) as caught:
        load_study(str(hidden))
    assert (caught.value.field, caught.value.value) == ("name", ".near")
