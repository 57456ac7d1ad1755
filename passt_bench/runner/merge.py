"""Bringing the folders of several machines together: all is checked before anything is copied.

Others may run on the folder meanwhile. Of several merges one copies at a time; a record is copied
under the locks of its key, and only onto what was looked at: what is being computed, or has changed
since, is left out and told. Studies and searches are written last, and only what the sources add
to those that stand there at that moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.records.files import read, read_bytes, refuse_link, write_atomically
from passt_bench.records.run import RunRecord, StudyRecord, VariantRecord
from passt_bench.records.session import SessionRecord
from passt_bench.records.store import (
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
        same: that stood there already, or in two sources; also those that somebody else brought
            while this merge waited.
        replaced: where a success took the place of a failure.
        kept: where the one that stood there stays beside another.
        busy: left out: the key is being run, or another record has come since it was looked at.
        studies: names of those that the sources have; all of them stand in the target now.
    """

    copied: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)


class _Brought(Enum):
    """What came of copying one record."""

    COPIED = auto()
    SAME = auto()  # somebody else brought it
    BUSY = auto()


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
        sources: folders as ``--out`` leaves them; they stay as they are.
        target: where all is brought to; made where it is not there.

    Returns:
        What was done; what is ``busy`` comes with another merge once that run has ended.

    Raises:
        InputError: a folder without records, a broken record, two that contradict each other, or a
            link among what is to be copied. Then nothing was copied, but for a study or search
            that came to contradict while records were copied: the message says so.
        StorageError: nothing can be written.
    """
    for source in sources:
        if not (source / "records").is_dir() and not (source / "studies").is_dir():
            raise InputError(
                "no records and no studies are in there",
                source=source,
                field="FROM",
                value=str(source),
                remedy="Give folders that `passt-bench run --out` wrote to.",
            )
        check_searches(source)
    done = Merged()
    chosen, there = _choose([target, *sources], target, done)
    plans = [plans_of(source) for source in sources]
    united(plans_of(target), plans)  # contradictions are told before anything is copied,
    with lock(target, MERGE).acquire(timeout=-1):
        united(plans_of(target), plans)  # also to what a merge before has brought
        for key, found in chosen.items():
            if there.get(key) != found.digest:
                _note(key, _bring(found, there.get(key), Store(target)), done)
        _write_plans(plans, target, len(done.copied) + len(done.replaced))
    done.studies = sorted({name for plan in plans for name in plan.studies})
    return done


def _note(key: str, brought: _Brought, done: Merged) -> None:
    """Takes back what was foreseen of a key and did not come to be."""
    if brought is _Brought.COPIED:
        return
    for foreseen in (done.copied, done.replaced):
        if key in foreseen:
            foreseen.remove(key)
    if brought is _Brought.BUSY:
        done.busy.append(key)
    elif key not in done.same:
        done.same.append(key)


def _write_plans(plans: Sequence[Plans], target: Path, copied: int) -> None:
    """Writes what the sources add to the studies and searches that stand there now.

    Raises:
        InputError: one was written meanwhile that contradicts; then none is written.
    """
    so_far = f"{copied} records were copied before, but no study and no search."
    with studies_held(target):
        news = united(plans_of(target), plans, so_far)
        for study in news.studies.values():
            Store(target).write_study(study)
        for name, data in news.searches.items():
            write_atomically(target / name, data)


def _choose(
    roots: Sequence[Path], target: Path, done: Merged
) -> tuple[dict[str, _Found], dict[str, bytes]]:
    """The record of each key that stands in the end, and the digests of those in the target."""
    chosen: dict[str, _Found] = {}
    there: dict[str, bytes] = {}
    for root in roots:
        for key in Store(root).record_keys():
            new = _look(Store(root).folder(key) / "record.json")
            if root != target:
                refuse_link(*_belonging(new.path.parent))
            old = chosen.get(key)
            if root == target:
                there[key] = new.digest
            if old is None:
                chosen[key] = new
                if root != target:
                    done.copied.append(key)
            elif old.digest == new.digest:
                done.same.append(key)
            elif _replaces(new, old):
                chosen[key] = new
                done.replaced.append(key)
            else:
                done.kept.append(key)
    return chosen, there


def _look(path: Path) -> _Found:
    record = read_record(path)
    if isinstance(record, SessionRecord):
        return _Found(path, record.kind, "ok", {}, _digest(path))
    return _Found(path, record.kind, record.status, record.metrics, _digest(path))


def _digest(path: Path) -> bytes:
    return hashlib.sha256(read_bytes(path)).digest()


def _replaces(new: _Found, old: _Found) -> bool:
    """Whether a record takes the place of another under the same key.

    Raises:
        InputError: they cannot both be true.
    """
    if new.kind != old.kind:
        raise _contradiction(new, old, "kind", new.kind, old.kind)
    if new.status == old.status == "ok":
        for name in sorted({*new.metrics, *old.metrics}):
            one, other = new.metrics.get(name), old.metrics.get(name)
            if one != other and not (new.kind == "evaluation" and _close(one, other)):
                raise _contradiction(new, old, f"metrics.{name}", one, other)
        return False
    return new.status == "ok"


def _close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= _SAME


def _contradiction(new: _Found, old: _Found, name: str, one: object, other: object) -> InputError:
    return InputError(
        f"{old.path} says {other!r} under the same key",
        source=new.path,
        field=name,
        value=one,
        remedy="Nothing was copied. Remove the record that is wrong; `passt-bench records diff` "
        "says how they came about.",
    )


def _bring(found: _Found, known: bytes | None, store: Store) -> _Brought:
    """Copies a record with what belongs to it, unless it stands there or somebody is at it.

    Args:
        found: of a source.
        known: digest of the record that it takes the place of; None where there was none.
        store: where it is brought to.

    Returns:
        What came of it; busy where the key is being run, or has a third record by now.
    """
    key = found.path.parent.name
    path = store.folder(key) / "record.json"
    with taken(store.root, key) as free:
        now = _digest(path) if path.is_file() else None
        if now == found.digest:
            return _Brought.SAME
        if not free or now != known:
            return _Brought.BUSY
        _copy(found.path.parent, path.parent)
    return _Brought.COPIED


def _copy(source: Path, folder: Path) -> None:
    """Copies what belongs to a finished record, the record itself last."""
    old = folder / "record.json"
    if old.is_file():
        attempt = read(RunRecord, old).attempt
        aside = folder / f"attempt-{attempt}.json"
        if not aside.exists():
            write_atomically(aside, read_bytes(old))
    files = _belonging(source)
    refuse_link(*files)
    for path in sorted(files, key=lambda path: path.name == "record.json"):
        if path.is_file():
            write_atomically(folder / path.name, read_bytes(path))


def _belonging(folder: Path) -> list[Path]:
    """What lies in the folder of a finished record and is not of its progress."""
    return [p for p in sorted(folder.iterdir()) if not p.name.startswith(_PROGRESS)]


@dataclass(frozen=True)
class Plans:
    """What a folder holds besides its records.

    Attributes:
        root: the folder.
        studies: expansions, by name.
        searches: searches and comparisons, by path below the folder.
    """

    root: Path
    studies: dict[str, StudyRecord]
    searches: dict[str, bytes]


def plans_of(root: Path) -> Plans:
    """Reads the studies, searches and comparisons of a folder.

    Raises:
        InputError: a study is broken.
    """
    store = Store(root)
    paths = sorted([*root.glob("search/*.json"), *root.glob("comparisons/*.json")])
    searches = {str(path.relative_to(root)): read_bytes(path) for path in paths}
    return Plans(root, {name: store.study(name) for name in store.studies()}, searches)


def check_searches(root: Path) -> None:
    """Reads the searches and comparisons of a folder, which are copied as they are.

    Raises:
        InputError: one is broken, a link, or says a name or key that would lead elsewhere.
    """
    for name in search_names(root):
        read_search(name, root)
    for name in comparison_names(root):
        read_comparison(name, root)


def united(target: Plans, sources: Sequence[Plans], so_far: str = "Nothing was copied.") -> Plans:
    """What must be written to a folder to have there what others have; nothing else of its own.

    Studies of one name become one, with the variants, seeds and folds of all.

    Args:
        target: what stands there.
        sources: what the others have.
        so_far: what a message says was done by now.

    Raises:
        InputError: two studies of one name differ in more than that, or two searches at all.
    """
    studies, searches = dict(target.studies), dict(target.searches)
    try:
        for source in sources:
            for name, study in source.studies.items():
                mine = studies.get(name, study)
                studies[name] = mine if mine == study else _union(mine, study, source.root)
            for name, data in source.searches.items():
                if searches.setdefault(name, data) != data:
                    raise _other_search(source.root / name)
    except InputError as error:
        raise InputError(
            error.problem,
            source=error.source,
            field=error.field,
            value=error.value,
            remedy=f"{so_far} {error.remedy}",
        ) from None
    return Plans(
        target.root,
        {name: study for name, study in studies.items() if study != target.studies.get(name)},
        {name: data for name, data in searches.items() if data != target.searches.get(name)},
    )


def _other_search(path: Path) -> InputError:
    return InputError(
        "another one of the same name differs",
        source=path,
        field="name",
        value=path.stem,
        remedy="Give one of them another name.",
    )


def _union(one: StudyRecord, other: StudyRecord, root: Path) -> StudyRecord:
    """Both expansions of a study in one.

    Raises:
        InputError: they are different studies of the same name.
    """
    path = root / "studies" / f"{other.name}.json"
    for name, a, b in _essentials(one, other):
        if a != b:
            raise InputError(
                f"two studies of the same name differ; the other has {a!r}",
                source=path,
                field=name,
                value=b,
                remedy="Run one of them under another --name.",
            )
    mine = {variant.name: variant for variant in one.variants}
    for variant in other.variants:
        old = mine.get(variant.name)
        mine[variant.name] = variant if old is None else _joined(old, variant, path)
    folds = None if one.folds is None else tuple(sorted({*one.folds, *(other.folds or ())}))
    seeds = tuple(sorted({*one.seeds, *other.seeds}))
    return replace(one, variants=tuple(mine.values()), seeds=seeds, folds=folds)


def _essentials(one: StudyRecord, other: StudyRecord) -> Iterator[tuple[str, object, object]]:
    for name in ("question", "metric", "baseline", "margin"):
        yield name, getattr(one, name), getattr(other, name)
    yield "fingerprint.digest", one.fingerprint.digest, other.fingerprint.digest
    yield "folds", one.folds is None, other.folds is None


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
                remedy="`passt-bench records diff` says what differs; run one "
                "of them under another --name.",
            )
    order = sorted(cells, key=lambda place: (place[0], -1 if place[1] is None else place[1]))
    return replace(one, cells=tuple(cells[place] for place in order))
