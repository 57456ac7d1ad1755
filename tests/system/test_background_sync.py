"""The processes beside a run: what they show, what they cost, and how they end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from tracked_study import cell_key, client_of, runs_of, write_all

from passt_bench.records.store import Store
from passt_bench.runner.background_sync import LastSync, live
from passt_bench.runner.tracking_uri import TrackingError

PARENT = """
import sys, time
from pathlib import Path
from passt_bench.runner.background_sync import LastSync, live
root = Path(sys.argv[1])
with live(root, first=60):
    last = LastSync(root)
    print("begun", flush=True)
    time.sleep(60)
"""


def beside():
    """The processes that this one has started for MLflow."""
    children = psutil.Process().children()
    return [
        child
        for child in children
        if "passt_bench.runner.background_sync" in " ".join(child.cmdline())
    ]


def until(condition, seconds=300.0):  # the other process takes what nobody wants
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_a_cell_in_training_is_seen_while_it_trains(synced):
    key = cell_key("none", 2)
    client_of(synced).delete_run(runs_of(synced)[key].info.run_id)
    (Store(synced).folder(key) / "record.json").unlink()
    progress = Store(synced).folder(key) / "progress.jsonl"

    def epochs(count):
        lines = ({"epoch": i, "train_loss": 1 / i, "seconds": i} for i in range(1, count + 1))
        progress.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def shown():
        run = runs_of(synced).get(key)
        return run.data.metrics if run is not None else {}

    epochs(1)
    with live(synced, "small", first=0.0, every=0.05, rest=0.0):
        (process,) = beside()
        until(lambda: shown() == {"train_loss": 1.0})
        assert process.nice() == 19
        epochs(4)
        until(lambda: shown() == {"train_loss": 0.25})
    assert beside() == []


def test_an_error_in_the_body_ends_it_too(tmp_path):
    with pytest.raises(KeyError), live(tmp_path):
        assert len(beside()) == 1
        raise KeyError
    assert beside() == []


def test_both_die_with_a_parent_that_is_killed(tmp_path):
    write_all(tmp_path, seeds=(0,))
    with socket.create_server(("127.0.0.1", 0)) as silent:  # so that the sync is not over before
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},
        )
        with parent:
            assert parent.stdout is not None and parent.stdout.readline() == b"begun\n"
            children = psutil.Process(parent.pid).children()
            assert len(children) == 2
            parent.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=30)
    assert alive == []


def test_the_last_sync_delivers_and_tells_how_far_it_is(tmp_path):
    write_all(tmp_path, seeds=(0,))
    told = []
    LastSync(tmp_path).wait(60, lambda share, text: told.append((share, text)))
    assert told == [(i / 6, f"{i} of 6 runs") for i in range(1, 7)]
    assert len(runs_of(tmp_path)) == 6 and beside() == []


def test_a_folder_without_studies_has_nothing_to_deliver(tmp_path):
    LastSync(tmp_path).wait(60)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_comes_home_as_it_was_told(tmp_path, monkeypatch):
    write_all(tmp_path, seeds=(0,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
        with pytest.raises(TrackingError, match="records are not affected") as caught:
            LastSync(tmp_path).wait(60)
    told = str(caught.value)
    assert told.startswith(f"http://127.0.0.1:{port}: ") and "secret" not in told
    assert told.endswith(f"passt-bench sync --out {tmp_path}")


def test_one_that_does_not_end_is_given_up(tmp_path, monkeypatch):
    write_all(tmp_path, seeds=(0,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        with pytest.raises(TrackingError, match="given up after 0 s"):
            LastSync(tmp_path).wait(0.1)
    assert beside() == []


def test_one_that_is_ended_from_outside_is_told(tmp_path):
    last = LastSync(tmp_path)
    (process,) = beside()
    process.kill()
    with pytest.raises(TrackingError, match="ended by itself"):
        last.wait(60)


def test_one_that_is_no_longer_wanted_is_cancelled(tmp_path):
    LastSync(tmp_path).cancel()
    assert beside() == []
