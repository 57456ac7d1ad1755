"""Merges folders of records; everything is checked before anything is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from passt_bench.errors import InputError
from passt_bench.records.files import read, read_bytes, refuse_link, write_atomically
from passt_bench.records.run import StudyRecord, VariantRecord
from passt_bench.records.search import SearchRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import SEARCHES, Store, read_record
from passt_bench.runner.run_status import hold_studies_lock, running_keys

_TOLERANCE = 1e-4  # between metrics of one evaluation on two machines
_PROGRESS = ("checkpoint", "best.pt", "progress.jsonl", ".")  # prefixes of files of unfinished runs


@dataclass
class Merged:
    """The result of a merge, by keys of records."""

    copied: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)  # the target already had them
    replaced: list[str] = field(default_factory=list)  # failures, by a success
    kept: list[str] = field(default_factory=list)  # records of the target that differ
    studies: list[str] = field(default_factory=list)  # names, of the sources


@dataclass(frozen=True)
class _Summary:
    """The parts of a record that a merge compares."""

    path: Path
    kind: str
    status: str
    metrics: dict[str, float]
    digest: bytes


def merge(sources: Sequence[Path], target: Path) -> Merged:
    """Copies the records, studies and searches of some folders into one, which is made if missing.

    Of two records under one key, a success replaces a failure; of two failures, or two cost
    sessions with the same settings, the first is kept. Two successes must have equal metrics; those
    of two evaluations may differ in the last digits, because processors do.

    Raises:
        InputError: a folder has no records, a record is broken, two records conflict, a file is a
            link, or a command is running in the target. Then nothing was copied.
        StorageError: nothing can be written.
    """
    for source in sources:
        if not (source / "records").is_dir() and not (source / "studies").is_dir():
            raise InputError(
                "this folder has no records and no studies",
                source=source,
                field="FROM",
                value=str(source),
                remedy="Give folders that `passt-bench run --runs` wrote to.",
            )
    for key in running_keys(target):
        raise InputError(
            "a command is running in this folder",
            source=target,
            field="key",
            value=key,
            remedy="Merge when it has ended.",
        )
    documents = _documents([target, *sources])
    done, folders = _compare_records(sources, target)
    studies = _merge_studies([target, *sources])
    done.studies = sorted({name for root in sources for name in Store(root).studies()})
    with hold_studies_lock(target):
        for folder in folders:
            _copy(folder, target)
        for name in done.studies:
            Store(target).write_study(studies[name])
        for name, data in documents.items():
            if not (target / name).is_file():
                write_atomically(target / name, data)
    return done


def _compare_records(sources: Sequence[Path], target: Path) -> tuple[Merged, list[Path]]:
    """What happens to each record of the sources, and the folders to copy, in order."""
    found = {key: _summarize(target, key) for key in Store(target).record_keys()}
    done, folders = Merged(), []
    for source in sources:
        for key in Store(source).record_keys():
            new, old = _summarize(source, key), found.get(key)
            if old is None or new.status == "ok" != old.status:
                (done.copied if old is None else done.replaced).append(key)
                found[key] = new
                folders.append(new.path.parent)
            else:
                (done.same if new.digest == old.digest else done.kept).append(key)
            if old is not None:
                _check_equal(new, old)
    return done, folders


def _summarize(root: Path, key: str) -> _Summary:
    path = Store(root).folder(key) / "record.json"
    refuse_link(*_finished_files(path.parent))
    record, digest = read_record(path), hashlib.sha256(read_bytes(path)).digest()
    if isinstance(record, SessionRecord):
        return _Summary(path, record.kind, "ok", {}, digest)
    return _Summary(path, record.kind, record.status, record.metrics, digest)


def _check_equal(new: _Summary, old: _Summary) -> None:
    """Refuses two records that conflict."""
    values: dict[str, tuple[Any, Any]] = {"kind": (new.kind, old.kind)}
    if new.status == old.status == "ok":
        for name in sorted({*new.metrics, *old.metrics}):
            values[f"metrics.{name}"] = new.metrics.get(name), old.metrics.get(name)
    for name, (one, other) in values.items():
        close = new.kind == "evaluation" and None not in (one, other) and name != "kind"
        if one != other and not (close and abs(one - other) <= _TOLERANCE):
            raise InputError(
                f"{old.path} has {other!r} under the same key",
                source=new.path,
                field=name,
                value=one,
                remedy="Remove the wrong record (`passt-bench records diff` shows how they differ) "
                "and merge again.",
            )


def _finished_files(folder: Path) -> list[Path]:
    """The files in the folder of a finished record, without those of its progress."""
    return [path for path in folder.iterdir() if not path.name.startswith(_PROGRESS)]


def _copy(folder: Path, target: Path) -> None:
    """Copies a record with its files, the record last; keeps a failure as an earlier attempt."""
    store, key = Store(target), folder.name
    last, place = store.outcome(key), store.folder(key)
    if last is not None and not (aside := place / f"attempt-{last.attempt}.json").exists():
        write_atomically(aside, read_bytes(place / "record.json"))
    for path in sorted(_finished_files(folder), key=lambda path: path.name == "record.json"):
        if path.is_file():
            write_atomically(place / path.name, read_bytes(path))


def _documents(roots: Sequence[Path]) -> dict[str, bytes]:
    """The searches of some folders, by path within the folder."""
    documents: dict[str, bytes] = {}
    for root in roots:
        for path in sorted(root.glob(f"{SEARCHES}/*.json")):
            read(SearchRecord, path)
            data = read_bytes(path)
            if documents.setdefault(str(path.relative_to(root)), data) != data:
                raise InputError(
                    "another search of this name differs",
                    source=path,
                    field="name",
                    value=path.stem,
                    remedy="Give one of them another name.",
                )
    return documents


def _merge_studies(roots: Sequence[Path]) -> dict[str, StudyRecord]:
    """The studies of some folders; those of the same name are merged."""
    studies: dict[str, StudyRecord] = {}
    for root in roots:
        for name in Store(root).studies():
            study = Store(root).study(name)
            first = studies.setdefault(name, study)
            if first != study:
                studies[name] = _union(first, study, root / "studies" / f"{name}.json")
    return studies


def _union(one: StudyRecord, other: StudyRecord, path: Path) -> StudyRecord:
    for name in ("metric", "baseline", "margin", "fingerprint.digest"):
        a, b = attrgetter(name)(one), attrgetter(name)(other)
        if a != b:
            raise _other_study(path, name, b, a)
    if one.looks and other.looks and one.looks != other.looks:
        raise _other_study(path, "looks", other.looks, one.looks)
    if (one.folds is None) != (other.folds is None):
        raise _other_study(path, "folds", other.folds, one.folds)
    variants = {variant.name: variant for variant in one.variants}
    for variant in other.variants:
        old = variants.get(variant.name)
        variants[variant.name] = variant if old is None else _joined(old, variant, path)
    folds = None if one.folds is None else tuple(sorted({*one.folds, *(other.folds or ())}))
    seeds = tuple(sorted({*one.seeds, *other.seeds}))
    first = {name: getattr(one, name) or getattr(other, name)
             for name in ("looks", "tried", "step_ratios")}  # fmt: skip
    return replace(one, variants=tuple(variants.values()), seeds=seeds, folds=folds, **first)


def _joined(one: VariantRecord, other: VariantRecord, path: Path) -> VariantRecord:
    cells = {(cell.seed, cell.fold): cell for cell in one.cells}
    for cell in other.cells:
        old = cells.setdefault((cell.seed, cell.fold), cell)
        if old.key != cell.key or one.arm != other.arm:
            raise _other_study(path, f"variants.{other.name}", cell.key, old.key)
    order = sorted(cells, key=lambda block: (block[0], -1 if block[1] is None else block[1]))
    return replace(one, cells=tuple(cells[block] for block in order))


def _other_study(path: Path, name: str, value: object, other: object) -> InputError:
    return InputError(
        f"another study of this name has {other!r}",
        source=path,
        field=name,
        value=value,
        remedy="Run one of them under another --name.",
    )
