"""Where MLflow is away, silent, locked, broken or of another version: one sentence, in seconds."""

import contextlib
import shutil
import socket
import sqlite3
import time
from pathlib import Path

import pytest
from rich.console import Console
from tracked_study import runs_of, write_all

from passt_bench.cli import main
from passt_bench.console import Estimate
from passt_bench.runner import tracking_uri
from passt_bench.runner.tracking import sync
from passt_bench.runner.tracking_uri import TrackingError, without_password
from passt_bench.study_run import updating_mlflow


def test_a_server_that_refuses_is_one_clear_error_in_seconds(tmp_path, monkeypatch):
    write_all(tmp_path, seeds=(0,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound but not listening: refuses
        port = free.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
        started = time.monotonic()
        with pytest.raises(TrackingError, match="records are not affected") as caught:
            sync(tmp_path)
    assert time.monotonic() - started < 8
    message = str(caught.value)
    assert f"http://127.0.0.1:{port}" in message and "secret" not in message
    assert f"passt-bench sync --out {tmp_path}" in message
    assert len(message.splitlines()) == 1


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    write_all(tmp_path, seeds=(0,))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(TrackingError):
            sync(tmp_path, tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert time.monotonic() - started < 12


def test_a_broken_database_says_how_to_rebuild_it(tmp_path):
    write_all(tmp_path, seeds=(0,))
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(TrackingError, match=r"remove mlflow\.db and mlartifacts"):
        sync(tmp_path)


def test_a_moved_folder_is_told_to_rebuild(template, tmp_path):
    root = Path(shutil.copytree(template, tmp_path / "moved"))
    with pytest.raises(TrackingError, match="was moved"):
        sync(root)


def test_a_path_that_sqlite_addresses_cannot_hold_is_a_clear_error(tmp_path):
    write_all(tmp_path / "50%", seeds=(0,))
    with pytest.raises(TrackingError, match="path with %"):
        sync(tmp_path / "50%")


def test_an_unknown_kind_of_address_is_a_clear_error(tmp_path):
    write_all(tmp_path, seeds=(0,))
    with pytest.raises(TrackingError, match="foo:bar"):
        sync(tmp_path, tracking_uri="foo:bar")


def test_credentials_are_left_out_wherever_they_stand():
    assert without_password("at http://me:p@ss/w@host:1/x now") == "at http://host:1/x now"
    hidden = without_password("postgresql://host/db?user=me&password=geheim&sslmode=require")
    assert hidden == "postgresql://host/db?user=me&password=***&sslmode=require"
    assert without_password("http://host:5000/a") == "http://host:5000/a"


def test_the_variable_names_the_store(tmp_path, monkeypatch):
    write_all(tmp_path, seeds=(0,))
    elsewhere = tmp_path / "elsewhere.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{elsewhere}")
    assert sync(tmp_path).uri == f"sqlite:///{elsewhere}"
    assert elsewhere.is_file() and not (tmp_path / "mlflow.db").exists()
    assert len(runs_of(tmp_path)) == 6


def told_by_the_command(root, monkeypatch, capsys):
    """Runs ``passt-bench sync``; its one line, after exit status 2."""
    monkeypatch.setattr("sys.argv", ["passt-bench", "sync", "--out", str(root)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "records are not affected" in line
    return line


@pytest.mark.parametrize("lacks_a_table", [False, True])
def test_a_database_of_another_version_says_so(synced, lacks_a_table, monkeypatch, capsys):
    with contextlib.closing(sqlite3.connect(synced / "mlflow.db")) as opened, opened:
        opened.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
        if lacks_a_table:  # MLflow then sets out to migrate from a version it does not know
            opened.execute("DROP TABLE trace_tags")
    moved = synced.rename(synced.with_name("other"))  # what is open under an address stays open
    line = told_by_the_command(moved, monkeypatch, capsys)
    assert "another version of MLflow" in line and "fedcba987654" in line
    assert f"remove mlflow.db and mlartifacts in {moved}" in line


def test_a_locked_database_says_so_in_seconds(synced, monkeypatch, capsys):
    monkeypatch.setattr(tracking_uri, "LOCK_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(synced / "mlflow.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        line = told_by_the_command(synced, monkeypatch, capsys)
    assert "another process keeps the database locked" in line
    assert f"passt-bench sync --out {synced}" in line
    assert sync(synced).unchanged == 12


def test_a_damaged_database_says_how_to_rebuild_it_and_that_works(synced, monkeypatch, capsys):
    with (synced / "mlflow.db").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 60_000)
    moved = synced.rename(synced.with_name("other"))
    assert "remove mlflow.db and mlartifacts" in told_by_the_command(moved, monkeypatch, capsys)
    (moved / "mlflow.db").unlink()
    shutil.rmtree(moved / "mlartifacts")
    again = moved.rename(moved.with_name("again"))
    assert sync(again).created == 12


def test_a_database_that_was_begun_is_begun_again(tmp_path):
    write_all(tmp_path, seeds=(0,))
    (tmp_path / "mlflow.db").touch()
    (tmp_path / ".mlflow-left").mkdir()
    (tmp_path / ".mlflow-left" / "mlflow.db").write_bytes(b"half")
    assert sync(tmp_path).created == 6
    assert not list(tmp_path.glob(".mlflow-*"))


def test_a_run_goes_on_and_says_that_mlflow_was_not_updated(synced, capsys):
    (synced / "mlflow.db").write_bytes(b"not a database" * 100)
    rendered = []
    with updating_mlflow(synced, Estimate(), Console(soft_wrap=True), wanted=True):
        rendered.append(True)
    *_, line = capsys.readouterr().out.splitlines()
    assert rendered and line.startswith("MLflow was not updated: ")
    assert "records are not affected" in line and "remove mlflow.db" in line


def test_what_goes_wrong_beside_the_last_sync_ends_it(synced):
    with (
        pytest.raises(KeyError),
        updating_mlflow(synced, Estimate(), Console(soft_wrap=True), wanted=True),
    ):
        raise KeyError
    assert sync(synced).unchanged == 12
