"""Merges folders of records from several machines; everything is checked before anything is copied.

Others may run on the folder meanwhile. Of several merges one copies at a time; a record is copied
under the locks of its key, and what is being computed is left out and reported.
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
from passt_bench.runner.locks import MERGE, lock, studies_held, taken

_SAME = 1e-4  # metrics of one evaluation on two machines
_PROGRESS = ("checkpoint", "best.pt", "progress.jsonl", ".")  # of what is not finished


@dataclass
class Merged:
    """What a merge did, by keys of records.

    Attributes:
        copied: that the target did not have.
        same: that were there already.
        replaced: where a success took the place of a failure.
        kept: where the one that was there stays beside another.
        busy: left out, because the key is being run.
        studies: names of those that the sources have; the target has all of them now.
    """

    copied: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """A record without what a comparison does not need."""

    path: Path
    kind: str
    status: str
    metrics: dict[str, float]
    digest: bytes


def merge(sources: Sequence[Path], target: Path) -> Merged:
    """Copies the records, studies and searches of some folders into one.

    Of two records under one key, a success replaces a failure; two failures, and two cost sessions
    that were measured alike, leave the first. Two successes must have equal metrics; of two
    evaluations they may differ in the last digits, for processors do.

    Args:
        sources: folders of records, which stay as they are.
        target: the folder to merge into; made if needed.

    Returns:
        What was done; what is ``busy`` comes with another merge once that run has ended.

    Raises:
        InputError: a folder without records, a broken record, two that contradict each other, or a
            link among what is to be copied. Then nothing was copied, except where the
            contradiction was written while records were copied.
        StorageError: nothing can be written.
    """
    for source in sources:
        _check(source)
    best: dict[str, _Found] = {}
    for root in (target, *sources):
        for key in Store(root).record_keys():
            found = _look(root, key)
            if _relation(found, best.get(key)) in ("copied", "replaced"):
                best[key] = found
    _united_studies([target, *sources])
    _united_documents([target, *sources])
    done = Merged()
    with lock(target, MERGE).acquire(timeout=-1):
        for source in sources:
            for key in Store(source).record_keys():
                getattr(done, _bring(source, key, target)).append(key)
        with studies_held(target):
            studies = _united_studies([target, *sources])
            documents = _united_documents([target, *sources])
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
            "no records and no studies are in there",
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
        refuse_link(*_belonging(Store(source).folder(key)))


def _look(root: Path, key: str) -> _Found:
    path = Store(root).folder(key) / "record.json"
    record, digest = read_record(path), hashlib.sha256(read_bytes(path)).digest()
    if isinstance(record, SessionRecord):
        return _Found(path, record.kind, "ok", {}, digest)
    return _Found(path, record.kind, record.status, record.metrics, digest)


def _relation(new: _Found, old: _Found | None) -> Literal["copied", "same", "replaced", "kept"]:
    """What becomes of a record where another, or none, is under the same key.

    Raises:
        InputError: they cannot both be true.
    """
    if old is None:
        return "copied"
    if new.digest == old.digest:
        return "same"
    if new.kind != old.kind:
        raise _contradiction(new, old, "kind", new.kind, old.kind)
    if new.status == old.status == "ok":
        for name in sorted({*new.metrics, *old.metrics}):
            one, other = new.metrics.get(name), old.metrics.get(name)
            if one != other and not (new.kind == "evaluation" and _close(one, other)):
                raise _contradiction(new, old, f"metrics.{name}", one, other)
    return "replaced" if new.status == "ok" != old.status else "kept"


def _close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= _SAME


def _contradiction(new: _Found, old: _Found, name: str, one: object, other: object) -> InputError:
    return InputError(
        f"{old.path} says {other!r} under the same key",
        source=new.path,
        field=name,
        value=one,
        remedy="Remove the record that is wrong (`passt-bench records diff` says how they came "
        "about) and merge again.",
    )


def _bring(
    source: Path, key: str, target: Path
) -> Literal["copied", "same", "replaced", "kept", "busy"]:
    """Copies a record with what belongs to it, unless the key is being run or has it already."""
    new, folder = _look(source, key), Store(target).folder(key)
    with taken(target, key) as free:
        if not free:
            return "busy"
        there = (folder / "record.json").is_file()
        relation = _relation(new, _look(target, key) if there else None)
        if relation == "replaced":
            attempt = read(RunRecord, folder / "record.json").attempt
            aside = folder / f"attempt-{attempt}.json"
            if not aside.exists():
                write_atomically(aside, read_bytes(folder / "record.json"))
        if relation in ("copied", "replaced"):
            files = _belonging(new.path.parent)
            refuse_link(*files)
            for path in sorted(files, key=lambda path: path.name == "record.json"):  # it comes last
                if path.is_file():
                    write_atomically(folder / path.name, read_bytes(path))
        return relation


def _belonging(folder: Path) -> list[Path]:
    """The files in the folder of a finished record that are not of its progress."""
    return [p for p in sorted(folder.iterdir()) if not p.name.startswith(_PROGRESS)]


def _united_documents(roots: Sequence[Path]) -> dict[str, bytes]:
    """The searches and comparisons of some folders, by path below the folder.

    Raises:
        InputError: two of one name differ.
    """
    found: dict[str, bytes] = {}
    for root in roots:
        for path in sorted([*root.glob(f"{SEARCHES}/*.json"), *root.glob(f"{COMPARISONS}/*.json")]):
            data = read_bytes(path)
            if found.setdefault(str(path.relative_to(root)), data) != data:
                raise InputError(
                    "another one of the same name differs",
                    source=path,
                    field="name",
                    value=path.stem,
                    remedy="Give one of them another name.",
                )
    return found


def _united_studies(roots: Sequence[Path]) -> dict[str, StudyRecord]:
    """The studies of some folders; those of one name have the variants, seeds and folds of all.

    Raises:
        InputError: two studies of one name differ in more than that, or one is broken.
    """
    found: dict[str, StudyRecord] = {}
    for root in roots:
        for name in Store(root).studies():
            study = Store(root).study(name)
            mine = found.setdefault(name, study)
            if mine != study:
                found[name] = _union(mine, study, root / "studies" / f"{name}.json")
    return found


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
        f"two studies of the same name differ; the other has {one!r}",
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
                f"two recipes of the same name; its other key is {old.key}",
                source=path,
                field=f"variants.{other.name}",
                value=cell.key,
                remedy="`passt-bench records diff` says what differs; run one of them under "
                "another --name.",
            )
    order = sorted(cells, key=lambda place: (place[0], -1 if place[1] is None else place[1]))
    return replace(one, cells=tuple(cells[place] for place in order))
