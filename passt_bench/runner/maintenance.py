"""Compares two records, merges folders of records, and finds what can be removed from one."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from passt_bench.errors import InputError
from passt_bench.records.evaluation import Against, EvaluationRecord
from passt_bench.records.files import read, read_bytes, refuse_link, storing, write_atomically
from passt_bench.records.run import RunRecord, StudyRecord, also_asked
from passt_bench.records.search import SearchRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import (
    SEARCHES,
    STUDIES,
    Document,
    Record,
    Store,
    document_names,
    read_record,
    read_search,
)
from passt_bench.runner.run_status import discard, is_running, running_keys
from passt_bench.spec.key import is_key
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import flatten
from passt_bench.training.features import features_path

ABSENT = "-"
# What decides a record and where it was made, without what was measured.
_SHOWN = (
    *("recipe", "seed", "fold", "fingerprint", "components", "split", "seconds", "sampling_rate"),
    *("device", "margin", "name", "status", "attempt", "metrics", "intervals", "differences"),
    *("commit", "machine", "versions", "baseline", "rounds"),
)
WRITING_SECONDS = 3600.0  # a younger temporary file may still be in use
_TEMPORARY = ("records/*/.*.*", "studies/.*.*", "search/.*.*", "cache/.*.*", "cache/*.tmp")
_CHECKPOINTS = ("checkpoint*.pt", "best.pt", "progress.jsonl")
_UNUSED = "records that no study in this folder refers to"

_TOLERANCE = 1e-4  # between metrics of one evaluation on two machines
_UNFINISHED = ("checkpoint", "best.pt", "progress.jsonl", ".")  # beginnings of files to leave
_SAME = ("metric", "baseline", "margin", "looks", "fingerprint.digest")  # in studies of one name
_SEARCHED = ("metric", "fold", "seeds", "space", "budget", "objectives", "fingerprint", "recipe")


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
    problem = f"{len(matches)} keys start with this prefix" if matches else "no such record"
    remedy = "Give a key, its first characters, or the path of a record.json."
    remedy = f"Known: {', '.join(matches[:5])}." if matches else remedy
    raise InputError(problem, source=store.root, field="record", value=name, remedy=remedy)


def compare_records(first: Record, second: Record) -> dict[str, tuple[str, str]]:
    """The fields in which two records differ, with both values as text; see `_SHOWN`."""
    if first.kind != second.kind:
        problem, kinds = "records of different kinds cannot be compared", (first.kind, second.kind)
        remedy = "Give two keys of the same kind."
        raise InputError(problem, field="kind", value=", ".join(kinds), remedy=remedy)
    one, other = _texts(first), _texts(second)
    names = [name for name in one | other if one.get(name) != other.get(name)]
    return {name: (one.get(name, ABSENT), other.get(name, ABSENT)) for name in names}


def _texts(record: Record | Against) -> dict[str, str]:
    shown = {name: getattr(record, name) for name in _SHOWN if hasattr(record, name)}
    shown = {n: asdict(v) if n in ("recipe", "fingerprint") else v for n, v in shown.items()}
    if isinstance(record, SessionRecord):
        shown["arms"] = sorted(arm.key for arm in record.arms)
    elif not isinstance(record, RunRecord):
        shown["members"] = {member.sha256: asdict(member.recipe) for member in record.members}
        shown["patchout"] = record.patchout and asdict(record.patchout.setting)
    flat = flatten(shown)
    texts = {n: json.dumps(v, ensure_ascii=False, default=asdict) for n, v in flat.items()}
    if isinstance(record, EvaluationRecord) and record.against is not None:
        texts |= {f"against.{name}": text for name, text in _texts(record.against).items()}
    return texts


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
        "temporary files of killed processes": (
            path
            for pattern in _TEMPORARY
            for path in root.glob(pattern)
            if path.is_file() and path.stat().st_mtime < before
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
        real = [path for path in chosen if not path.is_symlink()]
        files = [file for path in real for file in (path, *path.rglob("*")) if file.is_file()]
        size = sum(file.lstat().st_size for file in files)
        removable.append(Removable(what, chosen, size, what == _UNUSED))
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


@dataclass
class Merged:
    """The result of a merge, by keys of records."""

    copied: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)  # the target already had them
    replaced: list[str] = field(default_factory=list)  # failures, by a success
    kept: list[str] = field(default_factory=list)  # records of the target that differ
    studies: list[str] = field(default_factory=list)  # names, of the sources


def merge(sources: Sequence[Path], target: Path) -> Merged:
    """Copies the records, studies and searches that a folder lacks; it is made if missing.

    Of two records under one key, a success replaces a failure; else the first is kept. Two
    successes must have equal metrics; those of two evaluations may differ in the last digits,
    because processors do. Of two studies under one name, the one with the runs of both is kept, of
    two searches (machines that share one write one each) the one with more trials.

    Raises:
        InputError: a folder has no records, a record is broken, two conflict, a file is a link, or
            a command is running in the target. Then nothing was copied.
        StorageError: nothing can be written.
    """
    for key in running_keys(target):
        remedy = "Merge when it has ended."
        raise _refusal(target, "a command is running in this folder", "key", key, remedy)
    done, places = Merged(), {key: Store(target).folder(key) for key in Store(target).record_keys()}
    folders: list[Path] = []  # to copy, in order
    for source in sources:
        if not (source / "records").is_dir() and not (source / STUDIES).is_dir():
            remedy = "Give folders that `passt-bench run --runs` wrote to."
            problem = "this folder has no records and no studies"
            raise _refusal(source, problem, "FROM", str(source), remedy)
        for key in Store(source).record_keys():
            new = Store(source).folder(key)
            fate = _compare(new, places.get(key))
            getattr(done, fate).append(key)
            if fate in ("copied", "replaced"):
                places[key] = new
                folders.append(new)
        done.studies += [name for name in Store(source).studies() if name not in done.studies]
    documents, asked = _documents(sources, target), _asked((target, *sources))
    for folder in folders:
        place, failed = Store(target).folder(folder.name), Store(target).outcome(folder.name)
        if failed and not (aside := place / f"attempt-{failed.attempt}.json").exists():
            write_atomically(aside, read_bytes(place / "record.json"))
        for path in _finished_files(folder):  # the record last
            write_atomically(place / path.name, read_bytes(path))
    for document, path in documents.items():
        write_atomically(target / document, read_bytes(path))
    for name, names in asked.items():
        if (study := Store(target).study(name)).asked != names:
            Store(target).write_study(replace(study, asked=names))
    return done


def _asked(folders: Iterable[Path]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Study → the variants that its commands asked for in any of the folders, the first's first."""
    found: dict[str, tuple[tuple[str, ...], ...]] = {}
    for study in (store.study(name) for store in map(Store, folders) for name in store.studies()):
        asked = found.setdefault(study.name, study.asked)
        for names in study.asked if asked else ():  # without, all that has begun is judged
            asked = also_asked(asked, names)
        found[study.name] = asked if study.asked else ()
    return found


def _finished_files(folder: Path) -> list[Path]:
    """The files in the folder of a finished record, without those of its progress."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(_UNFINISHED)]
    refuse_link(*paths)
    return sorted(filter(Path.is_file, paths), key=lambda path: path.name == "record.json")


def _compare(new: Path, old: Path | None) -> Literal["copied", "same", "replaced", "kept"]:
    """What happens to a record, by its folder and that of another under its key."""
    _finished_files(new)
    one = read_record(new / "record.json")
    if old is None:
        return "copied"
    if read_bytes(new / "record.json") == read_bytes(old / "record.json"):
        return "same"
    other = read_record(old / "record.json")
    # Sessions, of which two may differ, have neither.
    ended, before = (getattr(record, "status", "") for record in (one, other))
    metrics, earlier = (getattr(record, "metrics", {}) for record in (one, other))
    values: dict[str, tuple[Any, Any]] = {"kind": (one.kind, other.kind)}
    if ended == before == "ok":
        for name in sorted({*metrics, *earlier}):
            values[f"metrics.{name}"] = metrics.get(name), earlier.get(name)
    for name, (value, wanted) in values.items():
        close = one.kind == "evaluation" and name != "kind" and None not in (value, wanted)
        if value != wanted and not (close and abs(value - wanted) <= _TOLERANCE):
            problem = f"{old / 'record.json'} has {wanted!r} under the same key"
            remedy = "Remove the wrong record (`passt-bench records diff` shows how they differ) "
            remedy += "and merge again."
            raise _refusal(new / "record.json", problem, name, value, remedy)
    return "replaced" if ended == "ok" != before else "kept"


def _documents(sources: Sequence[Path], target: Path) -> dict[str, Path]:
    """The studies and searches to copy, by their places in a folder."""
    chosen: dict[str, Path] = {}
    kinds: dict[str, type[Document]] = {STUDIES: StudyRecord, SEARCHES: SearchRecord}
    for folder, kind in kinds.items():
        for path in (path for root in sources for path in sorted((root / folder).glob("*.json"))):
            place = f"{folder}/{path.name}"
            new, old = read(kind, path), chosen.get(place, target / place)
            if not old.is_file():
                chosen[place] = path
            elif (other := read(kind, old)) != new:
                _check_same(path, new, other)
                if _has_more(new, other):
                    chosen[place] = path
    return chosen


def _check_same(path: Path, new: Document, old: Document) -> None:
    """Refuses two that conflict, and two studies of which none has the runs of both."""
    values = dict[str, tuple[object, object]]()
    if isinstance(new, StudyRecord):
        values = {name: (attrgetter(name)(new), attrgetter(name)(old)) for name in _SAME}
        one, other = _runs(new), _runs(old)
        if not (one <= other or other <= one):
            values["variants"] = min(one - other), min(other - one)
    elif attrgetter(*_SEARCHED)(new) != attrgetter(*_SEARCHED)(old):
        values["name"] = new.name, "other settings"
    for name, (value, wanted) in values.items():
        if value != wanted:
            problem, remedy = f"there it is {wanted!r}", "Run one of them under another --name."
            raise _refusal(path, f"another of this name differs: {problem}", name, value, remedy)


def _has_more(new: Document, old: Document) -> bool:
    """Whether a study has runs that another lacks; a search more trials, or a confirmation."""
    if isinstance(new, SearchRecord) and isinstance(old, SearchRecord):  # of one storage
        own, other = ((len(search.trials), len(search.confirmed)) for search in (new, old))
        return own > other
    return not _runs(new) <= _runs(old)


def _runs(document: Document) -> set[tuple[str, str]]:
    """Variant and key of each run of a study."""
    variants = document.variants if isinstance(document, StudyRecord) else ()
    return {(variant.name, cell.key) for variant in variants for cell in variant.cells}


def _refusal(path: Path, problem: str, name: str, value: object, remedy: str) -> InputError:
    return InputError(problem, source=path, field=name, value=value, remedy=remedy)
