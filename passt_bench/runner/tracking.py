"""Brings MLflow to the state of the records; the only code that talks to MLflow.

Records are the truth, MLflow is the window. `sync` may be called at any time, by anyone, as often
as wanted, also while cells are being trained. One experiment a study, in it one run a variant (its
summary) and nested under it one run a cell. Each is found by its key, finished where an earlier
sync was cut off, and left alone where nothing is new.
"""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from passt_bench.analysis.results import load_results
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import Store
from passt_bench.runner.tracked_run import (
    DIGEST,
    NOTHING,
    PARENT,
    Changes,
    Entry,
    Seen,
    changes,
    is_current,
    is_superseded,
    study_entries,
)
from passt_bench.runner.tracking_uri import (
    SETTINGS,
    TrackingError,
    database,
    explained,
    holds_data,
    is_server,
    local_uri,
    probe,
    store_uri,
    without_password,
)

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient


_LOCK_SECONDS = 600.0

KEY = "passt_bench.key"

Outcome = Literal["created", "finished", "updated", "unchanged"]


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


def sync(
    root: Path,
    *,
    tracking_uri: str | None = None,
    studies: Collection[str] | None = None,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> SyncReport:
    """Tells MLflow what it lacks of the studies under an output folder.

    Syncs on one folder wait for each other, so each key gets one run. Nothing is read from MLflow
    but what is needed to find out what it lacks. A sync may be killed at any moment.

    Args:
        root: output folder with ``records/`` and ``studies/``.
        tracking_uri: of the MLflow store, see `tracking_uri.store_uri`.
        studies: names of those that are told; None is all.
        progress: told the share of the runs that is done, and in words.

    Raises:
        TrackingError: MLflow is out of reach or refuses, or another sync does not end.
        InputError: a record or study cannot be read.
    """
    root, store = root.resolve(), Store(root.resolve())
    uri = store_uri(root, tracking_uri)
    names = [name for name in store.studies() if studies is None or name in studies]
    if not names:
        return SyncReport(without_password(uri), 0)
    counts: Counter[Outcome] = Counter()
    with _one_at_a_time(root):
        with _explained(uri, root):
            probe(uri, root)
        results = [load_results(name, [store]) for name in names]
        work = [(found.study, list(study_entries(found, store))) for found in results]
        total = sum(len(entries) for _, entries in work)
        with _explained(uri, root):
            client = connect(uri, root)
            # A server knows where its artifacts belong; a bare database would take the current
            # folder.
            artifacts = None if is_server(uri) else (root / "mlartifacts").as_uri()
            for study, entries in work:
                experiment = Experiment(client, study, artifacts)
                for entry in entries:
                    counts[experiment.deliver(entry)] += 1
                    progress(counts.total() / total, f"{counts.total()} of {total} runs")
                experiment.settle()
    return SyncReport(without_password(uri), len(work), **{str(k): n for k, n in counts.items()})


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    """One sync a folder: what one finds missing, another might be about to write."""
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
    except OSError as error:  # a server that is away; known without importing the rest
        raise explained(error, uri, root) from error
    except Exception as error:
        if not isinstance(error, causes()):
            raise
        raise explained(error, uri, root) from error


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
        self._created = False
        self._runs = self._index()

    def _index(self) -> dict[str, Run]:
        """Finds the runs by key; of two the one stays that tells more.

        Two come of syncs from two machines at once, or of a server that made a run after the sync
        that had asked for it gave up.
        """
        found, page = [], None
        while page is None or page:
            batch = self._client.search_runs([self.id], max_results=1000, page_token=page)
            found += batch
            page = batch.token or ""
        runs: dict[str, Run] = {}
        for run in sorted(found, key=_least_last):
            key = run.data.tags.get(KEY)
            if key in runs:
                self._client.delete_run(run.info.run_id)
            elif key is not None:
                runs[key] = run
        return runs

    def settle(self) -> None:
        """Removes the doubles of runs that this sync created."""
        if self._created:
            self._index()

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
        self._created = True
        identity = {KEY: entry.key} | ({PARENT: tags[PARENT]} if PARENT in tags else {})
        return self._client.create_run(
            self.id, start_time=entry.start or _now(), tags=identity, run_name=entry.name
        )

    def _seen(self, run: Run) -> Seen:
        @cache
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


def _least_last(run: Run) -> tuple[bool, int, str]:
    data = run.data
    return run.info.status == "RUNNING", -len(data.metrics) - len(data.params), run.info.run_id


def connect(uri: str, root: Path) -> MlflowClient:
    """A client of the store; the database of an output folder is made if need be."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    with warnings.catch_warnings():
        # MLflow 3.17 beside SQLAlchemy 2.1.
        warnings.filterwarnings("ignore", message=".*noload", category=DeprecationWarning)
        from mlflow.tracking import MlflowClient

        # What goes wrong is told in one sentence, see `tracking_uri.explained`.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        if uri == local_uri(root) and not holds_data(database(root)):
            _make_database(database(root))
        return MlflowClient(tracking_uri=uri)


def _make_database(path: Path) -> None:
    """Makes MLflow's empty database elsewhere and moves it to its place whole.

    MLflow sets one up by dozens of migrations. One that is cut off among them cannot be opened
    again, and to have each written through to the disk takes longer than all the rest.
    """
    from mlflow.tracking import MlflowClient
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    prefix = ".mlflow-"
    for left in path.parent.glob(f"{prefix}*"):  # by one that was killed; the caller has the lock
        shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    event.listen(Engine, "connect", _without_waiting)
    try:
        MlflowClient(tracking_uri=f"sqlite:///{folder / path.name}").search_experiments()
    finally:
        event.remove(Engine, "connect", _without_waiting)
    with (folder / path.name).open("rb+") as file:
        os.fsync(file.fileno())
    (folder / path.name).replace(path)
    shutil.rmtree(folder)


def _without_waiting(connection: sqlite3.Connection, record: Any) -> None:
    connection.execute("PRAGMA synchronous = OFF")


def causes() -> tuple[type[Exception], ...]:
    """What MLflow raises, errors of the file system apart.

    It lets those of SQLAlchemy, Alembic and missing drivers through as they are.
    """
    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, sqlite3.Error, ImportError


def _now() -> int:
    return int(1000 * time.time())
