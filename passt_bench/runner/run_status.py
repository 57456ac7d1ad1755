"""Locks and states of the runs in a folder.

The kernel releases locks when their holder ends. Each key has two: ``KEY.lock`` is held by the
command that runs a cell or an evaluation, ``KEY.work.lock`` by the process that computes a cell. If
a command is killed, its process may run a moment longer, and no other may write to the same folder
then.

``studies.lock`` is the innermost: its holder waits for no other lock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from passt_bench.errors import InputError
from passt_bench.records.files import read_bytes, storing
from passt_bench.records.run import CellRecord, Outcome, Status, StudyRecord, cell_name, count_of
from passt_bench.records.store import SEARCHES, Store, document_names, read_search
from passt_bench.runner.request import StudyRequest, check_choice, choose, with_seeds
from passt_bench.runner.studies import files_named, study_on_record
from passt_bench.spec.codec import parse_json
from passt_bench.spec.key import is_key
from passt_bench.spec.study import Study

PROGRESS = "progress.jsonl"  # a line per epoch; exists from the start of a cell to its record
CURVES = "curves.jsonl"  # the same, beside the record
COSTS = "costs.lock"  # held to measure costs
STUDIES = "studies.lock"  # held to write or merge studies and searches
State = Literal["done", "failed", "running", "interrupted", "missing"]
STATES: tuple[State, ...] = ("done", "failed", "running", "interrupted", "missing")


def lock(root: Path, name: str) -> FileLock:
    """A lock that is not held yet, and is not waited for (`StorageError` if read-only)."""
    folder = root / "locks"
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name, timeout=0)


def is_running(root: Path, key: str) -> bool:
    """Whether a command, or a process left by one, is working on the key."""
    for path in (root / "locks" / f"{key}.lock", root / "locks" / f"{key}.work.lock"):
        if path.is_file():
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                return True
            except OSError:  # a read-only folder
                continue
    return False


def running_keys(root: Path) -> list[str]:
    """The keys that commands, or processes left by them, are working on in a folder."""
    keys = {path.name.partition(".")[0] for path in (root / "locks").glob("*.lock")}
    return [key for key in sorted(keys) if is_key(key) and is_running(root, key)]


@contextmanager
def hold(root: Path, name: str, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Holds a lock on a folder (`StorageError` if read-only); calls ``on_wait`` before waiting."""
    held = lock(root, name)
    with storing(root / "locks" / name):
        try:
            held.acquire()
        except Timeout:
            on_wait()
            held.acquire(timeout=-1)
    try:
        yield
    finally:
        held.release()


def discard(path: Path) -> None:
    """Removes the file of a lock (`StorageError` if read-only), unless the lock is held.

    The file is removed while this process holds it. A process that opened it before and acquires it
    afterwards notices that the file was unlinked (`FileLock` checks) and opens the new one, so no
    process holds a lock that others cannot see.
    """
    with storing(path):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return


@dataclass(frozen=True)
class VariantStatus:
    """The number of runs of a variant by state, and the failures among them."""

    variant: str
    cells: dict[State, int]
    retried: int  # number of cells whose record is not from the first attempt
    failures: tuple[str, ...]  # a line for each cell that failed


def variant_statuses(study: StudyRecord, store: Store) -> list[VariantStatus]:
    """The status of each variant, in the study's order."""
    statuses = []
    for variant in study.variants:
        counts: Counter[State] = Counter()
        retried, failures = 0, []
        for cell in variant.cells:
            outcome = store.outcome(cell.key)
            state = run_state(cell.key, outcome, store)
            counts[state] += 1
            retried += outcome is not None and outcome.attempt > 1
            if outcome is not None and state == "failed":
                failures.append(_failure(variant.name, cell, outcome, store))
        cells = {state: counts[state] for state in STATES}
        statuses.append(VariantStatus(variant.name, cells, retried, tuple(failures)))
    return statuses


def count_runs(
    study: StudyRecord, of_variants: int, store: Store, retry: Collection[Status] = ()
) -> str:
    """A sentence with the number of runs in each state, and how to retry those that failed.

    The whole study has ``of_variants``; the command itself retries runs of the statuses ``retry``.
    """
    keys = {cell.key for variant in study.variants for cell in variant.cells}
    ends = {key: store.outcome(key) for key in keys}
    states = Counter(run_state(key, end, store) for key, end in ends.items())
    failed = {end.status for end in ends.values() if end is not None} - {"ok", *retry}
    hints = {"failed": f" (to retry: run --retry {','.join(sorted(failed))})"} if failed else {}
    told = [f"{states[s]} {s}{hints.get(s, '')}" for s in STATES if states[s]]
    if len(keys) in (states["done"], states["missing"]):
        told = ["all done" if states["done"] else "none done yet"]
    chosen = len(study.variants)
    text = f"{study.name}: " + f"{chosen} of " * (chosen < of_variants)
    text += count_of(of_variants, "variant")
    if not study.seeds:
        return f"{text}, only costs."
    text += f" x {count_of(len(study.seeds), 'seed')}"
    text += f" x {count_of(len(study.folds), 'fold')}" if study.folds else ""
    return f"{text} = {count_of(len(keys), 'run')}, {', '.join(told)}."


def list_record(store: Store) -> list[dict[str, Any]]:
    """Name, kind, runs done and planned, and day of the newest, of each study and search.

    For one that cannot be read, ``planned`` is None.
    """
    names = [("study", name) for name in store.studies()]
    names += [("search", name) for name in document_names(store.root / SEARCHES)]
    rows = list[dict[str, Any]]()
    for kind, name in names:
        row: dict[str, Any] = {"name": name, "kind": kind, "done": 0, "planned": None, "date": ""}
        with suppress(InputError):
            done = set[str]()
            if kind == "study":
                keys = {*store.study(name).keys}
            else:  # beside its page it has no records of its trials
                trials = [t for t in read_search(name, store.root).trials if t.status != "pruned"]
                keys = {key for trial in trials for key in trial.keys}
                done = {key for trial in trials if trial.status == "ok" for key in trial.keys}
            ends = [end for key in keys if (end := store.outcome(key))]
            done |= {end.key for end in ends if end.status == "ok"}
            row |= {"done": len(done), "planned": len(keys)}
            row["date"] = max((end.finished for end in ends), default="")[:10]
        rows.append(row)
    return rows


def cost_statuses(study: StudyRecord, store: Store) -> dict[str, Status | None]:
    """Variant → status of its newest measurement, or None; empty if the baseline is left out."""
    arms = {variant.name: variant.arm for variant in study.variants}
    sessions = sorted(store.sessions(), key=lambda session: session.finished)
    own = [session for session in sessions if session.baseline == arms.get(study.baseline)]
    known = {arm.key: arm.status for session in own for arm in session.arms}
    return {n: known.get(arm) for n, arm in arms.items()} if study.baseline in arms else {}


def recorded_study(study: Study, request: StudyRequest, store: Store) -> StudyRecord | None:
    """The seeds, folds and variants of a request, from the record of a study; needs no PyTorch.

    None if the study must be planned: it is not on record, or not with these recipes or this many
    seeds or folds.
    """
    try:
        record = store.study(request.name or study.name)
    except InputError:
        return None
    seeds = with_seeds(study, request.seeds).seeds
    folds = (study.folds or record.folds or ())[: request.folds]
    if (
        {variant.name: study.recipe(variant) for variant in study.variants}
        != {variant.name: variant.recipe for variant in record.variants}
        or study.baseline != record.baseline
        or not {*seeds} <= {*record.seeds}
        or not {*folds} <= {*(record.folds or ())}
        or len(folds) < (request.folds or 0)
    ):
        return None
    variants = []
    for variant in record.variants:
        own = [c for c in variant.cells if c.seed in seeds and c.fold in (folds or (None,))]
        variants.append(replace(variant, cells=tuple(own)))
    record = replace(record, variants=tuple(variants), seeds=seeds, folds=folds or None)
    return chosen(record, request)


def named_on_record(request: StudyRequest, store: Store) -> StudyRecord | None:
    """The study on record, e.g. quick-2, if no file has that name; None if options change it."""
    changed = replace(request, variants=(), with_baseline=True) != StudyRequest(request.study)
    if changed or files_named(request.study):
        return None
    return study_on_record(request.study, store)


def chosen(study: StudyRecord, request: StudyRequest) -> StudyRecord:
    """The requested variants of a study on record, see `check_choice` and `choose`."""
    check_choice(request, [v.name for v in study.variants], [study.baseline], study.name)
    return choose(study, request.variants, request.with_baseline)


def read_epochs(path: Path) -> dict[int, dict[str, float]]:
    """The values of each epoch in a file of curves, by epoch; the last may have those of the run.

    Those are ``epochs`` of the whole training and ``seconds`` so far.
    """
    try:
        lines = read_bytes(path).splitlines()
    except InputError:  # not begun, or the record has just replaced it
        return {}
    found = dict[int, dict[str, float]]()
    for line in lines:
        # Files of earlier versions may have half lines, and epochs twice.
        with suppress(ValueError, TypeError, KeyError):
            values = {name: float(value) for name, value in dict(parse_json(line)).items()}
            found[int(values["epoch"])] = values
    return dict(sorted(found.items()))


def run_state(key: str, outcome: Outcome | None, store: Store) -> State:
    """The state of a quality cell that ended so, or has no record (None)."""
    if outcome is not None and outcome.status == "ok":
        return "done"
    begun = (store.folder(key) / PROGRESS).is_file()
    if (begun or outcome is None) and is_running(store.root, key):
        return "running"
    if outcome is not None:
        return "failed"
    return "interrupted" if begun else "missing"


def _failure(variant: str, cell: CellRecord, outcome: Outcome, store: Store) -> str:
    last = (outcome.message or "").strip().splitlines()[-1:]
    before = [record.status for record in store.attempts(cell.key)[:-1]]
    attempt = f" (attempt {outcome.attempt}, before: {', '.join(before)})" if before else ""
    where = cell_name(cell.seed, cell.fold)
    return f"{variant}, {where}: {outcome.status}{attempt}: " + "".join(last)
