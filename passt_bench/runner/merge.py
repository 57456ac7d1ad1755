"""Merges folders of records; everything is checked before anything is copied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from passt_bench.errors import InputError
from passt_bench.records.files import read, read_bytes, refuse_link, write_atomically
from passt_bench.records.run import StudyRecord
from passt_bench.records.search import SearchRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import SEARCHES, STUDIES, Document, Record, Store, read_record
from passt_bench.runner.run_status import running_keys

_TOLERANCE = 1e-4  # between metrics of one evaluation on two machines
_PROGRESS = ("checkpoint", "best.pt", "progress.jsonl", ".")  # prefixes of files of unfinished runs
_SAME = ("metric", "baseline", "margin", "looks", "fingerprint.digest")  # in studies of one name


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
    because processors do. Of two studies under one name, the one with the runs of both is kept.

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
    documents = _documents(sources, target)
    for folder in folders:
        place, failed = Store(target).folder(folder.name), Store(target).outcome(folder.name)
        if failed and not (aside := place / f"attempt-{failed.attempt}.json").exists():
            write_atomically(aside, read_bytes(place / "record.json"))
        for path in _finished_files(folder):  # the record last
            write_atomically(place / path.name, read_bytes(path))
    for document, path in documents.items():
        write_atomically(target / document, read_bytes(path))
    return done


def _finished_files(folder: Path) -> list[Path]:
    """The files in the folder of a finished record, without those of its progress."""
    paths = [path for path in folder.iterdir() if not path.name.startswith(_PROGRESS)]
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
    (ended, metrics), (before, earlier) = _end_of(one), _end_of(other)
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


def _end_of(record: Record) -> tuple[str, dict[str, float]]:
    """Status and metrics; a session, of which two may differ, has none."""
    if isinstance(record, SessionRecord):
        return record.kind, {}
    return record.status, record.metrics


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
                if not _runs(new) <= _runs(other):
                    chosen[place] = path
    return chosen


def _check_same(path: Path, new: Document, old: Document) -> None:
    """Refuses two searches, and two studies that conflict or of which none has the runs of both."""
    remedy = "Run one of them under another --name."
    if isinstance(new, SearchRecord):
        problem = "another search of this name differs"
        raise _refusal(path, problem, "name", new.name, remedy)
    values = {name: (attrgetter(name)(new), attrgetter(name)(old)) for name in _SAME}
    one, other = _runs(new), _runs(old)
    if not (one <= other or other <= one):
        values["variants"] = min(one - other), min(other - one)
    for name, (value, wanted) in values.items():
        if value != wanted:
            problem = f"another study of this name has {wanted!r}"
            raise _refusal(path, problem, name, value, remedy)


def _runs(document: Document) -> set[tuple[str, str]]:
    """Variant and key of each run of a study."""
    variants = document.variants if isinstance(document, StudyRecord) else ()
    return {(variant.name, cell.key) for variant in variants for cell in variant.cells}


def _refusal(path: Path, problem: str, name: str, value: object, remedy: str) -> InputError:
    return InputError(problem, source=path, field=name, value=value, remedy=remedy)
