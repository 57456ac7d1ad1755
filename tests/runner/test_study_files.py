"""What the file of a study can import, and what it cannot."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from hostile_folder import HostileFolder

from passt_bench.errors import InputError
from passt_bench.runner.studies import load_study

PACKAGE = Path(__file__).parents[2] / "ablations"
STUDY = '''"""Notes."""

{first}
from passt_bench.spec import Recipe, Study, Variant

STUDY = Study("near", QUESTION, Recipe(), (Variant("none"), Variant("b", {{"salt": 1}})), "none")
'''


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def write(folder: Path, first: str) -> str:
    path = folder / "near.py"
    path.write_text(STUDY.format(first=first))
    return str(path)


def test_it_imports_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "near_question.py").write_text('QUESTION = "Why?"\n')
    before = list(sys.path)
    path = write(tmp_path, "from near_question import QUESTION")
    assert load_study(path).study.question == "Why?"
    assert sys.path == before
    sys.modules.pop("near_question")
    monkeypatch.chdir(tmp_path)
    assert load_study("near.py").study.question == "Why?"
    sys.modules.pop("near_question")


def test_its_neighbours_stand_behind_every_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = HostileFolder(tmp_path, ["colorsys"])
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    path = write(hostile.path, "import colorsys\nQUESTION = colorsys.__file__")
    assert not load_study(path).study.question.startswith(str(tmp_path))
    assert not hostile.marks()


class Editable:
    """Finds the suite's studies as an editable install does: after all folders of the path."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "ablations":
            return None
        file = PACKAGE / "__init__.py"
        return spec_from_file_location(name, file, submodule_search_locations=[str(PACKAGE)])


def test_a_folder_called_ablations_beside_it_is_not_the_suites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = HostileFolder(tmp_path, ["ablations"])
    for name in [name for name in sys.modules if name.split(".")[0] == "ablations"]:
        monkeypatch.delitem(sys.modules, name)
    elsewhere = [entry for entry in sys.path if Path(entry).resolve() != PACKAGE.parent]
    monkeypatch.setattr(sys, "path", elsewhere)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable])
    path = write(hostile.path, "from ablations.recipes import synthetic\nQUESTION = 'Why?'")
    assert load_study(path).study.question == "Why?"
    assert not hostile.marks()


def test_a_broken_neighbour_is_named(tmp_path: Path) -> None:
    (tmp_path / "near_broken.py").write_text("\n1 / 0\n")
    before = list(sys.path)
    with pytest.raises(InputError, match=r"near_broken\.py:2: .*ZeroDivisionError"):
        load_study(write(tmp_path, "from near_broken import QUESTION"))
    assert sys.path == before


def test_a_study_may_change_the_path_itself(tmp_path: Path) -> None:
    path = write(tmp_path, "import sys\nsys.path.clear()\nQUESTION = 'Why?'")
    before = list(sys.path)
    assert load_study(path).study.question == "Why?"
    sys.path[:] = before
