"""The command itself, killed, interrupted, and given twice at once; and a killed cost session."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
from on_disk import largest_file
from small_study import Command, results

QUIET = ("--no-track", "--checkpoint-seconds", "0.1")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    command = Command(tmp_path_factory.mktemp("undisturbed"), *QUIET)
    assert command.end() == 0, command.text()
    assert Counter(r["status"] for r in results(command.runs).values()) == {"ok": 6}
    return results(command.runs)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    command = Command(tmp_path, *QUIET)
    command.wait_for("records/*/checkpoint.pt")
    os.killpg(command.process.pid, signal.SIGKILL)
    command.end()
    command.gone(30)
    return tmp_path


def finish(folder: Path, undisturbed: dict[str, dict[str, Any]]) -> None:
    last = Command(folder, *QUIET)
    assert last.end() == 0, last.text()
    assert results(last.runs) == undisturbed
    assert not list(last.runs.glob("records/*/checkpoint*"))
    assert not list(last.runs.glob("records/*/.*"))


def test_a_command_killed_time_and_again_comes_to_the_same(
    killed: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    """Killed alone, so that its children are left behind, and with them."""
    drawn = random.Random(6)
    for number in range(4):
        command = Command(killed, *QUIET)
        if number < 2:
            command.wait_for("records/*/checkpoint.pt")
        time.sleep(drawn.uniform(0, 0.5) if number < 2 else drawn.uniform(0.5, 8))
        if number % 2:
            os.killpg(command.process.pid, signal.SIGKILL)
        else:
            command.process.send_signal(signal.SIGKILL)
        command.process.wait()
        command.gone(30)
    finish(killed, undisturbed)


def interrupt(command: Command, times: int = 1) -> float:
    """Control-C, after which it ends with its children and says how to resume; in how long."""
    began = time.monotonic()
    for _ in range(times):
        os.killpg(command.process.pid, signal.SIGINT)
        time.sleep(0.1)
    assert command.end() == 130, command.text()
    seconds = time.monotonic() - began
    command.gone(15)
    again = " ".join(["passt-bench", *command.words])
    assert f"Stopped. Run the same command to resume: {again}" in command.text()
    assert "Traceback" not in command.text()
    return seconds


def test_control_c_amid_the_cells(tmp_path: Path, undisturbed: dict[str, dict[str, Any]]) -> None:
    command = Command(tmp_path, *QUIET)
    command.wait_for("records/*/checkpoint.pt")
    assert interrupt(command, times=3) < 15  # as people do
    assert list(command.runs.glob("records/*/checkpoint.pt"))
    finish(tmp_path, undisturbed)


@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_control_c_at_any_time_before_the_first_cell(tmp_path: Path, seconds: float) -> None:
    command = Command(tmp_path, "--no-track", epochs=2000)
    while "runs, none done yet" not in command.text():
        time.sleep(0.02)
        assert command.process.poll() is None
    time.sleep(seconds)
    interrupt(command)


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_two_at_once_with_many_workers_run_each_cell_once(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    two = [Command(tmp_path, "--workers", "16", epochs=2, seeds=6) for _ in range(2)]
    two[0].wait_for("records/*/record.json")
    seen: dict[str, int] = {}
    while any(command.process.poll() is None for command in two):
        for path in two[0].runs.glob("records/*/record.json"):
            assert seen.setdefault(path.parent.name, path.stat().st_ino) == path.stat().st_ino
        time.sleep(0.02)
    assert [command.end() for command in two] == [0, 0], two[0].text() + two[1].text()
    found = results(two[0].runs)
    assert len(found) == 18
    client = MlflowClient(f"sqlite:///{two[0].runs / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if "small" in e.name]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    keys = Counter(value for run in runs for name, value in run.data.tags.items()
                   if name.endswith("key") and value in found)  # fmt: skip
    assert set(keys) == set(found)
    assert set(keys.values()) == {1}
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_full_disk_ends_with_a_message_and_loses_nothing(
    killed: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    left = set((killed / "runs").glob("records/*/.*"))  # the kill may have hit a write
    with largest_file(30_000):  # below a checkpoint's size
        full = Command(killed, *QUIET)
        assert full.end() == 2, full.text()
    assert "cannot be written" in full.text()
    assert "Free space" in full.text()
    assert "Traceback" not in full.text()
    assert not [r for r in results(full.runs).values() if r["status"] != "ok"]
    assert set(full.runs.glob("records/*/.*")) <= left  # no half-written file
    finish(killed, undisturbed)


COORDINATOR = """
import time
from known_subjects import Sleeps
from passt_bench.measure.session import ArmProcess
from passt_bench.measure.target import build

if __name__ == "__main__":
    process = ArmProcess()
    process.send(build, Sleeps(0.001), 1)
    process.receive(60)
    print(process.pid, flush=True)
    time.sleep(60)
"""


def test_arms_end_with_a_killed_coordinator(tmp_path: Path) -> None:
    script = tmp_path / "coordinator.py"
    script.write_text(COORDINATOR)
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{tests / 'helpers'}{os.pathsep}{tests.parent}"},
    ) as parent:
        assert parent.stdout is not None
        arm = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while arm.is_running() and arm.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the arm outlived its coordinator"
        time.sleep(0.05)
