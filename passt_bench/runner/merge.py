"""Bringing the folders of several machines together: all is checked before anything is copied."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.files import read_bytes, write_atomically
from passt_bench.record import RunRecord, SessionRecord, StudyRecord, VariantRecord, read
from passt_bench.store import Store, read_record

_SAME = 1e-4  # metrics of one evaluation on two machines
_PROGRESS = ("checkpoint", "best.pt", "progress.jsonl", ".")  # of what is not finished


@dataclass
class Merged:
    """What a merge did, or would do."""

    copied: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # a failure, by a success
    kept: list[str] = field(default_factory=list)  # the one that stood there, beside another
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
        sources: folders as ``--out`` leaves them; they stay as they are.
        target: where all is brought to; made where it is not there.

    Returns:
        What was done.

    Raises:
        InputError: a folder without records, a broken record, or two that contradict each other.
            Then nothing was copied.
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
    done = Merged()
    chosen = _choose([target, *sources], target, done)
    studies = _studies([target, *sources])
    searches = _searches([target, *sources])
    for key, found in chosen.items():
        if found.path.parent.parent.parent != target:
            _copy(found.path.parent, Store(target).folder(key))
    for study in studies.values():
        Store(target).write_study(study)
        done.studies.append(study.name)
    for name, data in searches.items():
        write_atomically(target / name, data)
    return done


def _choose(roots: Sequence[Path], target: Path, done: Merged) -> dict[str, _Found]:
    chosen: dict[str, _Found] = {}
    for root in roots:
        for key in Store(root).record_keys():
            new = _look(Store(root).folder(key) / "record.json", key)
            old = chosen.get(key)
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
    return chosen


def _look(path: Path, key: str) -> _Found:
    record = read_record(path)
    if record.key != key:
        raise InputError(
            "a record in the folder of another key",
            source=path,
            field="key",
            value=record.key,
            remedy=f"Its folder must have that name; this one is {key}.",
        )
    digest = hashlib.sha256(read_bytes(path)).digest()
    if isinstance(record, SessionRecord):
        return _Found(path, record.kind, "ok", {}, digest)
    return _Found(path, record.kind, record.status, record.metrics, digest)


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


def _copy(source: Path, folder: Path) -> None:
    """Copies what belongs to a finished record, the record itself last."""
    old = folder / "record.json"
    if old.is_file():
        attempt = read(RunRecord, old).attempt
        aside = folder / f"attempt-{attempt}.json"
        if not aside.exists():
            write_atomically(aside, read_bytes(old))
    files = [p for p in sorted(source.iterdir()) if not p.name.startswith(_PROGRESS)]
    for path in sorted(files, key=lambda path: path.name == "record.json"):
        if path.is_file():
            write_atomically(folder / path.name, read_bytes(path))


def _studies(roots: Sequence[Path]) -> dict[str, StudyRecord]:
    found: dict[str, StudyRecord] = {}
    for root in roots:
        for name in Store(root).studies():
            study = Store(root).study(name)
            found[name] = _union(found[name], study, root) if name in found else study
    return found


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
                remedy="Nothing was copied. Run one of them under another --name.",
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
                remedy="Nothing was copied. `passt-bench records diff` says what differs; run one "
                "of them under another --name.",
            )
    order = sorted(cells, key=lambda place: (place[0], -1 if place[1] is None else place[1]))
    return replace(one, cells=tuple(cells[place] for place in order))


def _searches(roots: Sequence[Path]) -> dict[str, bytes]:
    """Searches and comparisons, by path below their folder."""
    found: dict[str, bytes] = {}
    for root in roots:
        for path in sorted([*root.glob("search/*.json"), *root.glob("comparisons/*.json")]):
            name, data = str(path.relative_to(root)), read_bytes(path)
            if found.setdefault(name, data) != data:
                raise InputError(
                    "another one of the same name differs",
                    source=path,
                    field="name",
                    value=path.stem,
                    remedy="Nothing was copied. Give one of them another name.",
                )
    return found
