"""Measures costs of models or settings side by side, without a study and without training."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch

from passt_bench.console import Progress
from passt_bench.errors import InputError
from passt_bench.measure.target import PublishedProtocol
from passt_bench.models import build_model
from passt_bench.records.run import VariantRecord
from passt_bench.records.session import ComparisonRecord
from passt_bench.records.store import Store, comparison_names, read_comparison, write_comparison
from passt_bench.registry import MODELS, installed_version
from passt_bench.runner.cost import measure_cost, plan_cost
from passt_bench.runner.estimates import summarize_model
from passt_bench.runner.studies import recipe_difference
from passt_bench.spec.codec import spellings
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.key import arm_key, component_versions
from passt_bench.spec.override import override, parse_assignments
from passt_bench.spec.recipe import (
    EngineSpec,
    ModelSpec,
    Patchout,
    Recipe,
)

# Table 1 of the paper, as far as its systems can be built.
PAPER = ("passt_b", "passt_u", "passt_s", "passt_s_l", "passt_s_n", "ast", "ast_n", "cnn14")
SETS: Mapping[str, tuple[str, ...]] = {"paper": PAPER}
_SHORT = {
    short: f"{part}.{name}"
    for part, kind in (("model", ModelSpec), ("engine", EngineSpec))
    for name, spelling in spellings(kind).items()
    for short in (name, spelling.name)
    if name != "name"
}
_COMMA = re.compile(r",(?=[A-Za-z][\w.]*=)")  # between two fields, not in stride=10,16


def subjects(
    items: Sequence[str], shared: Recipe, overrides: Mapping[str, object] | None = None
) -> dict[str, Recipe]:
    """Recipes by the typed items: ``passt_s``, ``passt_s:stride=16``, ``ast:threads=2``.

    A model has its published patchout and front end. Fields follow after a colon, separated by
    commas: those of the model or the engine by their short names, any other field of a recipe by
    its dotted name. ``paper`` means the systems of the paper's Table 1.

    Args:
        items: the typed items.
        shared: clip length, batch, engine and measurement of all recipes.
        overrides: changes to every recipe whose model has the field, ``a.b`` → value.

    Raises:
        InputError: a model or field is unknown, there are fewer than two, or two are the same.
    """
    typed = [name for item in items for name in SETS.get(item, (item,))]
    recipes: dict[str, Recipe] = {}
    for item in typed:
        label = _COMMA.sub(", ", item.replace(":", ": ", 1))  # long labels need places to wrap
        if label in recipes:
            raise InputError("named twice", field="compare", value=item, remedy="Name it once.")
        recipes[label] = _recipe(item, shared, overrides or {})
    if len(recipes) < 2:
        raise InputError(
            "needs at least two models or settings",
            field="compare",
            value=" ".join(typed),
            remedy="Name models or settings, e.g. passt_s passt_s:stride=16; "
            f"known: {', '.join(component.name for component in MODELS.all())}.",
        )
    keys: dict[str, str] = {}
    for item, recipe in recipes.items():
        key = arm_key(recipe, component_versions(recipe))
        if key in keys:
            raise InputError(
                f"has the same cost settings as {keys[key]!r}",
                field="compare",
                value=item,
                remedy="Omit one of them.",
            )
        keys[key] = item
    return recipes


def _recipe(item: str, shared: Recipe, overrides: Mapping[str, object]) -> Recipe:
    name, _, rest = item.partition(":")
    changes = parse_assignments([part for part in _COMMA.split(rest) if part])
    recipe = replace(
        shared,
        model=ModelSpec(name=name),
        patchout=_published_patchout(name),
        frontend=frontend_of(name),
    )
    changed = {field: value for field, value in overrides.items() if _has(name, field)}
    recipe = override(recipe, changed, source="--set")
    named = {_SHORT.get(short, short): value for short, value in changes.items()}
    if "patchout.kind" in named:  # the published counts are not those of another kind
        recipe = replace(recipe, patchout=Patchout())
    return override(recipe, named, source=item)


def _has(model: str, field: str) -> bool:
    """Whether a model has a field that is set for all models; a CNN, for example, has no heads."""
    owner, _, last = field.partition(".")
    known = {item.name for item in fields(ModelSpec)}
    if owner != "model" or last not in known:
        return True
    return last in {"frames", *(item.name for item in fields(MODELS.get(model).build.Options))}


def _published_patchout(name: str) -> Patchout:
    with torch.device("meta"):
        net = build_model(name, 1)
    return net.patchout


def difference(name: str, recipes: Mapping[str, Recipe], root: Path) -> str | None:
    """The difference of a comparison from the record under a name, see `free_name`."""
    if name not in comparison_names(root):
        return None
    recorded = {variant.name: variant.recipe for variant in read_comparison(name, root).variants}
    if list(recorded) != list(recipes):
        return f"models {', '.join(recipes)}"
    changes = ((label, recipe_difference(recipes[label], recorded[label])) for label in recipes)
    return next((f"{label!r}, {change}" for label, change in changes if change is not None), None)


def compare(
    name: str,
    recipes: Mapping[str, Recipe],
    classes: int,
    store: Store,
    *,
    published: PublishedProtocol | None = None,
    profile: bool = False,
    command: str = "",
    progress: Progress = lambda share, text: None,
) -> ComparisonRecord:
    """Measures recipes side by side and writes the sessions and the comparison.

    Args:
        name: name of the comparison.
        recipes: recipes from `subjects`; the first is the baseline.
        classes: number of the models' outputs.
        store: store for the records.
        published: sizes of the reference code's speed test; None skips it.
        profile: whether every arm is profiled.
        command: the command as typed.
        progress: called with the fraction that is done and a few words.

    Raises:
        InputError: a model cannot be built.
    """
    keys = {label: arm_key(r, component_versions(r)) for label, r in recipes.items()}
    variants = tuple(
        _variant(label, recipe, keys[label], classes) for label, recipe in recipes.items()
    )
    profiles = store.root / "profiles" / name if profile else None
    costs = plan_cost(recipes, next(iter(recipes)), classes, published=published, profiles=profiles)
    sessions = measure_cost(costs, store, progress)
    if profiles is not None:
        _rename(profiles, keys)
    record = ComparisonRecord(
        name=name,
        baseline=next(iter(recipes)),
        variants=variants,
        sessions=tuple(session.key for session in sessions),
        command=command,
        packages=tuple(_packages(recipes.values())),
    )
    write_comparison(record, store.root)
    return record


def _variant(label: str, recipe: Recipe, key: str, classes: int) -> VariantRecord:
    facts = summarize_model(recipe, classes)
    return VariantRecord(
        name=label,
        recipe=recipe,
        arm=key,
        cells=(),
        tokens=facts.tokens,
        tokens_full=facts.tokens_full,
        grid=facts.grid,
        patchout=facts.patchout,
    )


def _rename(profiles: Path, keys: Mapping[str, str]) -> None:
    """Renames profiles from keys to labels."""
    for label, key in keys.items():
        for path in profiles.glob(f"{key}.*"):
            safe = re.sub(r"[^\w.=-]+", "-", label)
            path.replace(path.with_name(path.name.replace(key, safe)))


def _packages(recipes: Iterable[Recipe]) -> Iterator[tuple[str, str]]:
    """Names and versions of the packages that the models wrap."""
    wrapped = [package for r in recipes for package in MODELS.get(r.model.name).packages]
    for package in dict.fromkeys(wrapped):
        installed = installed_version(package)
        if installed is not None:
            yield package, installed


def default_name(items: Sequence[str]) -> str:
    """A name for files from the typed items: ``compare-passt_s-passt_s-stride-16``."""
    text = re.sub(r"[^\w]+", "-", json.dumps(list(items))).strip("-")
    return f"compare-{text}"[:60].strip("-")
