"""Brings MLflow to the state of the records.

Records are the truth, MLflow is the window. `sync` may be called at any time, by anyone, as often
as wanted, also while cells are being trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from passt_bench.analysis.results import load_results
from passt_bench.records.store import Store
from passt_bench.runner.address import (
    TrackingError,
    explained,
    is_server,
    probe,
    store_uri,
    without_password,
)
from passt_bench.runner.entries import study_entries
from passt_bench.runner.tracking import Experiment, Outcome, causes, connect

_LOCK_SECONDS = 600.0


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
        tracking_uri: of the MLflow store, see `address.store_uri`.
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
