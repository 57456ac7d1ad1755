"""Where MLflow is away, locked, broken or of another version: one sentence, and no harm."""

import contextlib
import shutil
import socket
import sqlite3
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console
from tracked_study import (
    cell_key,
    cell_record,
    client_of,
    curve_of,
    make_unfinished,
    runs_of,
    study_record,
    write_all,
)

from passt_bench.console import Stopwatch
from passt_bench.errors import InputError, without_password
from passt_bench.records.store import Store
from passt_bench.runner import tracking
from passt_bench.runner.tracking import regular_sync, sync, updating_mlflow


@pytest.fixture
def unsynced(tmp_path):
    """A folder with a study that no cell of has begun."""
    Store(tmp_path / "runs").write_study(study_record())
    return tmp_path / "runs"


@pytest.fixture
def refusing(monkeypatch):
    """The address of a server with credentials, where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
        yield f"http://{address}"


@pytest.fixture
def silent(monkeypatch):
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


def beside():
    """The processes that the fork server of this one has started."""
    return [child for server in psutil.Process().children() for child in server.children()]


def updated(root, capsys):
    """What a run prints of the last sync, on one line."""
    with updating_mlflow(root, Stopwatch(), Console(soft_wrap=True)):
        pass
    assert beside() == []
    return " ".join(capsys.readouterr().out.split())


def test_credentials_are_left_out_wherever_they_are():
    assert without_password("at http://me:p@ss/w@host:1/x now") == "at http://host:1/x now"
    hidden = without_password("postgresql://host/db?user=me&password=geheim&sslmode=require")
    assert hidden == "postgresql://host/db?user=me&password=***&sslmode=require"
    assert without_password("http://host:5000/a") == "http://host:5000/a"


def test_a_server_that_refuses_is_one_clear_error(unsynced, refusing, capsys):
    with pytest.raises(InputError, match="records are not affected.*refused") as caught:
        sync(unsynced)
    assert caught.value.source == refusing and "secret" not in str(caught.value)
    assert f"passt-bench sync --runs {unsynced}" in caught.value.remedy
    for uri in ("foo:bar", "sqlite:////no/x"):
        with pytest.raises(InputError, match="records are not affected") as caught:
            sync(unsynced, tracking_uri=uri)
        assert caught.value.source == uri
    line = updated(unsynced, capsys)  # a run goes on and says so
    assert line.startswith(f"MLflow was not updated: {refusing}: ") and "secret" not in line
    assert "records are not affected" in line
    assert line.endswith(f"passt-bench sync --runs {unsynced}")


def test_a_server_that_hangs_is_one_clear_error(unsynced, silent, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(InputError, match="timed out"):
        sync(unsynced)


def test_a_path_that_sqlite_addresses_cannot_hold_is_named(tmp_path):
    assert sync(tmp_path).studies == 0
    assert list(tmp_path.iterdir()) == []  # no store without a study
    Store(tmp_path / "50%").write_study(study_record())
    with pytest.raises(InputError, match="path with %") as caught:
        sync(tmp_path / "50%")
    assert caught.value.source == tmp_path / "50%"


def test_the_variable_names_the_store(synced, tmp_path, monkeypatch):
    other = write_all(tmp_path / "other", seeds=(0,), name="other").root
    uri = f"sqlite:///{synced / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    report = sync(other)
    assert (report.uri, report.runs) == (uri, {"created": 6})
    assert len(runs_of(synced, "other")) == 6 and not (other / "mlflow.db").exists()


def damage(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def upgrade(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
        opened.execute("DROP TABLE trace_tags")  # MLflow then migrates, from an unknown version


@pytest.mark.parametrize(
    ("spoil", "reason"), [(damage, "file is not a database"), (upgrade, "fedcba987654")]
)
def test_a_database_that_cannot_be_used_says_how_to_rebuild_it(synced, spoil, reason, cli):
    spoil(synced / "mlflow.db")
    moved = synced.rename(synced.with_name("other"))  # what is open under an address stays open
    code, said = cli("sync", "--runs", moved)
    assert code == 2 and reason in said, said
    assert f"remove mlflow.db and mlartifacts in {moved}" in said


def test_a_moved_database_is_refused(template, tmp_path):
    root = Path(shutil.copytree(template, tmp_path / "moved"))
    with pytest.raises(InputError, match="was moved") as caught:
        sync(root)
    assert "mlflow.db and mlartifacts" in caught.value.remedy


@pytest.mark.parametrize("holder", ["database", "sync"])
def test_a_store_that_is_locked_says_so(synced, holder, monkeypatch, cli):
    monkeypatch.setattr(tracking, "LOCK_SECONDS", 0.2)
    monkeypatch.setattr(tracking, "SYNC_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(synced / "mlflow.db")) as other:
        if holder == "database":
            other.execute("BEGIN IMMEDIATE")
        held = tracking.FileLock(synced / "mlflow.lock")
        with held if holder == "sync" else contextlib.nullcontext():
            code, said = cli("sync", "--runs", synced)
    assert code == 2, said
    assert ("database is locked" if holder == "database" else "mlflow.lock") in said
    assert f"passt-bench sync --runs {synced}" in said


def test_the_page_needs_something_to_show(tmp_path, monkeypatch, cli):
    code, said = cli("ui", "--runs", tmp_path)
    assert code == 2 and "no MLflow store" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@somewhere:5000")
    code, said = cli("ui", "--runs", tmp_path)
    assert code == 2 and "Open http://somewhere:5000" in said


def test_a_cell_is_seen_while_it_trains_and_the_last_sync_delivers(synced, capsys, monkeypatch):
    key = cell_key("none", 2)
    client_of(synced).delete_run(runs_of(synced)[key].info.run_id)

    def wait_for(*losses):
        deadline = time.monotonic() + 300  # the process takes what no other wants
        while key not in runs_of(synced) or [x for _, x in curve_of(synced, key)] != list(losses):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    make_unfinished(synced, key, (1.0,))
    with regular_sync(synced, "small", every=0.05, pause=0.0):
        (process,) = beside()
        wait_for(1.0)
        assert process.nice() == 19
        make_unfinished(synced, key, (1.0, 0.5))
        wait_for(1.0, 0.5)
    assert beside() == []
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 120)
    Store(synced).write(cell_record("none", 2))
    shown = f"`passt-bench ui --runs {synced}` shows it."
    assert updated(synced, capsys) == f"Logged to MLflow in {synced}; {shown}"
    assert runs_of(synced)[key].info.status == "FINISHED"


def test_they_end_with_the_body(tmp_path, unsynced, silent):
    with (
        pytest.raises(KeyError),
        regular_sync(tmp_path),
        updating_mlflow(unsynced, Stopwatch(), Console()),
    ):
        assert len(beside()) == 2
        raise KeyError
    assert beside() == []


def test_a_last_sync_that_is_killed_or_hangs_is_told(unsynced, silent, capsys, monkeypatch):
    with updating_mlflow(unsynced, Stopwatch(), Console(soft_wrap=True)):
        (process,) = beside()
        process.kill()
    assert "the sync ended with status -9; the records" in capsys.readouterr().out
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.1)
    assert "did not finish within 0 s more; the records" in updated(unsynced, capsys)
