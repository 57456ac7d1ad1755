"""What started processes find on their path, and how they end."""

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from hostile_folder import HostileFolder
from known_subjects import without_pipe

from passt_bench.processes import (
    SAFE_PATH_VARIABLE,
    PipedChild,
    explain_exit,
    oom_kills,
    remove_sockets,
    without_current_folder,
)

PACKAGE = Path(__file__).parents[2] / "passt_bench"


def test_the_current_folder_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> int:
        words = [sys.executable, "-c", "import shutil"]
        return subprocess.run(words, cwd=hostile.path, check=False, capture_output=True).returncode

    monkeypatch.delenv(SAFE_PATH_VARIABLE, raising=False)
    hostile = HostileFolder(tmp_path, ["shutil"])
    with without_current_folder():
        assert start() == 0
    assert not hostile.marks()
    assert start() != 0  # the folder is what it is said to be
    assert list(hostile.marks()) == ["shutil"]


@pytest.mark.parametrize("before", [None, "", "1"])
def test_the_environment_is_restored(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where bodies are nested, and where those of two threads overlap."""
    monkeypatch.delenv(SAFE_PATH_VARIABLE, raising=False)
    if before is not None:
        monkeypatch.setenv(SAFE_PATH_VARIABLE, before)
    inside, go = threading.Event(), threading.Event()

    def stay() -> None:
        with without_current_folder():
            inside.set()
            go.wait(60)

    thread = threading.Thread(target=stay)
    with pytest.raises(ZeroDivisionError), without_current_folder():
        with without_current_folder():
            thread.start()
            assert inside.wait(60)
        assert os.environ[SAFE_PATH_VARIABLE] == "1"
        raise ZeroDivisionError
    assert os.environ[SAFE_PATH_VARIABLE] == "1"  # the other thread may still start something
    go.set()
    thread.join()
    assert os.environ.get(SAFE_PATH_VARIABLE) == before


def test_whatever_starts_python_takes_care() -> None:
    starts = ("sys.executable", 'get_context("', "ensure_running()")
    files = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    starting = {path for path, text in files.items() if any(word in text for word in starts)}
    starting.remove(PACKAGE / "processes.py")
    assert starting
    assert all("passt_bench.processes" in files[path] for path in starting)


@pytest.mark.parametrize(
    ("target", "argument", "status", "why"),
    [
        (os._exit, 0, 0, ("error", "the process ended with exit status 0")),
        (os._exit, 3, 3, ("error", "the process ended with exit status 3")),
        (signal.raise_signal, signal.SIGSEGV, -11, ("error", "killed by signal 11 (SIGSEGV)")),
        (signal.raise_signal, 15, -15, ("interrupted", "killed by signal 15 (SIGTERM)")),
        (signal.raise_signal, signal.SIGINT, 0, ("error", "the process ended with exit status 0")),
    ],
)
def test_how_a_child_ends(target: object, argument: int, status: int, why: tuple[str, str]) -> None:
    child = PipedChild(without_pipe, target, argument)
    assert child.ended(60)
    assert (child.status, child.explain_exit()) == (status, why)


def test_a_child_that_is_killed() -> None:
    child = PipedChild(without_pipe, signal.pause)
    assert not child.ended(0.01) and child.status is None
    child.kill()
    assert child.ended(60) and child.status == -signal.SIGKILL
    assert child.pid is not None and not psutil.pid_exists(child.pid)
    # Where the kernel's count is unknown, a SIGKILL nobody sent is most likely its doing.
    assert explain_exit(-signal.SIGKILL, None)[0] == "oom"
    kills = oom_kills()
    if kills is not None:
        assert child.explain_exit() == ("interrupted", "killed by signal 9 (SIGKILL)")
        killed_for_memory = ("oom", "killed by the kernel: out of memory")
        assert explain_exit(-signal.SIGKILL, kills - 1) == killed_for_memory
    assert explain_exit(255, kills)[0] == explain_exit(None, kills)[0] == "interrupted"


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
def test_python_m_keeps_its_folder_first_only_where_the_package_is(
    checkout: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(PACKAGE.parent)
    monkeypatch.delenv(SAFE_PATH_VARIABLE, raising=False)
    monkeypatch.setenv("PYTHONPATH", "" if checkout else root)
    folder = root if checkout else tmp_path
    done = subprocess.run(
        [sys.executable, "-c", AS_BY_M], cwd=folder, capture_output=True, text=True, check=False
    )
    place, last, path = ast.literal_eval(done.stdout.splitlines()[-1])
    assert (place, path) == ((0, root) if checkout else (last, root)), done.stderr


def test_sockets_of_killed_commands_are_removed(tmp_path: Path) -> None:
    def left(name: str, age: float) -> FileLock:
        mark = tmp_path / name / "passt-bench.lock"
        mark.parent.mkdir()
        mark.touch()
        os.utime(mark, (time.time() - age,) * 2)
        return FileLock(mark)

    for name, age in {"pymp-dead": 100, "pymp-new": 0}.items():
        left(name, age)
    (tmp_path / "pymp-of-others").mkdir()
    with left("pymp-alive", 100) as held:
        os.utime(held.lock_file, (0, 0))
        remove_sockets(tmp_path)
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {"pymp-alive", "pymp-new", "pymp-of-others"}
