"""What started processes find on their path, and that they end with their parent."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hostile_folder import HostileFolder

from passt_bench.processes import VARIABLE, without_current_folder

PACKAGE = Path(__file__).parents[2] / "passt_bench"


def start(hostile: HostileFolder) -> int:
    words = [sys.executable, "-c", "import shutil"]
    return subprocess.run(words, cwd=hostile.path, check=False, capture_output=True).returncode


def test_a_process_runs_nothing_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    hostile = HostileFolder(tmp_path, ["shutil"])
    with without_current_folder():
        assert start(hostile) == 0
    assert not hostile.marks()
    assert start(hostile) != 0  # the folder is what it is said to be
    assert list(hostile.marks()) == ["shutil"]


@pytest.mark.parametrize("before", [None, "", "1"])
def test_the_environment_is_left_as_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv(VARIABLE, raising=False)
    else:
        monkeypatch.setenv(VARIABLE, before)
    with pytest.raises(ZeroDivisionError), without_current_folder():
        with without_current_folder():
            assert os.environ[VARIABLE] == "1"
        assert os.environ[VARIABLE] == "1"
        raise ZeroDivisionError
    assert os.environ.get(VARIABLE) == before


def test_threads_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    inside, go = threading.Event(), threading.Event()

    def stay() -> None:
        with without_current_folder():
            inside.set()
            go.wait(60)

    thread = threading.Thread(target=stay)
    with without_current_folder():
        thread.start()
        assert inside.wait(60)
    assert os.environ[VARIABLE] == "1"  # the other thread may still start something
    go.set()
    thread.join()
    assert VARIABLE not in os.environ


def test_whatever_starts_python_takes_care() -> None:
    starts = ("sys.executable", 'get_context("', "ensure_running()")
    files = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    starting = {path for path, text in files.items() if any(word in text for word in starts)}
    starting.remove(PACKAGE / "processes.py")
    assert len(starting) >= 2
    assert all("passt_bench.processes" in files[path] for path in starting)


AS_BY_M = """import os, runpy, sys
sys.path[0] = os.getcwd()  # as -m has it, where -c has the empty name
sys.argv[1:] = ["list", "metrics"]
try:
    runpy.run_module("passt_bench", run_name="__main__")
except SystemExit:
    pass
print([sys.path.index(os.getcwd()), len(sys.path) - 1, os.environ.get("PYTHONPATH", "")])
"""


@pytest.mark.parametrize("checkout", [True, False])
def test_python_m_hands_its_folder_on_first_only_where_the_package_lies(
    checkout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(PACKAGE.parent)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", "" if checkout else root)
    done = subprocess.run(
        [sys.executable, "-c", AS_BY_M],
        cwd=root if checkout else tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    place, last, path = ast.literal_eval(done.stdout.splitlines()[-1])
    assert (place, path) == ((0, root) if checkout else (last, root)), done.stderr
