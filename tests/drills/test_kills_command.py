"""The command itself, killed, interrupted, and given twice at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small_study import ENVIRONMENT, Command, results


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    command = Command(folder, "--no-track")
    assert command.end() == 0, command.text()
    assert Counter(r["status"] for r in results(command.runs).values()) == {"ok": 6}
    return results(command.runs)


def test_the_command_killed_six_times_comes_to_the_same(
    tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    drawn = random.Random(6)
    for number in range(6):
        command = Command(tmp_path, "--no-track", "--checkpoint-seconds", "0.1")
        if number < 3:  # it must have begun for its children to be left behind
            command.wait_for("records/*/checkpoint.pt")
            time.sleep(drawn.uniform(0, 0.5))
        else:
            time.sleep(drawn.uniform(0.5, 8))
        if number % 2:
            os.killpg(command.process.pid, signal.SIGKILL)
        else:
            command.process.send_signal(signal.SIGKILL)
        command.process.wait()
        command.gone(30)
    last = Command(tmp_path, "--no-track")
    assert last.end() == 0, last.text()
    assert results(last.runs) == undisturbed
    assert not list(last.runs.glob("records/*/checkpoint*"))


def test_control_c_stops_within_seconds_and_says_how_to_go_on(
    tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    command = Command(tmp_path, "--no-track", "--checkpoint-seconds", "0.1")
    command.wait_for("records/*/checkpoint.pt")
    began = time.monotonic()
    for _ in range(3):  # as people do
        os.killpg(command.process.pid, signal.SIGINT)
        time.sleep(0.1)
    assert command.end() == 130
    assert time.monotonic() - began < 15
    command.gone(15)
    again = " ".join(["passt-bench", *command.words])
    assert f"Stopped. Run the same command to resume: {again}" in command.text()
    assert "Traceback" not in command.text()
    assert list(command.runs.glob("records/*/checkpoint.pt"))
    following = Command(tmp_path, "--no-track")
    assert following.end() == 0
    assert results(following.runs) == undisturbed


@pytest.mark.parametrize("seconds", [0.0, 1.5, 3.0])
def test_control_c_at_any_time_before_the_first_cell(tmp_path: Path, seconds: float) -> None:
    command = Command(tmp_path, "--no-track", epochs=2000)
    command.wait_for("../log-*.txt")
    while "runs, none done yet" not in command.text():
        time.sleep(0.02)
        assert command.process.poll() is None
    time.sleep(seconds)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.end() == 130, command.text()
    command.gone(15)
    assert "Traceback" not in command.text()
    assert "Stopped. Run the same command to resume" in command.text()


def test_two_at_once_run_each_cell_once(
    tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    two = [Command(tmp_path, "--no-track") for _ in range(2)]
    two[0].wait_for("records/*/record.json")
    seen: dict[str, int] = {}
    while any(command.process.poll() is None for command in two):
        for path in two[0].runs.glob("records/*/record.json"):
            assert seen.setdefault(path.parent.name, path.stat().st_ino) == path.stat().st_ino
        time.sleep(0.02)
    assert [command.end() for command in two] == [0, 0], two[0].text() + two[1].text()
    assert results(two[0].runs) == undisturbed


@pytest.mark.filterwarnings("ignore")  # MLflow's own
@pytest.mark.parametrize("workers", [4, 16])
def test_many_workers_on_a_fresh_folder_with_mlflow(tmp_path: Path, workers: int) -> None:
    from mlflow import MlflowClient

    two = [
        Command(tmp_path, "--workers", str(workers), epochs=2, seeds=6) for _ in range(2)
    ]  # fmt: skip
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


def test_many_workers_search_a_fresh_folder(tmp_path: Path) -> None:
    command = Command(tmp_path, "--no-track", epochs=1, seeds=1)
    command.process.kill()
    command.end()
    command.gone(30)
    words = ["search", *command.words[1:2], "--workers", "16", "--trials", "24", "--no-track"]
    done = subprocess.run(
        [sys.executable, "-m", "passt_bench", *words],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    search = json.loads(next((tmp_path / "runs").glob("search/*.json")).read_text())
    assert len(search["trials"]) == 24
    assert {trial["status"] for trial in search["trials"]} == {"ok"}


def test_a_full_disk_ends_with_a_message_and_loses_nothing(
    tmp_path: Path, undisturbed: dict[str, dict[str, Any]]
) -> None:
    import resource

    command = Command(tmp_path, "--no-track", "--checkpoint-seconds", "0.1")
    command.wait_for("records/*/checkpoint.pt")
    os.killpg(command.process.pid, signal.SIGKILL)
    command.end()
    command.gone(30)
    left = set(command.runs.glob("records/*/.*"))  # the kill may have hit a write
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))  # below a checkpoint's size
    try:
        full = Command(tmp_path, "--no-track", "--checkpoint-seconds", "0.1")
        assert full.end() == 2, full.text()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written" in full.text()
    assert "Free space" in full.text()
    assert "Traceback" not in full.text()
    assert not [r for r in results(full.runs).values() if r["status"] != "ok"]
    assert set(full.runs.glob("records/*/.*")) <= left  # no half-written file
    following = Command(tmp_path, "--no-track")
    assert following.end() == 0
    assert not list(full.runs.glob("records/*/.*"))
    assert results(following.runs) == undisturbed
