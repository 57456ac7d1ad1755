"""Logs studies to MLflow from their records; the only module that uses MLflow.

Each study is an experiment with one run per variant (its summary) and, nested under it, one run per
cell. Every run is tagged with its key and a hash of its content, written last: a run that has the
hash is complete and left alone. The run of a finished cell is otherwise written anew as a whole;
summaries and cells in training are updated.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from passt_bench.analysis.results import load_results
from passt_bench.console import Progress
from passt_bench.errors import InputError
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import Store
from passt_bench.runner.tracked_run import TrackedRun, tracked_runs

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

KEY, DIGEST, PARENT = "passt_bench.key", "passt_bench.digest", "mlflow.parentRunId"
LOCK_SECONDS = 5.0  # timeout for another process to release the database
SYNC_SECONDS = 600.0  # timeout for another sync to end
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default MLflow retries for minutes; here the next sync retries. MLflow would also repeat
    # requests that must not be repeated, such as the creation of a run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "sqlite3")  # whose errors reach a user
_ENDED = ("FINISHED", "FAILED")
Outcome = Literal["created", "finished", "updated", "unchanged"]


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync: studies and MLflow runs (summaries and cells); no credentials."""

    uri: str
    studies: int = 0
    runs: Counter[Outcome] = field(default_factory=Counter)


def sync(
    root: Path,
    *,
    tracking_uri: str | None = None,
    study: str | None = None,
    progress: Progress = lambda share, text: None,
) -> SyncReport:
    """Updates MLflow from the records of an output folder.

    It may be called at any time, also while cells are trained, and killed at any time. Syncs of the
    same folder wait for each other, so each key gets one run. Without a study, all are logged.

    Raises:
        InputError: MLflow is unreachable or refuses (the records are not affected, and a later sync
            catches up), another sync does not end, or a record or study cannot be read.
    """
    root = root.resolve()
    store, uri = Store(root), store_uri(root, tracking_uri)
    names = [name for name in store.studies() if study in (None, name)]
    report = SyncReport(without_password(uri), len(names))
    if not names:
        return report
    with _explained(uri, root), FileLock(root / "mlflow.lock", timeout=SYNC_SECONDS):
        loaded = [load_results(name, [store]) for name in names]
        wanted = [(results.study, list(tracked_runs(results, store))) for results in loaded]
        total = sum(len(runs) for _, runs in wanted)
        client = _connect(uri, root)
        # A server knows the place of its artifacts; for a database it would be the current folder.
        artifacts = None if _is_server(uri) else (root / "mlartifacts").as_uri()
        for record, runs in wanted:
            experiment = _Experiment(client, record, artifacts)
            for run in runs:
                report.runs[experiment.deliver(run)] += 1
                done = report.runs.total()
                progress(done / total, f"{done} of {total} runs")
            experiment.index()
    return report


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
        found = self._client.search_runs([self._id], max_results=50_000)
        runs: dict[str, Run] = {}
        for run in sorted(found, key=lambda r: (r.info.status == "RUNNING", -len(r.data.metrics))):
            key = run.data.tags.get(KEY)
            if key in runs:
                self._client.delete_run(run.info.run_id)
            elif key is not None:
                runs[key] = run
        return runs

    def deliver(self, wanted: TrackedRun) -> Outcome:
        """Writes or updates one run, unless it is complete."""
        outcome: Outcome = "created"
        run = self._runs.get(wanted.key)
        place = {KEY: wanted.key}
        if wanted.parent is not None:
            place[PARENT] = self._runs[wanted.parent].info.run_id
        tags = {**place, **wanted.tags, DIGEST: wanted.digest}
        if run is not None:
            seen, status = run.data.tags, run.info.status
            placed = place.items() <= seen.items()
            if placed and seen.get(DIGEST) == tags[DIGEST] and status == wanted.status:
                return "unchanged"
            outcome = "updated"
            if not placed or wanted.record or (wanted.parent is not None and status in _ENDED):
                outcome = "created" if status in _ENDED else "finished"
                self._client.delete_run(run.info.run_id)
                run = None
        if run is None:
            start, name = wanted.start or _now(), wanted.name
            run = self._client.create_run(self._id, start_time=start, tags=place, run_name=name)
            self._runs[wanted.key] = run
        self._write(run, wanted, tags)
        return outcome

    def _write(self, run: Run, wanted: TrackedRun, tags: dict[str, str]) -> None:
        """Logs all of a run: its hash after the values, and its status last."""
        from mlflow.entities import Metric, Param, RunTag

        run_id, seen, now = run.info.run_id, run.data.metrics, _now()
        end = now if wanted.end is None else wanted.end
        values = dict(wanted.metrics)
        if wanted.parent is None:  # overwrite values that are no longer true; the latest is shown
            values |= dict.fromkeys(seen.keys() - values.keys(), nan)
        shown = end if wanted.parent else now
        metrics = [Metric(name, value, shown, 0) for name, value in values.items()]
        for name, curve in wanted.curves.items():
            logged = len(self._client.get_metric_history(run_id, name)) if name in seen else 0
            for step, value in list(enumerate(curve, 1))[logged:]:
                moment = wanted.start + (end - wanted.start) * step // len(curve)
                metrics.append(Metric(name, value, moment, step))
        params = [Param(name, text[:6000]) for name, text in wanted.params.items()]
        if wanted.record is not None:
            self._client.log_artifact(run_id, str(wanted.record))
        while len(metrics) > 800 or len(params) > 100:  # MLflow takes 1000 values per call
            self._client.log_batch(run_id, metrics[:800], params[:100])
            metrics, params = metrics[800:], params[100:]
        run_tags = [RunTag(name, text[:5000]) for name, text in tags.items()]
        self._client.log_batch(run_id, metrics, params, run_tags)
        if wanted.status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run_id, status=wanted.status)
        else:
            self._client.set_terminated(run_id, wanted.status, end_time=wanted.end)


def _now() -> int:
    return int(1000 * time.time())


def _connect(uri: str, root: Path) -> MlflowClient:
    """A client of the store; the database of an output folder is created if missing."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow 3.17 beside SQLAlchemy 2.1.
        warnings.filterwarnings("ignore", message=".*noload", category=DeprecationWarning)
        import sqlalchemy
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # `_explained` reports failures
        if uri == local_uri(root) and not has_database(root):
            _make_database(database(root))
        elif uri == local_uri(root):
            with closing(sqlite3.connect(database(root), timeout=LOCK_SECONDS)) as probe:
                probe.execute("BEGIN IMMEDIATE")  # fails earlier than MLflow if it is locked
        elif not _is_server(uri):
            sqlalchemy.create_engine(uri).connect().close()  # MLflow would retry for minutes
        return MlflowClient(tracking_uri=uri)


def _make_database(path: Path) -> None:
    """Creates MLflow's empty database under another name and moves it to its place.

    MLflow creates it by dozens of migrations. A database that is interrupted among them cannot be
    opened again, and syncing each migration to the disk would take most of the time.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def without_waiting(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    new = path.with_name(f".mlflow-{path.name}")
    for left in path.parent.glob(f"{new.name}*"):  # of a killed process; the caller has the lock
        left.unlink()
    event.listen(Engine, "connect", without_waiting)
    try:
        MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments()
    finally:
        event.remove(Engine, "connect", without_waiting)
    with new.open("rb+") as file:
        os.fsync(file.fileno())
    new.replace(path)


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


def has_database(root: Path) -> bool:
    """Whether the file exists and is not empty, as a killed sync may leave it."""
    return database(root).is_file() and database(root).stat().st_size > 0


def _is_server(uri: str) -> bool:
    return uri.startswith(("http", "databricks"))


def without_password(text: str) -> str:
    """Text without the credentials of any address in it."""
    # Up to the last @, because a password may contain one.
    text = re.sub(r"//[^\s'\"]*@", "//", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)


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
        cause: BaseException = error
        while cause.__context__ is not None:  # MLflow wraps what happened several times
            cause = cause.__context__
        text = str(cause if isinstance(cause, OSError) else error).strip() or type(error).__name__
        remedy = f"When it answers again: passt-bench sync --runs {root}"
        if uri == local_uri(root):
            remedy = (
                f"Let other syncs end, then: passt-bench sync --runs {root}. If it persists, "
                f"remove mlflow.db and mlartifacts in {root}: the next sync rebuilds both."
            )
        reason = without_password(text.splitlines()[0])[:300]
        raise InputError(
            f"MLflow was not updated; the records are not affected: {reason}",
            source=without_password(uri),
            remedy=remedy,
        ) from error
