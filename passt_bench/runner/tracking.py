"""Logs studies to MLflow from their records; the only module that uses MLflow.

One experiment a study, in it one run a variant (its summary) and nested under it one run a cell. A
record is immutable, so the run of a cell is written once, tagged with its key and the hash of its
record: one with another hash, or still open, is deleted and written anew. Summaries, and cells in
training, are updated.
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
REACH_SECONDS = 3.0  # for a server to say that it is there
ANSWER_SECONDS = 5  # for each answer after that
LOCK_SECONDS = 5.0  # for another process to release the database
SYNC_SECONDS = 600.0  # for another sync to end
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default MLflow tries for many minutes; here the next sync is what tries again. MLflow
    # would also repeat what is not safe to repeat: a run whose creation was not confirmed.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS),
}

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "sqlite3")  # whose errors reach a user
Outcome = Literal["created", "finished", "updated", "unchanged"]


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, counted in MLflow runs (summaries and cells).

    Attributes:
        uri: of the MLflow store, without credentials.
        studies: number of experiments.
        created: runs that MLflow did not have, or of another record.
        finished: runs that an earlier sync left open, and now have their final record.
        updated: runs with something new.
        unchanged: runs that were up to date.
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
    """Brings MLflow up to date with the records of an output folder.

    It may be called at any time, also while cells are trained, and killed at any time. Two on one
    folder wait for each other, so each key gets one run.

    Args:
        root: output folder with ``records/`` and ``studies/``.
        tracking_uri: of the MLflow store, see `store_uri`.
        study: the only one to log; None is all.
        progress: called with the share of runs that is done, and in words.

    Raises:
        InputError: MLflow is out of reach or refuses (the records are unharmed, and a later sync
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
        # A server knows where its artifacts go; a bare database would take the current folder.
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
                    "the folder was moved since; MLflow would write to where it was",
                    source=artifacts,
                    remedy="Remove mlflow.db and mlartifacts; the next sync rebuilds both.",
                )
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(self._id)
        self._runs = self.index()

    def index(self) -> dict[str, Run]:
        """The runs by key; of two the more complete one stays, and the other is deleted.

        Two come from syncs on two machines at once, or from a server that made a run after the
        sync that had asked for it gave up.
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
        """Brings one run to the state of its record, progress or summary."""
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
        """Logs what a run lacks, its status last, so that one that was cut off stays open."""
        from mlflow.entities import Metric, Param, RunTag

        run_id, seen, now = run.info.run_id, run.data, _now()
        end = now if wanted.end is None else wanted.end
        values = dict(wanted.metrics)
        if wanted.parent is None:  # drop what is no longer true; MLflow shows the later of two
            values |= dict.fromkeys(seen.metrics.keys() - values.keys(), nan)
        metrics = [
            Metric(name, value, end if wanted.parent else now, 0)
            for name, value in values.items()
            if not _same(seen.metrics.get(name), value)
        ]
        for name, curve in wanted.curves.items():
            points = self._client.get_metric_history(run_id, name) if name in seen.metrics else []
            there = {point.step for point in points}
            for step, value in enumerate(curve, 1):
                moment = wanted.start + (end - wanted.start) * step // len(curve)
                metrics += [Metric(name, value, moment, step)] if step not in there else []
        params = [
            Param(n, text[:6000]) for n, text in wanted.params.items() if n not in seen.params
        ]
        new = [RunTag(name, text) for name, text in tags.items() if seen.tags.get(name) != text]
        changed = bool(metrics or params or new or run.info.status != wanted.status)
        while metrics or params or new:  # MLflow takes 1000 values a call, 100 of them parameters
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
    """A client of the store; the database of an output folder is made if need be."""
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
    """Makes MLflow's empty database in another folder and moves it to its place whole.

    MLflow sets one up by dozens of migrations. One that is cut off among them cannot be opened
    again, and to have each written through to the disk takes longer than all the rest.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def without_waiting(connection: sqlite3.Connection, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    for left in path.parent.glob(".mlflow-*"):  # by one that was killed; the caller has the lock
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
    """Where MLflow keeps its runs: as given, ``MLFLOW_TRACKING_URI``, or ``root/mlflow.db``.

    Raises:
        InputError: the folder's path cannot be written as an SQLite address.
    """
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not given and set("%?") & set(str(root.resolve())):
        raise InputError(
            "MLflow cannot keep its runs below a path with % or ?",
            source=root,
            remedy="Use another folder, or name a server by MLFLOW_TRACKING_URI.",
        )
    return given or local_uri(root)


def local_uri(root: Path) -> str:
    """The address of the store in an output folder."""
    return f"sqlite:///{database(root)}"


def database(root: Path) -> Path:
    """The file of the store in an output folder."""
    return root.resolve() / "mlflow.db"


def holds_data(path: Path) -> bool:
    """Whether there is a file with something in it."""
    return path.is_file() and path.stat().st_size > 0


def _is_server(uri: str) -> bool:
    return uri.startswith(("http", "databricks"))


def without_password(text: str) -> str:
    """Text without the credentials of any address in it."""
    text = re.sub(r"//[^\s'\"]*@", "//", text)  # up to the last @, for a password may hold one
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)


def _probe(uri: str, root: Path) -> None:
    """Fails within seconds where the store is away, hangs or is locked; MLflow would wait longer.

    What is not certainly a failure passes: MLflow knows more kinds of servers than this.
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
    host = parts.netloc.rpartition("@")[2]  # no credentials are needed to ask whether it is there
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
        # A certificate, say, may be one that MLflow was set up to trust.
        if isinstance(reason, ConnectionError) or "resolution" in str(reason):
            raise OSError(f"the server is away: {reason}") from error


@contextmanager
def _explained(uri: str, root: Path) -> Iterator[None]:
    """Turns what MLflow and the libraries below it raise into one sentence and a remedy."""
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
        remedy = f"Once it answers again: {again}"
        if "is locked" in reason or isinstance(error, Timeout):
            reason = "another process keeps the database locked"
            remedy = f"End that process (or let it finish), then: {again}"
        elif "database schema" in reason or "locate revision" in reason:
            reason = f"the database is of another version of MLflow ({reason.partition('. ')[0]})"
            other = rebuild if local else "have it upgraded: mlflow db upgrade"
            remedy = f"Install that version of MLflow, or {other}."
        elif local:
            remedy = f"If it persists, {rebuild} from the records."
        raise InputError(
            f"no sync with MLflow; the records are not affected: {reason}",
            source=without_password(uri),
            remedy=remedy,
        ) from error
