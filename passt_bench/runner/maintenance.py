"""Looking after a folder of records: what differs between two, and what is of no use any more."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from passt_bench.errors import InputError
from passt_bench.names import is_key
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.files import read_bytes, storing
from passt_bench.records.run import Fingerprint, RunRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import Record, Store, read_record, read_search, search_names
from passt_bench.runner.locks import discard, is_running
from passt_bench.spec.key import decisive
from passt_bench.spec.recipe import Recipe
from passt_bench.training.features import features_path

ABSENT = "-"

WRITING_SECONDS = 3600.0  # a temporary file that is younger may be somebody's at work
_KEY = re.compile(rb'"([0-9a-f]{16})"')
_CHECKPOINTS = ("checkpoint*.pt", "best.pt", "progress.jsonl")


@dataclass(frozen=True)
class Difference:
    """One field in which two records differ, as text."""

    field: str
    first: str
    second: str


@dataclass(frozen=True)
class RecordDiff:
    """What differs between two records.

    Attributes:
        first: key of one.
        second: key of the other.
        decides: fields that enter the key.
        context: fields that do not: the recipe's free ones, machine, library versions, outcome.
    """

    first: str
    second: str
    decides: tuple[Difference, ...]
    context: tuple[Difference, ...]


def find_record(name: str, store: Store) -> Record:
    """The record that a key, the beginning of one, or a path means.

    Args:
        name: a key of the store, as many of its first characters as are needed, or the path of a
            record or of its folder.
        store: where keys are looked for.

    Raises:
        InputError: there is none, or several keys begin like that.
    """
    path = Path(name)
    if path.is_dir() and (path / "record.json").is_file():
        return read_record(path / "record.json", in_store=False)
    if path.is_file():
        return read_record(path, in_store=False)
    found = [key for key in store.record_keys() if name and key.startswith(name)]
    if len(found) == 1:
        return read_record(store.folder(found[0]) / "record.json")
    raise InputError(
        f"{len(found)} records begin like that" if found else "no such record",
        source=store.root,
        field="record",
        value=name,
        remedy=f"Known: {', '.join(found[:5])}."
        if found
        else "Give a key, its beginning, or the path of a record.json.",
    )


def compare_records(first: Record, second: Record) -> RecordDiff:
    """What differs between two records of the same kind.

    Raises:
        InputError: they are of different kinds.
    """
    if first.kind != second.kind:
        raise InputError(
            "records of different kinds share no fields",
            field="kind",
            value=f"{first.kind}, {second.kind}",
            remedy="Give two keys of the same kind.",
        )
    (decides_a, context_a), (decides_b, context_b) = _fields(first), _fields(second)
    # A field of a later version stands in a key only where it is not at its default: it is then
    # absent on one side, whose value is the default, which the whole recipe has.
    both = {**context_a, **decides_a}, {**context_b, **decides_b}
    names = dict.fromkeys([*decides_a, *decides_b])
    others = dict.fromkeys(name for name in (*context_a, *context_b) if name not in names)
    return RecordDiff(
        first.key, second.key, tuple(_differing(*both, names)), tuple(_differing(*both, others))
    )


def _differing(
    first: Mapping[str, str], second: Mapping[str, str], names: Mapping[str, None]
) -> Iterator[Difference]:
    for name in names:
        a, b = first.get(name, ABSENT), second.get(name, ABSENT)
        if a != b:
            yield Difference(name, a, b)


def _fields(record: Record) -> tuple[dict[str, str], dict[str, str]]:
    """Fields that decide the key, and the others."""
    if isinstance(record, RunRecord):
        return _of_run(record)
    return _of_session(record) if isinstance(record, SessionRecord) else _of_evaluation(record)


def _of_run(record: RunRecord) -> tuple[dict[str, str], dict[str, str]]:
    data = record.fingerprint
    decides: dict[str, Any] = {
        "recipe": decisive(record.recipe, as_written=False),
        "seed": record.seed,
        "fold": record.fold,
        "data fingerprint": data.digest,
        "version of": record.components,
    }
    context: dict[str, Any] = {
        "recipe": _plain(record.recipe),
        "data": _data(data),
        **_surroundings(record),
        "status": record.status,
        "attempt": record.attempt,
        "metric": record.metrics,
    }
    return _flat(decides), _flat(context)


def _of_session(record: SessionRecord) -> tuple[dict[str, str], dict[str, str]]:
    surroundings = _surroundings(record)
    commit = {"commit": surroundings.pop("commit")}
    decides = {"arms": sorted(arm.key for arm in record.arms), **surroundings}
    context = {**commit, "baseline": record.baseline, "rounds": record.rounds}
    return _flat(decides), _flat(context)


def _of_evaluation(record: EvaluationRecord) -> tuple[dict[str, str], dict[str, str]]:
    members = sorted(record.members, key=lambda member: member.sha256)
    decides: dict[str, Any] = {
        "checkpoints": {
            member.sha256: {
                name: decisive(getattr(member.recipe, name), as_written=False)
                for name in ("model", "frontend")
            }
            for member in members
        },
        "data fingerprint": record.fingerprint.digest,
        "clips": {name: getattr(record, name) for name in ("split", "fold", "seconds")},
        "sampling rate": record.sampling_rate,
        "device": record.device,
        "version of": record.components,
    }
    context: dict[str, Any] = {
        "name": record.name,
        "data": _data(record.fingerprint),
        **_surroundings(record),
        "metric": record.metrics,
        "interval": {name: list(ends) for name, ends in record.intervals.items()},
    }
    return _flat(decides), _flat(context)


def _data(data: Fingerprint) -> dict[str, Any]:
    return {
        "clips": data.found,
        "expected": data.expected,
        "classes": list(data.classes),
        "sampling rates": data.sampling_rates,
        "notes": list(data.notes),
    }


def _surroundings(record: Record) -> dict[str, Any]:
    return {
        "machine": record.machine,
        "library": record.versions,
        "commit": record.commit,
    }


def _plain(recipe: Recipe) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return plain


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted names and values as JSON."""
    out: dict[str, str] = {}
    for name, value in node.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{name}.")
        else:
            out[prefix + name] = json.dumps(value, ensure_ascii=False)
    return out


@dataclass(frozen=True)
class Debris:
    """Paths of one kind that can go.

    Attributes:
        what: in words.
        paths: files, or whole folders of records.
        size: bytes of all of them.
        results: whether they are results, which are removed only where that is asked for.
    """

    what: str
    paths: tuple[Path, ...]
    size: int
    results: bool = False


def find_debris(root: Path) -> list[Debris]:
    """What can go from a store's folder, kind by kind; kinds without any are there as well.

    Raises:
        InputError: no such folder, or a study in it is broken: then nobody can tell what is used;
            or a record is a link.
    """
    if not root.is_dir():
        raise InputError(
            "no such folder", field="--out", value=str(root), remedy="Give a folder of records."
        )
    store, home = Store(root), root.resolve()
    running = partial(is_running, root)
    kinds: tuple[tuple[str, Iterator[Path], bool], ...] = (
        ("temporary files of writers that were killed", _temporary(root), False),
        ("checkpoints of finished runs", _checkpoints(store, running), False),
        ("locks of what has a record", _locks(store, running), False),
        ("prepared features that no study here uses", _features(store), False),
        ("records that no study here refers to", _unused(store, running), True),
    )
    found = []
    for what, paths, results in kinds:
        # A link in the folder may lead to what belongs to others.
        chosen = tuple(sorted(path for path in paths if path.parent.resolve().is_relative_to(home)))
        found.append(Debris(what, chosen, sum(map(_size, chosen)), results))
    return found


def remove(debris: Debris) -> None:
    """Removes what was found; of locks, those that nobody has taken since.

    Raises:
        StorageError: it cannot be removed.
    """
    for path in debris.paths:
        with storing(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.suffix == ".lock":
                discard(path)
            else:
                path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file())


def _temporary(root: Path) -> Iterator[Path]:
    before = time.time() - WRITING_SECONDS
    for pattern in ("records/*/.*.*", "studies/.*.*", "search/.*.*", "cache/.*.*", "cache/*.tmp"):
        for path in root.glob(pattern):
            elsewhere = pattern.startswith("records") and path.parent.is_symlink()
            if path.is_file() and not elsewhere and path.stat().st_mtime < before:
                yield path


def _checkpoints(store: Store, running: Callable[[str], bool]) -> Iterator[Path]:
    for key in _succeeded(store):
        paths = [path for name in _CHECKPOINTS for path in store.folder(key).glob(name)]
        if paths and not running(key):
            yield from paths


def _locks(store: Store, running: Callable[[str], bool]) -> Iterator[Path]:
    """Of all that has a record, failures as well: who tries again makes new ones.

    The two of the whole folder stay: they are no more than two, and whoever works there next wants
    them at once.
    """
    done = set(store.record_keys())
    for path in (store.root / "locks").glob("*.lock"):
        key = path.name.split(".")[0]
        if key in done and not running(key):
            yield path


def _succeeded(store: Store) -> Iterator[str]:
    """Keys of quality cells whose record is not to be tried again."""
    for key in store.record_keys():
        if not store.is_session(key):
            outcome = store.outcome(key)
            if outcome is not None and outcome.status == "ok":
                yield key


def _features(store: Store) -> Iterator[Path]:
    cache = store.root / "cache"
    used = {features_path(cache, recipe, data) for recipe, data in _recipes(store)}
    yield from (path for path in cache.glob("*.npy") if path not in used)


def _recipes(store: Store) -> Iterator[tuple[Recipe, str]]:
    """Recipes of the folder's studies and searches, each with the digest of its data."""
    for name in store.studies():
        study = store.study(name)
        yield from ((variant.recipe, study.fingerprint.digest) for variant in study.variants)
    for name in search_names(store.root):
        search = read_search(name, store.root)
        yield search.recipe, search.fingerprint.digest


def _unused(store: Store, running: Callable[[str], bool]) -> Iterator[Path]:
    named: set[str] = set()
    for path in store.root.glob("*/*.json"):  # studies, searches, comparisons
        named |= {key.decode() for key in _KEY.findall(read_bytes(path))}
    for folder in (store.root / "records").glob("*"):
        if not is_key(folder.name):
            continue  # no record's
        if folder.is_dir() and folder.name not in named and not running(folder.name):
            path = folder / "record.json"
            if path.is_file() and store.is_evaluation(folder.name):
                continue  # it stands for itself
            if path.is_file() and store.is_session(folder.name):
                record = read_record(path)
                if record.kind == "cost" and named & {arm.key for arm in record.arms}:
                    continue  # a session is named by the arms that it measured
            yield folder
