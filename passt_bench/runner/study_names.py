"""Finds names under which no study, search or comparison with other settings is on record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

from passt_bench.errors import InputError
from passt_bench.records.run import Fingerprint, StudyRecord, VariantRecord
from passt_bench.records.store import Store
from passt_bench.spec.key import decisive
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import Study

if TYPE_CHECKING:
    from passt_bench.runner.plan import StudyPlan


def free_name(name: str, difference: Callable[[str], str | None]) -> tuple[str, str | None]:
    """The first of NAME, NAME-2, NAME-3, … that is unused or has the same settings on record.

    Args:
        name: what it would be called.
        difference: says how settings differ from those on record under a name; None where they
            are the same, or nothing is on record.

    Returns:
        The name; and where it is not the given one, what differs from that.
    """
    first = difference(name)
    if first is None:
        return name, None
    names = (f"{name}-{number}" for number in count(2))
    return next(other for other in names if difference(other) is None), first


def renamed_note(name: str, settled: str, difference: str) -> str:
    """A sentence that says why a study, search or comparison has another name."""
    return (
        f"{name} is on record with other settings, so this one is called {settled} "
        f"({difference} here)."
    )


def join_record(plan: StudyPlan, store: Store, again: Callable[[Study], StudyRecord]) -> StudyPlan:
    """Gives a plan a name that is unused or its own, and keeps what is on record under it.

    Args:
        plan: of a whole study; `StudyPlan.whole` gets the seeds, folds and variants on record too.
        store: the records.
        again: expands the study with other seeds and folds.

    Raises:
        InputError: a newer version of this package wrote the study on record.
    """
    name, study = plan.study.name, plan.study
    recorded = cache(lambda name: study_on_record(name, store))
    settled, differs = free_name(name, lambda name: study_difference(plan, recorded(name)))
    notes = [renamed_note(name, settled, differs)] if differs else []
    whole, there = plan.record, recorded(settled)
    if there is not None:
        seeds = tuple(dict.fromkeys((*there.seeds, *whole.seeds)))
        folds = tuple(sorted({*(there.folds or ()), *(whole.folds or ())})) or None
        if (seeds, folds) != (whole.seeds, whole.folds):
            whole = again(replace(study, seeds=seeds, folds=folds))
        mine = {variant.name: variant for variant in whole.variants}
        if any(_cells(v).items() - _cells(mine.get(v.name, v)).items() for v in there.variants):
            notes.append(
                f"Runs of {settled} by earlier versions stay on record, and are not shown."
            )
        known = {variant.name: variant for variant in there.variants} | mine
        variants = tuple(known[v.name] for v in study.variants if v.name in known)
        baseline = study.baseline if study.baseline in known else whole.baseline
        whole = replace(whole, variants=variants, baseline=baseline)
    return replace(
        plan,
        study=replace(study, name=settled),
        record=replace(plan.record, name=settled),
        whole=replace(whole, name=settled),
        notes=tuple(notes),
    )


def _cells(variant: VariantRecord) -> dict[tuple[int, int | None], str]:
    return {(cell.seed, cell.fold): cell.key for cell in variant.cells}


def study_on_record(name: str, store: Store) -> StudyRecord | None:
    """The study on record under a name; None where there is none, or one that cannot be read.

    Raises:
        InputError: a newer version of this package wrote it.
    """
    try:
        return store.study(name) if name in store.studies() else None
    except InputError as error:
        if error.field == "schema":
            raise
        return None  # it is written anew


def study_difference(plan: StudyPlan, there: StudyRecord | None) -> str | None:
    """How a study differs from one on record; None where it is the same, or the same and more.

    More seeds, folds or variants are the same study, and so are raised versions of components.
    """
    if there is None:
        return None
    mine = {variant.name: variant.recipe for variant in plan.record.variants}
    theirs = {variant.name: variant.recipe for variant in there.variants}
    if is_other_data(plan, there.fingerprint):
        return "other data were found"
    if plan.study.metric != there.metric:
        return f"metric = {plan.study.metric}"
    # A row of a published table that could not run was replaced as the baseline by another one.
    if plan.study.baseline != there.baseline and plan.study.baseline in theirs:
        return f"baseline = {plan.study.baseline}"
    if plan.study.margin != there.margin:
        return f"margin = {plan.study.margin}"
    declared = {variant.name for variant in plan.study.variants}
    for name, recipe in theirs.items():
        if name not in declared:
            return f"there is no variant {name!r}"
        what = recipe_difference(mine[name], recipe) if name in mine else None
        if what is not None:
            return f"{name}: {what}"
    return None


def is_other_data(plan: StudyPlan, there: Fingerprint) -> bool:
    """Whether the data of a study are not those on record."""
    mine, recipe = plan.record.fingerprint, plan.record.variants[0].recipe
    # The digest of embedded data follows from the recipe and from the version of the component.
    embedded = plan.datasets.get(recipe).clip_table() is None and there.dataset == mine.dataset
    return not embedded and there.digest != mine.digest


def recipe_difference(recipe: Recipe, other: Recipe) -> str | None:
    """The first field that decides a result and differs, as ``training.epochs = 1``."""
    mine, theirs = (_leaves(decisive(one, as_written=False)) for one in (recipe, other))
    fields = [field for field in {**mine, **theirs} if mine.get(field) != theirs.get(field)]
    return f"{fields[0]} = {mine.get(fields[0])}" if fields else None


def _leaves(node: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {name: node}
    parts = (_leaves(part, f"{name}.{key}".lstrip(".")) for key, part in node.items())
    return {key: value for part in parts for key, value in part.items()}
