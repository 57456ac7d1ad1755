"""What is installed suffices: the package by itself, used in an empty folder."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from installing import ROOT, install

SMALL = ("training.epochs=1", "data.train_clips=40", "data.test_clips=20")
TINY = ("--seeds=1", "--no-cost", "--no-track", *(f"--set={change}" for change in SMALL))


@pytest.mark.skipif(
    int(version("setuptools").split(".")[0]) < 77, reason="pyproject.toml needs setuptools 77"
)
def test_a_study_of_the_suite_runs_in_an_empty_folder(tmp_path: Path) -> None:
    installed, folder = install(tmp_path, tmp_path / "installed"), tmp_path / "empty"
    folder.mkdir()
    assert not (installed / "ablations").exists()

    def run(*words: str) -> str:
        environment = {"PYTHONPATH": str(installed), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=folder,
            env={**environment, "HOME": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    place = run("-P", "-c", "import passt_bench; print(passt_bench.__file__)")
    assert Path(place.strip()).is_relative_to(installed)
    command = str(installed / "bin" / "passt-bench")
    out = run(command, "run", "scope", "--name", "tiny", "--variant", "sample", *TINY)
    (page,) = folder.rglob("tiny/index.html")
    assert str(page.relative_to(folder)) in out
    assert {path.name for path in folder.iterdir()} == {"runs"}
    run(command, "report")
    (table,) = folder.rglob("paper/table1.csv")
    assert table.read_text() == (ROOT / "reports" / "paper" / "table1.csv").read_text()
