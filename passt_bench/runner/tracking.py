"""Logs studies to MLflow from their records; the only module that uses MLflow.

Each study is an experiment with one run per variant (its summary) and, nested under it, one run per
cell. A record is immutable, so the run of a cell is written once, tagged with its key and the hash
of its record; a run with another hash, or still open, is deleted and rewritten. Summaries, and
cells in training, are updated.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from passt_bench.analysis.results import load_results
from passt_bench.console import Progress
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import Store
from passt_bench.runner.tracked_run import DIGEST, TrackedRun, tracked_runs

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

KEY, PARENT = "passt_bench.key", "mlflow.parentRunId"
REACH_SECONDS = 3.0  # timeout of the first answer of a server
ANSWER_SECONDS = 5  # timeout of each later answer
LOCK_SECONDS = 5.0  # timeout for another process to release the database
SYNC_SECONDS = 600.0  # timeout for another sync to end
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default MLflow retries for minutes; here the next sync retries. MLflow would also repeat
    # requests that must not be repeated, such as the creation of a run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS),
}

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "sqlite3")  # whose errors reach a user
Outcome = Literal["created", "finished", "updated", "unchanged"]


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync, counted in MLflow runs (summaries and cells).

    Attributes:
        uri: address of the MLflow store, without credentials.
        studies: number of experiments.
        created: number of runs that MLflow did not have, or had of another record.
        finished: number of open runs that now have their final record.
        updated: number of runs with changes.
        unchanged: number of runs that were up to date.
    """

    uri: str
    studies: int
    created: int = 0
    finished: int = 0
    updated: int = 0
    unchanged: int = 0


def sync(
    root: Path,
    *,
    tracking_uri: str | None = None,
    study: str | None = None,
    progress: Progress = lambda share, text: None,
) -> SyncReport:
    """Updates MLflow from the records of an output folder.

    It may be called at any time, also while cells are trained, and killed at any time. Syncs of the
    same folder wait for each other, so each key gets one run.

    Args:
        root: output folder with ``records/`` and ``studies/``.
        tracking_uri: address of the MLflow store, see `store_uri`.
        study: name of the study to log; None is all.
        progress: called with the fraction of runs that is done, and a few words.

    Raises:
        InputError: MLflow is unreachable or refuses (the records are not affected, and a later sync
            catches up), another sync does not end, or a record or study cannot be read.
    """
    root = root.resolve()
    store, uri, counts = Store(root), store_uri(root, tracking_uri), Counter[Outcome]()
    names = [name for name in store.studies() if study in (None, name)]
    if not names:
        return SyncReport(without_password(uri), 0)
    with _explained(uri, root), FileLock(root / "mlflow.lock", timeout=SYNC_SECONDS):
        _probe(uri, root)
        loaded = [load_results(name, [store]) for name in names]
        wanted = [(results.study, list(tracked_runs(results, store))) for results in loaded]
        total = sum(len(runs) for _, runs in wanted)
        client = _connect(uri, root)
        # A server knows the place of its artifacts; for a database it would be the current folder.
        artifacts = None if _is_server(uri) else (root / "mlartifacts").as_uri()
        for record, runs in wanted:
            experiment = _Experiment(client, record, artifacts)
            for run in runs:
                counts[experiment.deliver(run)] += 1
                progress(counts.total() / total, f"{counts.total()} of {total} runs")
            experiment.index()
    return SyncReport(without_password(uri), len(names), **{str(k): n for k, n in counts.items()})


class _Experiment:
    """The experiment of a study, and its runs by key."""

    def __init__(self, client: MlflowClient, study: StudyRecord, artifacts: str | None) -> None:
        self._client = client
        found = client.get_experiment_by_name(study.name)
        if found is None:
            note = {"mlflow.note.content": f"{study.question}\n\n{study.notebook}"[:5000]}
            self._id = client.create_experiment(study.name, artifacts, tags=note)
        else:
            self._id = found.experiment_id
            if artifacts is not None and found.artifact_location != artifacts:
                raise InputError(
                    "the folder was moved; MLflow would write to its old place",
                    source=artifacts,
                    remedy="Remove mlflow.db and mlartifacts; the next sync rebuilds both.",
                )
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(self._id)
        self._runs = self.index()

    def index(self) -> dict[str, Run]:
        """The runs by key; of two with one key the less complete one is deleted.

        Two arise if two machines sync at once, or if a server creates a run after the sync that
        requested it gave up.
        """
        found, page = list[Any](), None
        while page is None or page:
            batch = self._client.search_runs([self._id], max_results=1000, page_token=page)
            found += batch
            page = batch.token or ""
        runs: dict[str, Run] = {}
        for run in sorted(found, key=lambda r: (r.info.status == "RUNNING", -len(r.data.metrics))):
            key = run.data.tags.get(KEY)
            if key in runs:
                self._client.delete_run(run.info.run_id)
            elif key is not None:
                runs[key] = run
        return runs

    def deliver(self, wanted: TrackedRun) -> Outcome:
        """Updates one run from its record, progress or summary."""
        run = self._runs.get(wanted.key)
        outcome: Outcome = "created" if run is None else "updated"
        tags = {KEY: wanted.key, **{name: text[:5000] for name, text in wanted.tags.items()}}
        if wanted.parent is not None:
            tags[PARENT] = self._runs[wanted.parent].info.run_id
            if run is not None:
                same = all(run.data.tags.get(n) == tags.get(n) for n in (DIGEST, PARENT))
                final = wanted.record is not None
                if same and final and run.info.status == wanted.status:
                    return "unchanged"
                if final or not same:
                    outcome = "finished" if run.info.status in ("RUNNING", "KILLED") else "created"
                    self._client.delete_run(run.info.run_id)
                    run = None
        if run is None:
            start, name = wanted.start or _now(), wanted.name
            run = self._client.create_run(self._id, start_time=start, tags=tags, run_name=name)
            self._runs[wanted.key] = run
        changed = self._write(run, wanted, tags)
        return outcome if changed else "unchanged"

    def _write(self, run: Run, wanted: TrackedRun, tags: dict[str, str]) -> bool:
        """Logs what a run does not have; its status last, so that an interrupted one stays open."""
        from mlflow.entities import Metric, Param, RunTag

        run_id, seen, now = run.info.run_id, run.data, _now()
        end = now if wanted.end is None else wanted.end
        values = dict(wanted.metrics)
        if (
            wanted.parent is None
        ):  # overwrite values that are no longer true; MLflow shows the latest
            values |= dict.fromkeys(seen.metrics.keys() - values.keys(), nan)
        metrics = [
            Metric(name, value, end if wanted.parent else now, 0)
            for name, value in values.items()
            if not _same(seen.metrics.get(name), value)
        ]
        for name, curve in wanted.curves.items():
            points = self._client.get_metric_history(run_id, name) if name in seen.metrics else []
            logged = {point.step for point in points}
            for step, value in enumerate(curve, 1):
                moment = wanted.start + (end - wanted.start) * step // len(curve)
                metrics += [Metric(name, value, moment, step)] if step not in logged else []
        params = [
            Param(n, text[:6000]) for n, text in wanted.params.items() if n not in seen.params
        ]
        new = [RunTag(name, text) for name, text in tags.items() if seen.tags.get(name) != text]
        changed = bool(metrics or params or new or run.info.status != wanted.status)
        while metrics or params or new:  # MLflow takes 1000 values per call, 100 of them parameters
            self._client.log_batch(run_id, metrics[:800], params[:100], new[:100])
            metrics, params, new = metrics[800:], params[100:], new[100:]
        if wanted.record is not None:
            self._client.log_artifact(run_id, str(wanted.record))
        if changed and wanted.status in ("FINISHED", "FAILED", "KILLED"):
            self._client.set_terminated(run_id, wanted.status, end_time=wanted.end)
        elif run.info.status != wanted.status:
            self._client.update_run(run_id, status=wanted.status)
        return changed


def _same(seen: float | None, value: float) -> bool:
    return seen is not None and (seen == value or (isnan(seen) and isnan(value)))


def _now() -> int:
    return int(1000 * time.time())


def _connect(uri: str, root: Path) -> MlflowClient:
    """A client of the store; the database of an output folder is created if missing."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow 3.17 beside SQLAlchemy 2.1.
        warnings.filterwarnings("ignore", message=".*noload", category=DeprecationWarning)
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # `_explained` reports failures
        path = database(root)
        if uri == local_uri(root) and not holds_data(path):
            _make_database(path)
        return MlflowClient(tracking_uri=uri)


def _make_database(path: Path) -> None:
    """Creates MLflow's empty database in another folder and moves it to its place.

    MLflow creates it by dozens of migrations. A database that is interrupted among them cannot be
    opened again, and syncing each migration to the disk would take most of the time.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def without_waiting(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    for left in path.parent.glob(".mlflow-*"):  # left by a killed process; the caller has the lock
        shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=".mlflow-", dir=path.parent))
    event.listen(Engine, "connect", without_waiting)
    try:
        MlflowClient(tracking_uri=f"sqlite:///{folder / path.name}").search_experiments()
    finally:
        event.remove(Engine, "connect", without_waiting)
    with (folder / path.name).open("rb+") as file:
        os.fsync(file.fileno())
    (folder / path.name).replace(path)
    shutil.rmtree(folder)


def store_uri(root: Path, tracking_uri: str | None = None) -> str:
    """The address of MLflow's runs: as given, ``MLFLOW_TRACKING_URI``, or ``root/mlflow.db``.

    Raises:
        InputError: the folder's path cannot be written as an SQLite address.
    """
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given and set("%?") & set(str(root.resolve())):
        raise InputError(
            "MLflow cannot keep its runs in a path with % or ?",
            source=root,
            remedy="Use another folder, or set MLFLOW_TRACKING_URI to a server.",
        )
    return given or local_uri(root)


def local_uri(root: Path) -> str:
    """The address of the store in an output folder."""
    return f"sqlite:///{database(root)}"


def database(root: Path) -> Path:
    """The file of the store in an output folder."""
    return root.resolve() / "mlflow.db"


def holds_data(path: Path) -> bool:
    """Whether the file exists and is not empty."""
    return path.is_file() and path.stat().st_size > 0


def _is_server(uri: str) -> bool:
    return uri.startswith(("http", "databricks"))


def without_password(text: str) -> str:
    """Text without the credentials of any address in it."""
    text = re.sub(
        r"//[^\s'\"]*@", "//", text
    )  # up to the last @, because a password may contain one
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)


def _probe(uri: str, root: Path) -> None:
    """Fails within seconds if the store is unreachable, hangs or is locked; MLflow waits longer.

    Unclear cases pass, because MLflow supports more kinds of servers than this function.
    """
    if uri.startswith("http"):
        _ask_server(uri)
    elif uri == local_uri(root):
        if holds_data(database(root)):
            opened = sqlite3.connect(database(root), timeout=LOCK_SECONDS, isolation_level=None)
            with closing(opened):
                opened.execute("BEGIN IMMEDIATE")
                opened.execute("ROLLBACK")
    elif not _is_server(uri):
        import sqlalchemy

        sqlalchemy.create_engine(uri).connect().close()


def _ask_server(uri: str) -> None:
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]  # this request needs no credentials
    url = f"{parts.scheme}://{host}{parts.path.rstrip('/')}/health"
    try:
        urllib.request.urlopen(url, timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= 500:
            raise OSError(f"the server answers {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            text = f"the server does not answer within {REACH_SECONDS:g} s"
            raise TimeoutError(text) from error
        # Other errors pass; e.g. MLflow may be configured to trust the certificate.
        if isinstance(reason, ConnectionError) or "resolution" in str(reason):
            raise OSError(f"the server is unreachable: {reason}") from error


@contextmanager
def _explained(uri: str, root: Path) -> Iterator[None]:
    """Turns errors of MLflow and its libraries into one sentence and a remedy."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError | ImportError) and library not in _LIBRARIES:
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason, again = without_password(first)[:300], f"passt-bench sync --runs {root}"
        local = uri == local_uri(root)
        rebuild = f"remove mlflow.db and mlartifacts in {root}: the next sync rebuilds both"
        remedy = f"When it answers again: {again}"
        if "is locked" in reason or isinstance(error, Timeout):
            reason = "another process holds the lock of the database"
            remedy = f"End that process (or let it finish), then: {again}"
        elif "database schema" in reason or "locate revision" in reason:
            reason = f"the database is of another version of MLflow ({reason.partition('. ')[0]})"
            other = rebuild if local else "have it upgraded: mlflow db upgrade"
            remedy = f"Install that version of MLflow, or {other}."
        elif local:
            remedy = f"If it persists, {rebuild} from the records."
        raise InputError(
            f"MLflow was not updated; the records are not affected: {reason}",
            source=without_password(uri),
            remedy=remedy,
        ) from error
