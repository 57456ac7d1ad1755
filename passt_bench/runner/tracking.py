"""Logs studies to MLflow, and to other trackers, from their records; nothing else uses MLflow.

Each study is an experiment with one run per variant (its summary) and, nested under it, one run per
cell. Every run is tagged with its key and, last, with a hash of its content: a run that has the
hash is complete and left alone. The run of a finished cell is otherwise deleted and written anew;
summaries and cells in training are updated.

During a command, syncs run in child processes, so a server that hangs, a client that crashes or a
locked database costs the command only the bounded wait at its end.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import nan
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from filelock import FileLock
from rich.console import Console

from passt_bench.analysis.results import load_results
from passt_bench.console import Progress, Stopwatch, aside
from passt_bench.errors import InputError, check_known, without_password
from passt_bench.processes import PipedChild
from passt_bench.records.run import StudyRecord
from passt_bench.records.store import SEARCHES, Store, document_names, read_search
from passt_bench.registry import TRACKERS
from passt_bench.runner import tracked_run as tracked
from passt_bench.runner.bounded_answers import bounded_answers
from passt_bench.runner.tracked_run import ADDRESS, VIEW, TrackedRun

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

CHOSEN = "PASST_BENCH_TRACKERS"
MLFLOW = "mlflow"
KEY, DIGEST, PARENT = "passt_bench.key", "passt_bench.digest", "mlflow.parentRunId"
LOCK_SECONDS = 5.0  # timeout for another process to release the database
SYNC_SECONDS = 600.0  # timeout for another sync to end
EVERY_SECONDS = 20.0  # also before the first sync: a shorter study needs no live curves
PAUSE = 30.0  # seconds between syncs per CPU second of the last sync
PATIENCE_SECONDS = 30.0  # maximum wait for the last sync
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # By default MLflow retries for minutes; here the next sync retries. MLflow would also repeat
    # requests that must not be repeated, such as the creation of a run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "PGCONNECT_TIMEOUT": "10",  # of PostgreSQL
}

_LIBRARIES = ("mlflow", "sqlalchemy", "alembic", "sqlite3")  # whose errors reach a user
_ENDED = ("FINISHED", "FAILED")
# Schemes of artifacts that are not on this machine; runs: and models: lead to other addresses.
_REMOTE = ("mlflow-artifacts", "http", "https", "s3", "gs", "wasbs", "abfss", "dbfs")
Outcome = Literal["created", "finished", "updated", "unchanged"]


@dataclass(frozen=True)
class SyncReport:
    """The result of a sync: studies and MLflow runs (summaries and cells); no credentials."""

    uri: str  # of MLflow, or the names of the trackers without it
    studies: int = 0
    runs: Counter[Outcome] = field(default_factory=Counter)


def sync(
    root: Path,
    *,
    tracking_uri: str | None = None,
    study: str | None = None,
    progress: Progress = lambda share, text: None,
) -> SyncReport:
    """Updates MLflow, and what else ``PASST_BENCH_TRACKERS`` names, from the records of a folder.

    It may be called at any time, also while cells are trained, and killed at any time. Syncs of the
    same folder wait for each other, so each key gets one run. Without a study, all are logged.

    Raises:
        InputError: a tracker is unknown, unreachable or refuses (the records are not affected, and
            a later sync catches up), another sync does not end, or a record cannot be read.
    """
    root, chosen = root.resolve(), os.environ.get(CHOSEN, MLFLOW).replace(",", " ").split()
    known = {MLFLOW: None} | {tracker.name: tracker for tracker in TRACKERS.all()}
    for name in chosen:
        check_known(name, known, "unknown tracker", field=CHOSEN)
    others = [tracker for name in chosen if (tracker := known[name])]
    store, uri = Store(root), tracked.store_uri(root, tracking_uri) if MLFLOW in chosen else ""
    names = [name for name in store.studies() if study in (None, name)]
    searches = document_names(root / SEARCHES) if study is None else []
    report = SyncReport(without_password(uri) or ", ".join(chosen), len(names) + len(searches))
    if not names and not searches:
        return report
    exclusive = FileLock(root / "mlflow.lock", timeout=SYNC_SECONDS)
    with _explained(uri, root), exclusive, bounded_answers():
        loaded = [load_results(name, [store]) for name in names]
        wanted = [(results.study, list(tracked.tracked_runs(results, store))) for results in loaded]
        found = (tracked.tracked_trials(read_search(name, root), store) for name in searches)
        wanted += [trials for trials in found if trials is not None]
        for tracker in others:
            for record, runs in wanted:
                tracked.deliver(tracker, root, record, runs)
        if MLFLOW not in chosen:
            return report
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
        from mlflow.entities import Dataset

        found, tags = client.get_experiment_by_name(study.name), tracked.experiment_tags(study)
        data = study.fingerprint
        self._data = Dataset(
            data.title, data.digest, "local", json.dumps({"uri": data.title}),
            profile=json.dumps({"clips": data.found, "classes": len(data.classes)}),
        )  # fmt: skip
        if found is None:
            self._id = client.create_experiment(study.name, artifacts, tags=tags)
        else:
            self._id = found.experiment_id
            if artifacts is not None and found.artifact_location != artifacts:
                problem = "the folder was moved; MLflow would write to its old place"
                remedy = "Remove mlflow.db and mlartifacts; the next sync rebuilds both."
                raise InputError(problem, source=artifacts, remedy=remedy)
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(self._id)  # with all runs that were ever deleted
            for name, text in tags.items():
                if found.tags.get(name) != text:
                    client.set_experiment_tag(self._id, name, text)
        self._runs = self.index()

    def index(self) -> dict[str, Run]:
        """The runs by key; of several with one key, only one that is complete, if any, is kept.

        They arise if two machines sync at once, if a server creates a run after the sync that
        requested it gave up, or if MLflow restores deleted runs.
        """
        found = self._client.search_runs([self._id], max_results=50_000)  # without deleted runs
        runs: dict[str, Run] = {}
        for run in sorted(found, key=lambda run: DIGEST not in run.data.tags):
            key = run.data.tags.get(KEY)
            if key in runs:
                self._client.delete_run(run.info.run_id)
            elif key is not None:
                runs[key] = run
        return runs

    def deliver(self, wanted: TrackedRun) -> Outcome:
        """Writes or updates one run, unless it is complete."""
        run = self._runs.get(wanted.key)
        place = {KEY: wanted.key}
        if wanted.parent is not None:
            place[PARENT] = self._runs[wanted.parent].info.run_id
        complete = {**place, DIGEST: wanted.digest}
        if run is not None and complete.items() <= run.data.tags.items():
            return "unchanged"
        was_open = run is not None and run.info.status not in _ENDED
        if run is not None and (wanted.parent is None or (was_open and wanted.record is None)):
            if DIGEST in run.data.tags:
                self._client.delete_tag(run.info.run_id, DIGEST)  # incomplete from here on
            self._write(run, wanted, complete)
            return "updated"
        if run is not None:
            self._client.delete_run(run.info.run_id)
        start = wanted.start or time.time_ns() // 10**6
        run = self._client.create_run(self._id, start, place, wanted.name)
        self._runs[wanted.key] = run
        self._write(run, wanted, complete)
        return "finished" if was_open else "created"

    def _write(self, run: Run, wanted: TrackedRun, complete: dict[str, str]) -> None:
        """Logs all that a run lacks, its status, and last the tags that mark it as complete."""
        from mlflow.entities import DatasetInput, Metric, Param, RunTag
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.utils.uri import add_databricks_profile_info_to_artifact_uri

        uri, place = self._client.tracking_uri, run.info.artifact_uri
        if _is_server(uri) and urlsplit(place).scheme not in _REMOTE:
            problem = "the server has its artifacts written to a place on this machine"
            remedy = "Start it so that it serves artifacts, see docs/tracking.md."
            where = {"source": without_password(uri), "field": "artifact_uri", "value": place}
            raise InputError(problem, **where, remedy=remedy)
        run_id, logged, now = run.info.run_id, run.data.metrics, time.time_ns() // 10**6
        values = dict(wanted.metrics)
        if wanted.parent is None:  # overwrite values that are no longer true; the latest is shown
            values |= dict.fromkeys(logged.keys() - values.keys(), nan)
        metrics = [Metric(name, value, now, 0) for name, value in values.items()]
        lasted = (wanted.end or now) - wanted.start
        for name, curve in wanted.curves.items():
            known = len(self._client.get_metric_history(run_id, name)) if name in logged else 0
            for step in range(known + 1, len(curve) + 1):
                moment = wanted.start + lasted * step // len(curve)
                metrics.append(Metric(name, curve[step - 1], moment, step))
        params = [Param(name, text[:6000]) for name, text in wanted.params.items()]
        tags = [RunTag(name, text[:5000]) for name, text in wanted.tags.items()]
        self._client.log_batch(run_id, metrics, params, tags)
        if not run.inputs.dataset_inputs:
            self._client.log_inputs(run_id, [DatasetInput(self._data)])
        if wanted.record is not None:
            # The client's own method asks for the place again, and could get another answer.
            place = add_databricks_profile_info_to_artifact_uri(place, uri)
            get_artifact_repository(place, tracking_uri=uri).log_artifact(str(wanted.record))
        if wanted.status in ("RUNNING", "SCHEDULED"):
            self._client.update_run(run_id, status=wanted.status)
        else:
            self._client.set_terminated(run_id, wanted.status, end_time=wanted.end)
        self._client.log_batch(run_id, tags=[RunTag(*tag) for tag in complete.items()])


def pages(root: Path, uri: str) -> dict[str, str]:
    """Study → the place of its results on MLflow's page, below the address of the server."""
    view = f"viewStateShareKey={VIEW.rpartition('.')[2]}&workflowType=machine_learning"
    with _explained(uri, root):
        experiments = _connect(uri, root).search_experiments()
    return {
        found.name: f"/#/experiments/{found.experiment_id}/runs?{view}"
        for found in experiments
        if VIEW in found.tags
    }


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
        if uri == tracked.local_uri(root) and not tracked.database(root).is_file():
            # Created elsewhere and moved, because MLflow cannot open one that a kill interrupted.
            new = root / ".mlflow-mlflow.db"
            for left in root.glob(f"{new.name}*"):  # of a killed process; the caller has the lock
                left.unlink()
            MlflowClient(tracking_uri=f"sqlite:///{new}").search_experiments()
            new.replace(tracked.database(root))
        elif uri == tracked.local_uri(root):
            with closing(sqlite3.connect(tracked.database(root), timeout=LOCK_SECONDS)) as probe:
                probe.execute("BEGIN IMMEDIATE")  # fails earlier than MLflow if it is locked
        elif not _is_server(uri):
            sqlalchemy.create_engine(uri).connect().close()  # MLflow would retry for minutes
        return MlflowClient(tracking_uri=uri)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http", "databricks"))


@contextmanager
def _explained(uri: str, root: Path) -> Iterator[None]:
    """Turns errors of MLflow and its libraries into one sentence and a remedy."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        # Also what a strange answer causes inside them, e.g. a ValueError.
        frames = [frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__)]
        modules = (type(error).__module__, *(names["__name__"] for names in frames))
        named = {name.partition(".")[0] for name in modules}
        if not isinstance(error, OSError | ImportError) and not named & {*_LIBRARIES}:
            raise
        cause: BaseException = error
        while cause.__context__ is not None:  # MLflow wraps what happened several times
            cause = cause.__context__
        text = str(cause if isinstance(cause, OSError) else error).strip() or type(error).__name__
        remedy = f"When it answers again: passt-bench sync --runs {root}"
        if uri == tracked.local_uri(root):
            remedy = (
                f"Let other syncs end, then: passt-bench sync --runs {root}. If it persists, "
                f"remove mlflow.db and mlartifacts in {root}: the next sync rebuilds both."
            )
        reason = without_password(text.splitlines()[0])[:300]
        problem = f"no usable answer; the records are not affected: {reason}"
        raise InputError(problem, source=without_password(uri), remedy=remedy) from error


@contextmanager
def regular_sync(
    root: Path, study: str | None = None, *, every: float = EVERY_SECONDS, pause: float = PAUSE
) -> Iterator[None]:
    """Syncs a study, or all, regularly; stops when the body ends, even during a sync.

    The process has the lowest priority. Failures are reported by the last sync if they last.
    """
    with closing(PipedChild(_sync_in_child, root, _environment(), study, every, pause)):
        yield


@contextmanager
def updating_mlflow(runs: Path, clock: Stopwatch, console: Console) -> Iterator[None]:
    """Syncs once beside the body, waits for the sync, and prints its place, or why it failed.

    Waits at most 30 s, or 2 % of the command's run time (``clock``) if that is longer.
    """
    with closing(PipedChild(_sync_in_child, runs, _environment(), None, 0.0, 0.0)) as child:
        yield
        patience = max(PATIENCE_SECONDS, 0.02 * clock.elapsed)
        with console.status("Updating MLflow"):
            ended = child.wait(patience)
        failure = child.answer()
        if failure is None:
            failure = f"the sync did not finish within {patience:.0f} s more"
            if ended and child.ended(1):
                failure = f"the sync ended with status {child.status}"
            failure += f"; the records are not affected. Run later: passt-bench sync --runs {runs}"
    if failure:
        console.print(f"MLflow was not updated: {failure}", style="yellow", markup=False)
    elif MLFLOW in os.environ.get(CHOSEN, MLFLOW):
        uri = tracked.store_uri(runs)
        text = f"Logged to MLflow at {without_password(uri)}."
        if uri == tracked.local_uri(runs):
            text = f"Logged to MLflow in {runs}; `passt-bench ui --runs {runs}` shows it."
        aside(console).print(text, markup=False)


def _sync_in_child(
    pipe: Connection, root: Path, env: dict[str, str], study: str | None, every: float, pause: float
) -> None:
    """Syncs regularly, or once if ``every`` is 0, and then answers with the reason if it fails."""
    os.environ |= env  # the fork server may be older than what the parent was told
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # what trackers print is discarded
    os.dup2(nothing, 2)
    os.nice(19 if every else 0)
    previous, wait = 0.0, every  # the import of MLflow and the set-up of its database count
    while True:
        time.sleep(wait)
        failure = ""
        try:
            sync(root, study=study)
        except InputError as error:
            failure = str(error)
        if not every:
            return pipe.send(failure)
        now = time.process_time()
        wait, previous = max(every, pause * (now - previous)), now


def _environment() -> dict[str, str]:
    return {ADDRESS: os.environ.get(ADDRESS, ""), CHOSEN: os.environ.get(CHOSEN, MLFLOW)}
