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
from passt_bench.spec.key import key_fields
from passt_bench.spec.recipe import Recipe
from passt_bench.spec.study import Study

if TYPE_CHECKING:
    from passt_bench.runner.plan import StudyPlan


def free_name(name: str, difference: Callable[[str], str | None]) -> tuple[str, str | None]:
    """The first of NAME, NAME-2, NAME-3, … that is unused or has the same settings on record.

    Args:
        name: preferred name.
        difference: returns how settings differ from those on record under a name; None if they are
            the same, or nothing is on record.

    Returns:
        The name; if it is not the preferred one, also the difference from the record there.
    """
    first = difference(name)
    if first is None:
        return name, None
    names = (f"{name}-{number}" for number in count(2))
    return next(other for other in names if difference(other) is None), first


def renamed_note(name: str, chosen: str, difference: str) -> str:
    """A sentence that explains why a study, search or comparison has another name."""
    return (
        f"{name} is on record with other settings, so this one is called {chosen} "
        f"(first difference: {difference})."
    )


def join_record(plan: StudyPlan, store: Store, expand: Callable[[Study], StudyRecord]) -> StudyPlan:
    """Gives a plan a name that is unused or its own, and keeps what is on record under it.

    Args:
        plan: plan of a whole study; `StudyPlan.whole` also gets the seeds, folds and variants on
            record.
        store: the records.
        expand: expands the study with other seeds and folds.

    Raises:
        InputError: a newer version of this package wrote the study on record.
    """
    name, study = plan.study.name, plan.study
    recorded = cache(lambda name: study_on_record(name, store))
    chosen, differs = free_name(name, lambda name: study_difference(plan, recorded(name)))
    notes = [renamed_note(name, chosen, differs)] if differs else []
    whole, old = plan.record, recorded(chosen)
    if old is not None:
        seeds = tuple(dict.fromkeys((*old.seeds, *whole.seeds)))
        folds = tuple(sorted({*(old.folds or ()), *(whole.folds or ())})) or None
        if (seeds, folds) != (whole.seeds, whole.folds):
            whole = expand(replace(study, seeds=seeds, folds=folds))
        new = {variant.name: variant for variant in whole.variants}
        if any(_cells(v).items() - _cells(new.get(v.name, v)).items() for v in old.variants):
            notes.append(f"Runs of {chosen} by earlier versions stay on record but are not shown.")
        known = {variant.name: variant for variant in old.variants} | new
        variants = tuple(known[v.name] for v in study.variants if v.name in known)
        baseline = study.baseline if study.baseline in known else whole.baseline
        whole = replace(whole, variants=variants, baseline=baseline)
    return replace(
        plan,
        study=replace(study, name=chosen),
        record=replace(plan.record, name=chosen),
        whole=replace(whole, name=chosen),
        notes=tuple(notes),
    )


def _cells(variant: VariantRecord) -> dict[tuple[int, int | None], str]:
    return {(cell.seed, cell.fold): cell.key for cell in variant.cells}


def study_on_record(name: str, store: Store) -> StudyRecord | None:
    """The study on record under a name; None if there is none or it cannot be read.

    Raises:
        InputError: a newer version of this package wrote it.
    """
    try:
        return store.study(name) if name in store.studies() else None
    except InputError as error:
        if error.field == "schema":
            raise
        return None  # it will be rewritten


def study_difference(plan: StudyPlan, recorded: StudyRecord | None) -> str | None:
    """The first difference of a study from one on record; None if it is the same or extends it.

    A study with more seeds, folds or variants, or newer versions of components, is the same.
    """
    if recorded is None:
        return None
    own = {variant.name: variant.recipe for variant in plan.record.variants}
    old = {variant.name: variant.recipe for variant in recorded.variants}
    if is_other_data(plan, recorded.fingerprint):
        return "the data"
    if plan.study.metric != recorded.metric:
        return f"metric = {plan.study.metric}"
    # If the row that is the baseline cannot run, another row is the baseline of the record.
    if plan.study.baseline != recorded.baseline and plan.study.baseline in old:
        return f"baseline = {plan.study.baseline}"
    if plan.study.margin != recorded.margin:
        return f"margin = {plan.study.margin}"
    declared = {variant.name for variant in plan.study.variants}
    for name, recipe in old.items():
        if name not in declared:
            return f"no variant {name!r}"
        change = recipe_difference(own[name], recipe) if name in own else None
        if change is not None:
            return f"variant {name!r}, {change}"
    return None


def is_other_data(plan: StudyPlan, recorded: Fingerprint) -> bool:
    """Whether the data of a study are not those on record."""
    own, recipe = plan.record.fingerprint, plan.record.variants[0].recipe
    # The digest of embedded data follows from the recipe and from the version of the component.
    embedded = plan.datasets.get(recipe).clip_table() is None and recorded.dataset == own.dataset
    return not embedded and recorded.digest != own.digest


def recipe_difference(recipe: Recipe, other: Recipe) -> str | None:
    """The first field that decides a result and differs, as ``training.epochs = 1``."""
    own, old = (_leaves(key_fields(one, as_written=False)) for one in (recipe, other))
    fields = [field for field in {**own, **old} if own.get(field) != old.get(field)]
    return f"{fields[0]} = {own.get(fields[0])}" if fields else None


def _leaves(node: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {name: node}
    parts = (_leaves(part, f"{name}.{key}".lstrip(".")) for key, part in node.items())
    return {key: value for part in parts for key, value in part.items()}
