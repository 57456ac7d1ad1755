"""Merges folders of records from several machines; everything is checked before anything is copied.

Other commands may use the folder meanwhile. Only one merge copies at a time; a record is copied
under the locks of its key, and keys that are being computed are skipped and reported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal

from passt_bench.errors import InputError
from passt_bench.records.files import read, read_bytes, refuse_link, write_atomically
from passt_bench.records.run import RunRecord, StudyRecord, VariantRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import (
    COMPARISONS,
    SEARCHES,
    Store,
    comparison_names,
    read_comparison,
    read_record,
    read_search,
    search_names,
)
from passt_bench.runner.locks import MERGE, lock, studies_held, try_hold

_TOLERANCE = 1e-4  # between metrics of one evaluation on two machines
_PROGRESS = ("checkpoint", "best.pt", "progress.jsonl", ".")  # prefixes of files of unfinished runs


@dataclass
class Merged:
    """The result of a merge, by keys of records.

    Attributes:
        copied: records that the target did not have.
        same: records that the target already had.
        replaced: failures that were replaced by a success.
        kept: records of the target that differ from the source and were kept.
        busy: records that were not copied, because the key is being run.
        studies: names of the studies in the sources, which the target has now.
    """

    copied: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Summary:
    """The parts of a record that a merge compares."""

    path: Path
    kind: str
    status: str
    metrics: dict[str, float]
    digest: bytes


def merge(sources: Sequence[Path], target: Path) -> Merged:
    """Copies the records, studies and searches of some folders into one.

    Of two records under one key, a success replaces a failure; of two failures, or two cost
    sessions with the same settings, the first is kept. Two successes must have equal metrics; those
    of two evaluations may differ in the last digits, because processors do.

    Args:
        sources: folders of records; they are not changed.
        target: the folder to merge into; created if missing.

    Returns:
        The result; to copy ``busy`` records, merge again when their runs have ended.

    Raises:
        InputError: a folder has no records, a record is broken, two records conflict, or a file is
            a link. Then nothing was copied, unless the conflicting record was written during the
            merge.
        StorageError: nothing can be written.
    """
    for source in sources:
        _check(source)
    best: dict[str, _Summary] = {}
    for root in (target, *sources):
        for key in Store(root).record_keys():
            summary = _summarize(root, key)
            if _relation(summary, best.get(key)) in ("copied", "replaced"):
                best[key] = summary
    _merge_studies([target, *sources])
    _merge_documents([target, *sources])
    done = Merged()
    with lock(target, MERGE).acquire(timeout=-1):
        for source in sources:
            for key in Store(source).record_keys():
                getattr(done, _copy_record(source, key, target)).append(key)
        with studies_held(target):
            studies = _merge_studies([target, *sources])
            documents = _merge_documents([target, *sources])
            done.studies = sorted({name for root in sources for name in Store(root).studies()})
            for name in done.studies:
                Store(target).write_study(studies[name])
            for name, data in documents.items():
                if not (target / name).is_file():
                    write_atomically(target / name, data)
    return done


def _check(source: Path) -> None:
    """Refuses a folder without records, broken searches and comparisons, and links."""
    if not (source / "records").is_dir() and not (source / "studies").is_dir():
        raise InputError(
            "this folder has no records and no studies",
            source=source,
            field="FROM",
            value=str(source),
            remedy="Give folders that `passt-bench run --runs` wrote to.",
        )
    for name in search_names(source):
        read_search(name, source)
    for name in comparison_names(source):
        read_comparison(name, source)
    for key in Store(source).record_keys():
        refuse_link(*_finished_files(Store(source).folder(key)))


def _summarize(root: Path, key: str) -> _Summary:
    path = Store(root).folder(key) / "record.json"
    record, digest = read_record(path), hashlib.sha256(read_bytes(path)).digest()
    if isinstance(record, SessionRecord):
        return _Summary(path, record.kind, "ok", {}, digest)
    return _Summary(path, record.kind, record.status, record.metrics, digest)


def _relation(new: _Summary, old: _Summary | None) -> Literal["copied", "same", "replaced", "kept"]:
    """What happens to a record if another one, or none, has the same key.

    Raises:
        InputError: the two records conflict.
    """
    if old is None:
        return "copied"
    if new.digest == old.digest:
        return "same"
    if new.kind != old.kind:
        raise _conflict(new, old, "kind", new.kind, old.kind)
    if new.status == old.status == "ok":
        for name in sorted({*new.metrics, *old.metrics}):
            one, other = new.metrics.get(name), old.metrics.get(name)
            if one != other and not (new.kind == "evaluation" and _close(one, other)):
                raise _conflict(new, old, f"metrics.{name}", one, other)
    return "replaced" if new.status == "ok" != old.status else "kept"


def _close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= _TOLERANCE


def _conflict(new: _Summary, old: _Summary, name: str, one: object, other: object) -> InputError:
    return InputError(
        f"{old.path} has {other!r} under the same key",
        source=new.path,
        field=name,
        value=one,
        remedy="Remove the wrong record (`passt-bench records diff` shows how they differ) and "
        "merge again.",
    )


def _copy_record(
    source: Path, key: str, target: Path
) -> Literal["copied", "same", "replaced", "kept", "busy"]:
    """Copies a record with its files, unless the key is being run or the target has the record."""
    new, folder = _summarize(source, key), Store(target).folder(key)
    with try_hold(target, key) as held:
        if not held:
            return "busy"
        exists = (folder / "record.json").is_file()
        relation = _relation(new, _summarize(target, key) if exists else None)
        if relation == "replaced":
            attempt = read(RunRecord, folder / "record.json").attempt
            aside = folder / f"attempt-{attempt}.json"
            if not aside.exists():
                write_atomically(aside, read_bytes(folder / "record.json"))
        if relation in ("copied", "replaced"):
            files = _finished_files(new.path.parent)
            refuse_link(*files)
            for path in sorted(
                files, key=lambda path: path.name == "record.json"
            ):  # the record last
                if path.is_file():
                    write_atomically(folder / path.name, read_bytes(path))
        return relation


def _finished_files(folder: Path) -> list[Path]:
    """The files in the folder of a finished record, without those of its progress."""
    return [p for p in sorted(folder.iterdir()) if not p.name.startswith(_PROGRESS)]


def _merge_documents(roots: Sequence[Path]) -> dict[str, bytes]:
    """The searches and comparisons of some folders, by path within the folder.

    Raises:
        InputError: two with the same name differ.
    """
    documents: dict[str, bytes] = {}
    for root in roots:
        for path in sorted([*root.glob(f"{SEARCHES}/*.json"), *root.glob(f"{COMPARISONS}/*.json")]):
            data = read_bytes(path)
            if documents.setdefault(str(path.relative_to(root)), data) != data:
                raise InputError(
                    "another search or comparison of this name differs",
                    source=path,
                    field="name",
                    value=path.stem,
                    remedy="Give one of them another name.",
                )
    return documents


def _merge_studies(roots: Sequence[Path]) -> dict[str, StudyRecord]:
    """The studies of some folders; those of the same name are merged.

    Raises:
        InputError: two studies of one name differ in more than variants, seeds and folds, or one
            is broken.
    """
    studies: dict[str, StudyRecord] = {}
    for root in roots:
        for name in Store(root).studies():
            study = Store(root).study(name)
            first = studies.setdefault(name, study)
            if first != study:
                studies[name] = _union(first, study, root / "studies" / f"{name}.json")
    return studies


def _union(one: StudyRecord, other: StudyRecord, path: Path) -> StudyRecord:
    for name in ("question", "metric", "baseline", "margin", "fingerprint.digest"):
        a, b = attrgetter(name)(one), attrgetter(name)(other)
        if a != b:
            raise _other_study(path, name, a, b)
    if (one.folds is None) != (other.folds is None):
        raise _other_study(path, "folds", one.folds, other.folds)
    variants = {variant.name: variant for variant in one.variants}
    for variant in other.variants:
        old = variants.get(variant.name)
        variants[variant.name] = variant if old is None else _joined(old, variant, path)
    folds = None if one.folds is None else tuple(sorted({*one.folds, *(other.folds or ())}))
    seeds = tuple(sorted({*one.seeds, *other.seeds}))
    return replace(one, variants=tuple(variants.values()), seeds=seeds, folds=folds)


def _other_study(path: Path, name: str, one: object, other: object) -> InputError:
    return InputError(
        f"another study of this name has {one!r}",
        source=path,
        field=name,
        value=other,
        remedy="Run one of them under another --name.",
    )


def _joined(one: VariantRecord, other: VariantRecord, path: Path) -> VariantRecord:
    cells = {(cell.seed, cell.fold): cell for cell in one.cells}
    for cell in other.cells:
        old = cells.setdefault((cell.seed, cell.fold), cell)
        if old.key != cell.key or one.arm != other.arm:
            raise InputError(
                f"another variant of this name has the key {old.key}",
                source=path,
                field=f"variants.{other.name}",
                value=cell.key,
                remedy="`passt-bench records diff` shows what differs; run one of them under "
                "another --name.",
            )
    order = sorted(cells, key=lambda block: (block[0], -1 if block[1] is None else block[1]))
    return replace(one, cells=tuple(cells[block] for block in order))
