"""Where MLflow keeps its runs, whether it can be reached, and its own page; imports no MLflow."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
import sysconfig
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from passt_bench.errors import InputError
from passt_bench.processes import VARIABLE

REACH_SECONDS = 3.0  # to say that it is there at all
ANSWER_SECONDS = 5  # for each answer after that
LOCK_SECONDS = 5.0  # for another process to let go of the database

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default MLflow tries for many minutes; here the next sync is what tries again. MLflow
    # would also repeat what is not safe to repeat: a run whose creation was not confirmed.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS),
}


class TrackingError(InputError):
    """MLflow cannot be reached or refuses; records are unharmed and a later sync catches up."""


def store_uri(root: Path, tracking_uri: str | None = None) -> str:
    """Where MLflow keeps its runs: as given, ``MLFLOW_TRACKING_URI``, or ``root/mlflow.db``.

    Raises:
        TrackingError: the folder's path cannot be written as an SQLite address.
    """
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given and set("%?") & set(str(root.resolve())):
        raise TrackingError(
            "MLflow cannot keep its runs below a path with % or ?",
            source=root,
            remedy="Use another folder, or name a server by MLFLOW_TRACKING_URI.",
        )
    return given or local_uri(root)


def local_uri(root: Path) -> str:
    """The address of the store in an output folder."""
    return f"sqlite:///{database(root)}"


def database(root: Path) -> Path:
    """The database of the store in an output folder."""
    return root.resolve() / "mlflow.db"


def is_server(uri: str) -> bool:
    """Whether an address is that of a server, which knows where its artifacts belong."""
    return uri.startswith(("http", "databricks"))


def without_password(text: str) -> str:
    """Text with the credentials of any address in it left out."""
    text = re.sub(r"//[^\s'\"]*@", "//", text)  # up to the last @, for a password may hold one
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)


def probe(uri: str, root: Path) -> None:
    """Fails within seconds where the store is away, hanging, in trouble or locked.

    MLflow itself would be imported first and then wait longer. What is not certainly a failure
    passes: MLflow knows more kinds of servers and credentials than this.

    Raises:
        OSError: a server is away, does not answer or answers 500 or above.
        sqlite3.Error: the folder's own database is locked, or none.
        sqlalchemy.exc.SQLAlchemyError: another database is away.
    """
    if uri.startswith("http"):
        _ask_server(uri)
    elif uri == local_uri(root):
        if holds_data(database(root)):
            _try_to_write(database(root))
    elif not is_server(uri):
        import sqlalchemy

        engine = sqlalchemy.create_engine(uri)
        sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()


def holds_data(path: Path) -> bool:
    """Whether there is a file with something in it."""
    return path.is_file() and path.stat().st_size > 0


def _ask_server(uri: str) -> None:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # to be alive takes no credentials
    url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(url, timeout=REACH_SECONDS):
            return
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            raise OSError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        # A certificate, say, may be one that MLflow was told to trust.
        if isinstance(error.reason, TimeoutError):
            raise _silence() from error
        if isinstance(error.reason, ConnectionError) or "resolution" in str(error.reason):
            raise OSError(f"the server is away: {error.reason}") from error
    except TimeoutError as error:  # connected, and then nothing
        raise _silence() from error


def _silence() -> OSError:
    return TimeoutError(f"the server does not answer within {REACH_SECONDS:g} s")


def _try_to_write(path: Path) -> None:
    with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as opened:
        opened.execute("BEGIN IMMEDIATE")
        opened.execute("ROLLBACK")


def explained(error: Exception, uri: str, root: Path) -> TrackingError:
    """What MLflow and the libraries below it raise, as one sentence and a remedy."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    reason = without_password(first)[:300]
    again = f"passt-bench sync --out {root}"
    local = uri == local_uri(root)
    rebuild = f"remove mlflow.db and mlartifacts in {root}: the next sync rebuilds both"
    if "is locked" in reason:
        reason = "another process keeps the database locked"
        remedy = f"End that process (or let it finish), then: {again}"
    elif "database schema" in reason or "locate revision" in reason:
        reason = f"the database is of another version of MLflow ({reason.partition('. ')[0]})"
        other = rebuild if local else "have it upgraded: mlflow db upgrade"
        remedy = f"Install that version of MLflow, or {other}."
    elif local:
        remedy = f"If it persists, {rebuild} from the records."
    else:
        remedy = f"Once it answers again: {again}"
    return TrackingError(
        f"no sync with MLflow; the records are not affected: {reason}",
        source=without_password(uri),
        remedy=remedy,
    )


def serve_ui(root: Path, port: int = 5000) -> NoReturn:
    """Becomes MLflow's page over the runs of an output folder, on 127.0.0.1.

    Raises:
        InputError: nothing was synced here.
        TrackingError: the runs live on a server that has a page of its own.
    """
    uri = store_uri(root)
    if uri.startswith("http"):
        raise TrackingError(
            "the runs are on a server with a page of its own",
            source="MLFLOW_TRACKING_URI",
            remedy=f"Open {without_password(uri)}",
        )
    if uri == local_uri(root) and not holds_data(database(root)):
        raise InputError(
            "no MLflow store here",
            source=root,
            remedy=f"Run a study first, or: passt-bench sync --out {root}",
        )
    # The server's job runners would be eight more processes, for things that are not used here.
    settings = {**SETTINGS, **os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    # Not among the words of the command, which everybody on the machine can read: it may hold a
    # password.
    settings["MLFLOW_BACKEND_STORE_URI"] = uri
    artifacts = (root.resolve() / "mlartifacts").as_uri()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--default-artifact-root", artifacts]
    settings[VARIABLE] = "1"
    # Uvicorn, which MLflow starts, puts the current folder first by itself; it gets the folder
    # that is first on the path of the passt-bench command.
    settings["UVICORN_APP_DIR"] = sysconfig.get_path("scripts")
    os.execve(sys.executable, command, settings)
