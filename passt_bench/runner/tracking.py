"""Brings MLflow to the state of the records: the only code that talks to MLflow.

Records are the truth, MLflow is the window. `sync` may be called at any time, by anyone, as often
as wanted, also while cells are being trained: one experiment a study, in it one run a variant (its
summary) and nested under it one run a cell. Each is found by its key, finished where an earlier
sync was cut off, and left alone where nothing is new.
"""

from __future__ import annotations

import logging
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock, Timeout

from passt_bench.analysis.results import load_results
from passt_bench.errors import InputError
from passt_bench.record import StudyRecord
from passt_bench.runner.difference import (
    DIGEST,
    NOTHING,
    PARENT,
    Changes,
    Seen,
    changes,
    is_current,
    is_superseded,
)
from passt_bench.runner.entries import Entry, study_entries
from passt_bench.store import Store

if TYPE_CHECKING:  # at run time MLflow is imported late: it costs two seconds
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

KEY = "passt_bench.key"

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # A server that is away shall cost a run seconds; by default MLflow tries for many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}
_LOCK_SECONDS = 600.0

Outcome = Literal["created", "finished", "updated", "unchanged"]


class TrackingError(InputError):
    """MLflow cannot be reached or refuses; records are unharmed and a later sync catches up."""


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, counted in MLflow runs (summaries and cells).

    Attributes:
        uri: where to, without credentials.
        studies: experiments.
        created: runs that MLflow did not have.
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


def sync(
    root: Path,
    *,
    tracking_uri: str | None = None,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> SyncReport:
    """Tells MLflow what it lacks of the studies under an output folder.

    Syncs on one folder wait for each other, so each key gets one run. Nothing is read from MLflow
    but what is needed to find out what it lacks.

    Args:
        root: output folder with ``records/`` and ``studies/``.
        tracking_uri: of the MLflow store, see `store_uri`.
        progress: told the share of the runs that is done, and in words.

    Raises:
        TrackingError: MLflow is out of reach or refuses, or another sync does not end.
        InputError: a record or study cannot be read.
    """
    root, store = root.resolve(), Store(root.resolve())
    uri = store_uri(root, tracking_uri)
    if not store.studies():
        return SyncReport(without_password(uri), 0)
    counts: Counter[Outcome] = Counter()
    with _one_at_a_time(root):
        results = [load_results(name, [store]) for name in store.studies()]
        work = [(found.study, list(study_entries(found, store))) for found in results]
        total = sum(len(entries) for _, entries in work)
        with _explained(uri, root):
            client = _connect(uri)
            # A server knows where its artifacts belong; a bare database would take the current
            # folder.
            remote = uri.startswith(("http", "databricks"))
            artifacts = None if remote else (root / "mlartifacts").as_uri()
            for study, entries in work:
                experiment = Experiment(client, study, artifacts)
                for entry in entries:
                    counts[experiment.deliver(entry)] += 1
                    progress(counts.total() / total, f"{counts.total()} of {total} runs")
    return SyncReport(without_password(uri), len(work), **{str(k): n for k, n in counts.items()})


class Experiment:
    """A study's experiment, with the runs that it has."""

    def __init__(self, client: MlflowClient, study: StudyRecord, artifacts: str | None) -> None:
        self._client = client
        found = client.get_experiment_by_name(study.name)
        if found is None:
            note = {"mlflow.note.content": f"{study.question}\n\n{study.notebook}"[:5000]}
            self.id = client.create_experiment(study.name, artifacts, tags=note)
        else:
            self.id = found.experiment_id
            if artifacts is not None and found.artifact_location != artifacts:
                raise TrackingError(
                    "the folder was moved since; MLflow would write to where it was",
                    source=artifacts,
                    remedy="Remove mlflow.db and mlartifacts; the next sync rebuilds both.",
                )
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(self.id)
        self._runs: dict[str, Run] = {}
        self._index()

    def _index(self) -> None:
        """Finds the runs by key; of two (syncs from two machines at once) one stays."""
        found, page = [], None
        while page is None or page:
            batch = self._client.search_runs([self.id], max_results=1000, page_token=page)
            found += batch
            page = batch.token or ""
        for run in sorted(found, key=lambda run: str(run.info.run_id)):
            key = run.data.tags.get(KEY)
            if key in self._runs:
                self._client.delete_run(run.info.run_id)
            elif key is not None:
                self._runs[key] = run

    def deliver(self, entry: Entry) -> Outcome:
        """Brings one run to the state of its entry."""
        run = self._runs.get(entry.key)
        tags = dict(entry.tags)
        if entry.digest is not None:
            tags[DIGEST] = entry.digest
        if entry.parent is not None:
            tags[PARENT] = self._runs[entry.parent].info.run_id
        if run is not None and is_current(self._seen(run), entry, tags):
            return "unchanged"
        if run is not None and is_superseded(self._seen(run), entry):
            self._client.delete_run(run.info.run_id)
            run = None
        if run is None:
            self._runs[entry.key] = run = self._create(entry, tags)
            self._write(run, entry, changes(NOTHING, entry, tags, _now()))
            return "created"
        missing = changes(self._seen(run), entry, tags, _now())
        self._write(run, entry, missing)
        if run.info.status == "RUNNING" and entry.state != "RUNNING":
            return "finished"
        return "updated" if missing else "unchanged"

    def _create(self, entry: Entry, tags: Mapping[str, str]) -> Run:
        """An open run that can be found again, should this sync be cut off."""
        identity = {KEY: entry.key} | ({PARENT: tags[PARENT]} if PARENT in tags else {})
        return self._client.create_run(
            self.id, start_time=entry.start or _now(), tags=identity, run_name=entry.name
        )

    def _seen(self, run: Run) -> Seen:
        def history(name: str) -> dict[int, float]:
            points = self._client.get_metric_history(run.info.run_id, name)
            return {point.step: point.value for point in points}

        data = run.data
        return Seen(run.info.status, data.metrics, data.params, data.tags, history)

    def _write(self, run: Run, entry: Entry, missing: Changes) -> None:
        """Logs what the run lacks; its final status last, so that a cut-off run stays open."""
        if not missing:
            return
        run_id = run.info.run_id
        _log(self._client, run_id, missing)
        if entry.artifact is not None:
            self._client.log_artifact(run_id, str(entry.artifact))
        if entry.state != "RUNNING":
            self._client.set_terminated(run_id, entry.state, end_time=entry.end)
        elif missing.status:
            self._client.update_run(run_id, status="RUNNING")


def _log(client: MlflowClient, run_id: str, missing: Changes) -> None:
    """Logs in as few calls as MLflow takes: 1000 values in all, 100 parameters, 100 tags."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(p.name, p.value, p.moment, p.step) for p in missing.points]
    params = [Param(name, text) for name, text in missing.params.items()]
    tags = [RunTag(name, text) for name, text in missing.tags.items()]
    while metrics or params or tags:
        client.log_batch(run_id, metrics[:800], params[:100], tags[:100])
        metrics, params, tags = metrics[800:], params[100:], tags[100:]


def _connect(uri: str) -> MlflowClient:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow 3.17 beside SQLAlchemy 2.1.
        warnings.filterwarnings("ignore", message=".*noload", category=DeprecationWarning)
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        if not uri.startswith(("http", "databricks")):
            _probe(uri)
        return MlflowClient(tracking_uri=uri)


def _probe(uri: str) -> None:
    """Fails at once where a database is away: MLflow itself would try for two minutes."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri)
    sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """One sync a folder: a fresh SQLite file breaks if two processes set it up."""
    try:
        with FileLock(root / "mlflow.lock", timeout=_LOCK_SECONDS):
            yield
    except Timeout:
        raise TrackingError(
            f"another sync holds it for more than {_LOCK_SECONDS:.0f} s",
            source=root / "mlflow.lock",
            remedy="End that one, or sync later.",
        ) from None


@contextmanager
def _explained(uri: str, root: Path) -> Iterator[None]:
    """Turns what MLflow and the libraries below it raise into one sentence."""
    try:
        yield
    except _causes() as error:
        reason = without_password((str(error).strip().splitlines() or [""])[0][:300])
        if uri == local_uri(root):
            remedy = (
                f"If it persists, remove mlflow.db and mlartifacts in {root}: "
                "the next sync rebuilds both from the records."
            )
        else:
            remedy = f"Once it answers again: passt-bench sync --out {root}"
        raise TrackingError(
            f"no sync with MLflow; the records are not affected: {reason}",
            source=without_password(uri),
            remedy=remedy,
        ) from error


def _causes() -> tuple[type[Exception], ...]:
    """MLflow lets errors of the file system, SQLAlchemy and missing drivers through as they are."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, OSError, ImportError


def local_uri(root: Path) -> str:
    """The address of the store in an output folder."""
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def without_password(text: str) -> str:
    """Text with the credentials of any address in it left out."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _now() -> int:
    return int(1000 * time.time())
