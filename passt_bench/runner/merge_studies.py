"""Studies, searches and comparisons of several folders in one; records come by `merge`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.files import read_bytes
from passt_bench.record import StudyRecord, VariantRecord
from passt_bench.store import Store


def studies_of(roots: Sequence[Path]) -> dict[str, StudyRecord]:
    """The expansions in some folders, by name; those of one name in one.

    Raises:
        InputError: two of one name differ in more than their variants, seeds and folds.
    """
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


def searches_of(roots: Sequence[Path]) -> dict[str, bytes]:
    """Searches and comparisons in some folders, by path below their folder.

    Raises:
        InputError: two of one name differ.
    """
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
