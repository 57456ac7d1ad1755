"""Studies, searches and comparisons of several folders in one; records come by `merge`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from passt_bench.errors import InputError
from passt_bench.records.files import read_bytes
from passt_bench.records.run import StudyRecord, VariantRecord
from passt_bench.records.store import (
    Store,
    comparison_names,
    read_comparison,
    read_search,
    search_names,
)


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
