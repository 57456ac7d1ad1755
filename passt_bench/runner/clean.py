"""What in a store's folder is of no use any more, and removing it."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.names import is_key
from passt_bench.records.files import read_bytes, storing
from passt_bench.records.store import Store, read_record, read_search, search_names
from passt_bench.runner.locks import discard, is_running
from passt_bench.spec.recipe import Recipe
from passt_bench.training.features import features_path

WRITING_SECONDS = 3600.0  # a temporary file that is younger may be somebody's at work
_KEY = re.compile(rb'"([0-9a-f]{16})"')
_CHECKPOINTS = ("checkpoint*.pt", "best.pt", "progress.jsonl")


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
