"""MLflow's server fails in each way, and syncs are killed: the next sync leaves all right.

One kill in each place; three with ``--long``, as `nox -s assurance` gives it.
"""

import contextlib
import random
import subprocess
import sys
import time

import pytest
from faulty_server import Proxy, content, mlflow_server
from rich.console import Console
from tracked_study import runs_of, write_all

from passt_bench.console import Stopwatch
from passt_bench.processes import PipedChild
from passt_bench.runner import tracking
from passt_bench.runner.tracked_run import database, local_uri
from passt_bench.runner.tracking import sync, updating_mlflow

RUNS = 12  # of the tracked study


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        yield port


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'mlflow.db'}"


def assert_set_right(root, name, uri, undisturbed):
    sync(root, tracking_uri=uri)
    assert sync(root, tracking_uri=uri).runs["unchanged"] == RUNS
    sync(root, tracking_uri=undisturbed)
    expected = content(undisturbed, name)
    assert len(expected) == RUNS
    assert content(uri, name) == expected


@pytest.mark.parametrize(
    ("fault", "after"),
    [("refuse", 9), ("hang", 0), ("hang", 9), ("500", 0), ("500", 9), ("cut", 0)],
)
def test_a_fault_is_reported_in_time_and_one_sync_sets_all_right(
    fault, after, server, undisturbed, tmp_path, monkeypatch, capsys
):
    name = f"{fault}-{after}"
    write_all(tmp_path, name=name)
    with contextlib.closing(Proxy(server, fault, after)) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        # Seconds; longer than any of them may take.
        monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 60)
        with updating_mlflow(tmp_path, Stopwatch(), Console(soft_wrap=True)):
            pass
        assert proxy.failed or fault == "refuse"
    failure = capsys.readouterr().out
    assert "records are not affected" in failure
    assert "did not finish" not in failure and f"passt-bench sync --runs {tmp_path}" in failure
    assert_set_right(tmp_path, name, f"http://127.0.0.1:{server}", undisturbed)


def imported_sync(pipe, root, uri):
    """What a killed process does; MLflow is loaded before the clock starts."""
    import mlflow.tracking  # noqa: F401

    pipe.send("ready")
    sync(root, tracking_uri=uri)


@pytest.mark.parametrize("where", ["fresh", "made", "server"])
def test_killed_at_seeded_moments(where, server, undisturbed, tmp_path, monkeypatch, pytestconfig):
    """``fresh``: the database is yet to be made; ``made``: it is there, without a run."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    wanted = 3 if pytestconfig.getoption("--long") else 1
    draw, kills, longest = random.Random(f"7-{where}"), 0, 60.0
    empty = tmp_path / "empty.db"
    if where == "made":
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{empty}").search_experiments()
    for number in range(4 * wanted):
        name, root = f"{where}{number}", tmp_path / str(number)
        write_all(root, name=name)
        uri = f"http://127.0.0.1:{server}" if where == "server" else local_uri(root)
        if where == "made":
            database(root).write_bytes(empty.read_bytes())
        child = PipedChild(imported_sync, root, uri, modules=["mlflow.tracking"])
        assert child.wait(120)
        started = time.monotonic()
        child.ended(draw.uniform(0, longest) if number else 300)  # the first tells how long
        child.close()
        if child.status == 0:
            longest = min(longest, time.monotonic() - started)
        assert number or child.status == 0
        kills += child.status == -9
        assert_set_right(root, name, uri, undisturbed)
        assert not list(root.glob(".mlflow-*"))
        if kills == wanted:
            return
    pytest.fail(f"{kills} killed within {longest:.2f} s of a sync")


def test_two_syncs_at_once_on_a_fresh_folder_write_each_run_once(tmp_path):
    write_all(tmp_path, seeds=(0,))
    (tmp_path / ".mlflow-mlflow.db").write_bytes(b"half")  # as a sync that was killed leaves it
    code = (
        "import sys; from pathlib import Path; from passt_bench.runner.tracking import sync; "
        "print(sync(Path(sys.argv[1])).runs['created'])"
    )
    words = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(words, **piped) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert sorted(said) == [("0\n", ""), ("6\n", "")]
    assert len(runs_of(tmp_path)) == 6
    assert not list(tmp_path.glob(".mlflow-*"))
