"""The wheel by itself: installed into an environment of its own, used in an empty folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
import small_study

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("passt_bench", "ablations", "pyproject.toml", "README.md", "LICENSE")
SMALL = ("training.epochs=1", "data.train_clips=40", "data.test_clips=20")
TINY = ("--seeds=1", "--no-cost", "--no-track", *(f"--set={change}" for change in SMALL))


@dataclass(frozen=True)
class Installed:
    """An environment that has the wheel, and an empty folder."""

    environment: Path
    folder: Path

    def run(self, *words: str) -> str:
        command = [self.environment / "bin" / "passt-bench", *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "HOME": str(self.folder.parent)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    if int(version("setuptools").split(".")[0]) < 77:
        pytest.skip("pyproject.toml needs setuptools 77 to build a wheel")
    root = tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:  # a copy, for setuptools leaves a build folder
        path = ROOT / name
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, root / "source" / name, ignore=ignored)
        else:
            shutil.copy(path, root / "source" / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    offline = ("-q", "--no-deps", "--no-index")
    words = ("wheel", *offline, "--no-build-isolation", "-w", str(root), str(root / "source"))
    subprocess.run([*pip, *words], check=True)
    environment, folder = root / "environment", root / "empty"
    venv.create(environment, symlinks=True)
    # The libraries of this environment. Its own .pth files, and with them an editable install of
    # the package, are not read there.
    paths = {"base": str(environment), "platbase": str(environment)}
    libraries = Path(sysconfig.get_path("purelib", vars=paths))
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    (wheel,) = root.glob("*.whl")
    python = str(environment / "bin" / "python")
    subprocess.run([*pip, "--python", python, "install", *offline, str(wheel)], check=True)
    assert {path.name.split("-")[0] for path in libraries.glob("passt*")} == {"passt_bench"}
    assert not (libraries / "ablations").exists()
    folder.mkdir()
    return Installed(environment, folder)


def test_a_study_of_the_suite_runs_in_an_empty_folder(installed: Installed) -> None:
    listed = installed.run("list")
    assert "quick " in listed and "paper_table1 " in listed
    assert "unstructured .5" in installed.run("plan", "quick")
    assert not list(installed.folder.iterdir())
    out = installed.run("run", "quick", "--name", "tiny", "--variant", "time .75", *TINY)
    (page,) = installed.folder.rglob("tiny/index.html")
    assert str(page.relative_to(installed.folder)) in out
    assert {path.name for path in installed.folder.iterdir()} == {"runs"}
    installed.run("report")
    (table,) = installed.folder.rglob("paper/table1.csv")
    assert table.read_text() == (ROOT / "reports" / "paper" / "table1.csv").read_text()


def test_a_name_is_looked_for_in_three_places(installed: Installed) -> None:
    folder = installed.folder
    (folder / "ablations").mkdir(exist_ok=True)
    places = {
        "ablations/mine.py": ("mine", "In the folder?"),
        "mine.py": ("mine", "Hidden?"),
        "ablations/quick.py": ("quick", "Hidden too?"),
        "beside.py": ("beside", "Beside?"),
    }
    for path, (name, question) in places.items():
        (folder / path).write_text(small_study.text(name, question=question))
    try:
        listed = installed.run("list")
        assert "In the folder?" in listed
        assert not any(word in listed for word in ("beside", "Hidden"))
        assert "beside: 3 variants" in installed.run("plan", "beside")
        assert "mine.py is not used: 'mine' means ablations/mine.py" in installed.run(
            "plan", "mine"
        )
        said = installed.run("plan", "quick")
        assert "ablations/quick.py is not used" in said and "quick: 12 variants" in said
        assert "quick: 3 variants" in installed.run("plan", "ablations/quick.py")
        copied = (ROOT / "ablations" / "quick.py").read_text()  # it imports from `.recipes`
        (folder / "mine.py").write_text(copied.replace('name="quick"', 'name="mine"'))
        assert "mine: 12 variants" in installed.run("plan", "./mine.py")
    finally:
        for path in places:
            (folder / path).unlink()
