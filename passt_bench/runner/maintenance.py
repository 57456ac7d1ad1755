"""Compares two records, and finds what can be removed from a folder of records."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from passt_bench.errors import InputError
from passt_bench.records.files import storing
from passt_bench.records.run import RunRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import (
    Record,
    Store,
    comparison_names,
    read_comparison,
    read_record,
    read_search,
    search_names,
)
from passt_bench.runner.locks import discard, is_running
from passt_bench.spec.key import is_key, key_fields
from passt_bench.spec.override import flatten
from passt_bench.spec.recipe import Recipe
from passt_bench.training.features import features_path

ABSENT = "-"

WRITING_SECONDS = 3600.0  # a younger temporary file may still be in use
_TEMPORARY = ("records/*/.*.*", "studies/.*.*", "search/.*.*", "cache/.*.*", "cache/*.tmp")
_CHECKPOINTS = ("checkpoint*.pt", "best.pt", "progress.jsonl")


@dataclass(frozen=True)
class Difference:
    """One field in which two records differ, as text."""

    field: str
    first: str
    second: str


@dataclass(frozen=True)
class RecordDiff:
    """The differences between two records.

    Attributes:
        first: key of the first record.
        second: key of the second record.
        decides: fields that enter the key.
        context: other fields: the recipe's free ones, machine, library versions, outcome.
    """

    first: str
    second: str
    decides: tuple[Difference, ...]
    context: tuple[Difference, ...]


def find_record(name: str, store: Store) -> Record:
    """Finds the record with a key, a unique prefix of a key, or a path.

    Args:
        name: a key of the store, a unique prefix of one, or the path of a record or of its folder.
        store: the store that is searched for keys.

    Raises:
        InputError: there is no such record, or several keys start with the prefix.
    """
    path = Path(name)
    if path.is_dir() and (path / "record.json").is_file():
        return read_record(path / "record.json", in_store=False)
    if path.is_file():
        return read_record(path, in_store=False)
    matches = [key for key in store.record_keys() if name and key.startswith(name)]
    if len(matches) == 1:
        return read_record(store.folder(matches[0]) / "record.json")
    raise InputError(
        f"{len(matches)} keys start with this prefix" if matches else "no such record",
        source=store.root,
        field="record",
        value=name,
        remedy=f"Known: {', '.join(matches[:5])}."
        if matches
        else "Give a key, its first characters, or the path of a record.json.",
    )


def compare_records(first: Record, second: Record) -> RecordDiff:
    """The differences between two records of the same kind.

    Raises:
        InputError: the records are of different kinds.
    """
    if first.kind != second.kind:
        raise InputError(
            "records of different kinds cannot be compared",
            field="kind",
            value=f"{first.kind}, {second.kind}",
            remedy="Give two keys of the same kind.",
        )
    (decides_a, context_a), (decides_b, context_b) = _fields(first), _fields(second)
    # A LATER field is in a key only when not at its default; a record without it in the key has the
    # default, which the whole recipe (context) shows.
    one, other = {**context_a, **decides_a}, {**context_b, **decides_b}
    differing = {
        name: Difference(name, one.get(name, ABSENT), other.get(name, ABSENT))
        for name in (*decides_a, *decides_b, *context_a, *context_b)
        if one.get(name) != other.get(name)
    }
    decides = {**decides_a, **decides_b}
    return RecordDiff(
        first.key,
        second.key,
        tuple(change for name, change in differing.items() if name in decides),
        tuple(change for name, change in differing.items() if name not in decides),
    )


def _fields(record: Record) -> tuple[dict[str, str], dict[str, str]]:
    """Fields that decide the key, and the others."""
    decides: dict[str, Any]
    context: dict[str, Any] = {"commit": record.commit}
    surroundings = {"machine": record.machine, "library": record.versions}
    if isinstance(record, SessionRecord):
        decides = {"arms": sorted(arm.key for arm in record.arms), **surroundings}
        context |= {"baseline": record.baseline, "rounds": record.rounds}
        return _texts(decides), _texts(context)
    data = record.fingerprint
    common = {"data fingerprint": data.digest, "version of": record.components}
    context |= surroundings | {"metric": record.metrics}
    context["data"] = {
        "clips": data.found,
        "expected": data.expected,
        "classes": data.classes,
        "sampling rates": data.sampling_rates,
        "notes": data.notes,
    }
    if isinstance(record, RunRecord):
        recipe = key_fields(record.recipe, as_written=False)
        decides = {"recipe": recipe, "seed": record.seed, "fold": record.fold, **common}
        context |= {"recipe": asdict(record.recipe)}
        context |= {"status": record.status, "attempt": record.attempt}
    else:
        checkpoints = {
            member.sha256: {
                name: key_fields(getattr(member.recipe, name), as_written=False)
                for name in ("model", "frontend")
            }
            for member in record.members
        }
        clips = {name: getattr(record, name) for name in ("split", "fold", "seconds")}
        decides = {"checkpoints": checkpoints, "clips": clips, **common}
        decides |= {"sampling rate": record.sampling_rate, "device": record.device}
        context |= {"name": record.name, "interval": record.intervals}
    return _texts(decides), _texts(context)


def _texts(tree: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(v, ensure_ascii=False) for name, v in flatten(tree).items()}


@dataclass(frozen=True)
class Removable:
    """Paths of one kind that can be removed.

    Attributes:
        what: the kind in words.
        paths: files, or whole folders of records.
        size: bytes in total.
        results: whether they are results, which are removed only on explicit request.
    """

    what: str
    paths: tuple[Path, ...]
    size: int
    results: bool = False


def find_removable(root: Path) -> list[Removable]:
    """What can be removed from a store's folder, by kind, also kinds without paths.

    Raises:
        InputError: the folder does not exist; a study, search or comparison in it cannot be read,
            so that it is unknown what is used; or a record is a link.
    """
    if not root.is_dir():
        raise InputError(
            "no such folder", field="--runs", value=str(root), remedy="Give a folder of records."
        )
    store, home = Store(root), root.resolve()
    keys, features = _in_use(store)
    done = {key for key in store.record_keys() if not is_running(root, key)}
    before = time.time() - WRITING_SECONDS
    temporary = (path for pattern in _TEMPORARY for path in root.glob(pattern) if path.is_file())
    kinds: tuple[tuple[str, Iterable[Path], bool], ...] = (
        (
            "temporary files of killed processes",
            (path for path in temporary if path.stat().st_mtime < before),
            False,
        ),
        (
            "checkpoints of finished runs",
            (
                path
                for key in done
                if _succeeded(store, key)
                for name in _CHECKPOINTS
                for path in store.folder(key).glob(name)
            ),
            False,
        ),
        (
            # The two locks of the whole folder stay, because the next command needs them.
            "locks of finished keys",
            (p for p in (root / "locks").glob("*.lock") if p.name.split(".")[0] in done),
            False,
        ),
        (
            "cached features that no study in this folder uses",
            (path for path in (root / "cache").glob("*.npy") if path not in features),
            False,
        ),
        ("records that no study in this folder refers to", _unused(store, keys), True),
    )
    removable = []
    for what, paths, results in kinds:
        # A link in the folder may lead to files of others.
        chosen = tuple(sorted(path for path in paths if path.parent.resolve().is_relative_to(home)))
        removable.append(Removable(what, chosen, sum(map(_size, chosen)), results))
    return removable


def remove(removable: Removable) -> None:
    """Removes the paths, except locks that are held by now.

    Raises:
        StorageError: a path cannot be removed.
    """
    for path in removable.paths:
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


def _in_use(store: Store) -> tuple[set[str], set[Path]]:
    """Keys and cached features that studies, searches and comparisons refer to."""
    keys, recipes = set[str](), list[tuple[Recipe, str]]()
    for study in map(store.study, store.studies()):
        keys |= {cell.key for variant in study.variants for cell in variant.cells}
        keys |= {variant.arm for variant in study.variants}
        recipes += [(variant.recipe, study.fingerprint.digest) for variant in study.variants]
    for name in search_names(store.root):
        search = read_search(name, store.root)
        keys |= {key for trial in search.trials for key in trial.keys}
        recipes.append((search.recipe, search.fingerprint.digest))
    for name in comparison_names(store.root):
        comparison = read_comparison(name, store.root)
        keys |= {*comparison.sessions, *(variant.arm for variant in comparison.variants)}
    cache = store.root / "cache"
    return keys, {features_path(cache, recipe, data) for recipe, data in recipes}


def _succeeded(store: Store, key: str) -> bool:
    """Whether the record under a key is that of a successful quality cell."""
    if store.is_session(key) or store.is_evaluation(key):
        return False
    outcome = store.outcome(key)
    return outcome is not None and outcome.status == "ok"


def _unused(store: Store, named: Collection[str]) -> Iterator[Path]:
    """Folders of records that nothing refers to; evaluations belong to no study."""
    for folder in (store.root / "records").glob("*"):
        key = folder.name
        if not is_key(key) or not folder.is_dir() or key in named or is_running(store.root, key):
            continue
        if (folder / "record.json").is_file():
            if store.is_evaluation(key):
                continue
            record = read_record(folder / "record.json")
            if record.kind == "cost" and any(arm.key in named for arm in record.arms):
                continue  # a session is named by the variants that it measured
        yield folder
