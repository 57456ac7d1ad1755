"""Compares two records, and finds what can be removed from a folder of records."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from passt_bench.data.shared import abandoned
from passt_bench.errors import InputError
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.files import storing
from passt_bench.records.run import RunRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import (
    SEARCHES,
    Record,
    Store,
    document_names,
    read_record,
    read_search,
)
from passt_bench.runner.run_status import discard, is_running
from passt_bench.spec.key import is_key, key_fields
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import flatten
from passt_bench.training.features import features_path

ABSENT = "-"

WRITING_SECONDS = 3600.0  # a younger temporary file may still be in use
_TEMPORARY = ("records/*/.*.*", "studies/.*.*", "search/.*.*", "cache/.*.*", "cache/*.tmp")
_CHECKPOINTS = ("checkpoint*.pt", "best.pt", "progress.jsonl")
_UNUSED = "records that no study in this folder refers to"

Differences = dict[str, tuple[str, str]]  # field → its two values, as text


def find_record(name: str, store: Store) -> Record:
    """Finds a record by its key, a unique prefix of it, or a path (of the file or its folder)."""
    path = Path(name)
    if path.is_dir() and (path / "record.json").is_file():
        path /= "record.json"
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


def compare_records(first: Record, second: Record) -> tuple[Differences, Differences]:
    """The differences of two records in fields that enter the key, and in all others.

    The others are the recipe's free fields, machine, library versions and outcome.
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
    decides, context = Differences(), Differences()
    for name in (*decides_a, *decides_b, *context_a, *context_b):
        if one.get(name) != other.get(name):
            kind = decides if name in decides_a or name in decides_b else context
            kind[name] = one.get(name, ABSENT), other.get(name, ABSENT)
    return decides, context


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
        both = [model.patchout for model in (record, record.against) if model is not None]
        if any(both):
            decides["patchout"] = [dropped and key_fields(dropped.setting) for dropped in both]
        if record.against is not None:
            hashes = [member.sha256 for member in record.against.members]
            decides["against"] = {"checkpoints": hashes, "margin": record.against.margin}
            context["difference"] = asdict(record.against)["differences"]
        context |= {"name": record.name, "interval": record.intervals}
    return _texts(decides), _texts(context)


def _texts(tree: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(v, ensure_ascii=False) for name, v in flatten(tree).items()}


@dataclass(frozen=True)
class Removable:
    """Paths of one kind that can be removed: files, or whole folders of records."""

    what: str
    paths: tuple[Path, ...]
    size: int  # bytes in total
    results: bool = False  # removed only on explicit request


def find_removable(root: Path) -> list[Removable]:
    """What can be removed from a store's folder, by kind, also kinds without paths.

    Raises:
        InputError: the folder does not exist; a study or search in it cannot be read, so that it
            is unknown what is used; or a record is a link.
    """
    if not root.is_dir():
        raise InputError(
            "no such folder", field="--runs", value=str(root), remedy="Give a folder of records."
        )
    store, home, before = Store(root), root.resolve(), time.time() - WRITING_SECONDS
    used, features = _in_use(store)
    done = {key: store.kind(key) for key in store.record_keys() if not is_running(root, key)}
    found: dict[str, Iterable[Path]] = {
        "temporary files of killed processes": chain(
            (
                path
                for pattern in _TEMPORARY
                for path in root.glob(pattern)
                if path.is_file() and path.stat().st_mtime < before
            ),
            abandoned(root / "cache"),
        ),
        "checkpoints of finished runs": (
            path
            for key, kind in done.items()
            if kind is RunRecord and (end := store.outcome(key)) and end.status == "ok"
            for name in _CHECKPOINTS
            for path in store.folder(key).glob(name)
        ),
        # The two locks of the whole folder stay, because the next command needs them.
        "locks of finished keys": (
            path for path in (root / "locks").glob("*.lock") if path.name.split(".")[0] in done
        ),
        "cached features that no study in this folder uses": (
            path for path in (root / "cache").glob("*.npy") if path not in features
        ),
        _UNUSED: (
            path
            for path in (root / "records").glob("*")
            if path.is_dir() and is_key(path.name) and not is_running(root, path.name)
            if path.name not in used and not _is_kept(store, path.name, done.get(path.name), used)
        ),
    }
    removable = []
    for what, paths in found.items():
        # A link in the folder may lead to files of others.
        chosen = tuple(sorted(path for path in paths if path.parent.resolve().is_relative_to(home)))
        removable.append(Removable(what, chosen, sum(map(_size, chosen)), what == _UNUSED))
    return removable


def _is_kept(store: Store, key: str, kind: type[Record] | None, used: Collection[str]) -> bool:
    """Whether a record that nothing refers to by its key is kept all the same."""
    if kind is EvaluationRecord:  # evaluations belong to no study
        return True
    if kind is not SessionRecord:
        return False
    session = read_record(store.folder(key) / "record.json")
    # A session is named by the variants that it measured.
    return isinstance(session, SessionRecord) and any(arm.key in used for arm in session.arms)


def remove(removable: Removable) -> None:
    """Removes the paths, except locks that are held by now."""
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


def _in_use(store: Store) -> tuple[set[str], set[Path | None]]:
    """Keys and cached features that studies and searches refer to."""
    keys, recipes = set[str](), list[tuple[Recipe, str]]()
    for study in map(store.study, store.studies()):
        keys |= {*study.keys}
        keys |= {variant.arm for variant in study.variants}
        recipes += [(variant.recipe, study.fingerprint.digest) for variant in study.variants]
    for name in document_names(store.root / SEARCHES):
        search = read_search(name, store.root)
        keys |= {key for trial in search.trials for key in trial.keys}
        recipes.append((search.recipe, search.fingerprint.digest))
    cache = store.root / "cache"
    return keys, {features_path(cache, recipe, data) for recipe, data in recipes}
