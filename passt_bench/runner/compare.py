"""Makes a study of costs from models and settings that were typed: `passt-bench compare`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model
from passt_bench.models.patchout import resolve
from passt_bench.records.run import StudyRecord
from passt_bench.registry import MODELS
from passt_bench.runner.cost import estimate_cost_time, plan_cost
from passt_bench.runner.estimates import on_meta
from passt_bench.runner.prediction import Predictor
from passt_bench.spec.codec import spellings
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.key import arm_key, component_versions
from passt_bench.spec.recipe import DataSpec, EngineSpec, ModelSpec, Patchout, Recipe
from passt_bench.spec.study import Study, Variant, override, parse_assignments

# Table 1 of the paper, as far as its models can be built.
PAPER = ("passt_b", "passt_u", "passt_s", "passt_s_l", "passt_s_n", "ast", "ast_n", "cnn14")
_SHORT = {
    short: f"{part}.{name}"
    for part, kind in (("model", ModelSpec), ("engine", EngineSpec))
    for name, spelling in spellings(kind).items()
    for short in (name, spelling.name)
    if name != "name"
}
_LONG = 1200  # seconds
_COMMA = re.compile(r",(?=[A-Za-z][\w.]*=)")  # between two fields, not in stride=10,16


def subjects(
    items: Sequence[str], shared: Recipe, overrides: Mapping[str, object] | None = None
) -> dict[str, Recipe]:
    """Recipes by the typed items: ``passt_s``, ``passt_s:stride=16``, ``ast:threads=2``.

    A model has its published patchout and front end, and otherwise what is shared. Fields follow
    after a colon, separated by commas: those of the model or the engine by their short names, any
    other field of a recipe by its dotted name. ``paper`` means the models of the paper's Table 1.
    ``overrides`` (``a.b`` → value) change every recipe whose model has the field.

    Raises:
        InputError: a model or field is unknown, there are fewer than two, or two are the same.
    """
    typed = [name for item in items for name in (PAPER if item == "paper" else (item,))]
    recipes: dict[str, Recipe] = {}
    keys: dict[str, str] = {}
    for item in typed:
        label = _COMMA.sub(", ", item.replace(":", ": ", 1))  # long labels need places to wrap
        if label in recipes:
            raise InputError("named twice", field="compare", value=item, remedy="Name it once.")
        recipes[label] = recipe = typed_recipe(item, shared, overrides or {})
        same = keys.setdefault(arm_key(recipe, component_versions(recipe)), label)
        if same != label:
            problem, remedy = f"has the same cost settings as {same!r}", "Omit one of them."
            raise InputError(problem, field="compare", value=label, remedy=remedy)
    if len(recipes) < 2:
        problem, given = "needs at least two models or settings", " ".join(typed)
        known = ", ".join(component.name for component in MODELS.all())
        remedy = f"Name models or settings, e.g. passt_s passt_s:stride=16; known: {known}."
        raise InputError(problem, field="compare", value=given, remedy=remedy)
    return recipes


def typed_recipe(item: str, shared: Recipe, overrides: Mapping[str, object]) -> Recipe:
    """The recipe of one item, see `subjects`."""
    name, _, rest = item.partition(":")
    changes = parse_assignments([part for part in _COMMA.split(rest) if part])
    model, frontend = ModelSpec(name=name), frontend_of(name)
    recipe = replace(shared, model=model, patchout=published_patchout(name), frontend=frontend)
    # Fields of other models are not set: a CNN, for example, has no heads.
    options = {"frames", *(item.name for item in fields(MODELS.get(name).build.Options))}
    others = {f"model.{item.name}" for item in fields(ModelSpec) if item.name not in options}
    changed = {field: value for field, value in overrides.items() if field not in others}
    recipe = override(recipe, changed, source="--set")
    named = {_SHORT.get(short, short): value for short, value in changes.items()}
    if "patchout.kind" in named:  # the published counts are not those of another kind
        recipe = replace(recipe, patchout=Patchout())
    return override(recipe, named, source=item)


def published_patchout(name: str) -> Patchout:
    """What the authors of a model drop in training."""
    with torch.device("meta"):
        return build_model(name, 1).patchout


def foreign_patchout(recipes: Mapping[str, Recipe]) -> list[str]:
    """Sentences about published counts of patchout that meet a grid they were not made for."""
    found = []
    for label, recipe in recipes.items():
        name, setting = recipe.model.name, recipe.patchout
        published = Recipe(ModelSpec(name), setting, frontend_of(name), DataSpec(seconds=10.0))
        (net, x, _), (other, y, _) = on_meta(published, 1), on_meta(recipe, 1)
        made, met = net.grid(x.shape[-1]), other.grid(y.shape[-1])
        if setting != published_patchout(name) or not (made and met) or made == met:
            continue
        share = 1 - resolve(setting, made).kept / math.prod(made)
        fields = f"patchout.kind={setting.kind},patchout.rate={share:.2g}"
        item = label.replace(": ", ":", 1).replace(", ", ",")
        same = f"The same share: {item}{',' if ':' in item else ':'}{fields}"
        try:
            here = 1 - resolve(setting, met).kept / math.prod(met)
        except InputError as error:
            error.source, error.remedy = label, same
            raise
        found += [
            f"{label}: its published patchout drops {100 * share:.0f} % of {made[0]} x {made[1]} "
            f"patches, for which it was made, and {100 * here:.0f} % of {met[0]} x {met[1]}. {same}"
        ] * (share > 0)
    return found


def as_study(name: str, recipes: Mapping[str, Recipe]) -> Study:
    """A study of costs whose variants are such recipes; the first is base and baseline."""
    parts, variants = [part.name for part in fields(Recipe)], []
    base = next(iter(recipes.values()))
    for label, recipe in recipes.items():
        changes = {part: getattr(recipe, part) for part in parts}
        changed = {part: new for part, new in changes.items() if new != getattr(base, part)}
        variants.append(Variant(label, changed))
    question = f"What do {len(recipes)} models cost, side by side?"
    return Study(name, question, base, tuple(variants), variants[0].name, seeds=())


def shorter(study: StudyRecord, predictor: Predictor) -> str:
    """How a comparison can be made shorter, if it is expected to take more than 20 minutes."""
    recipes = {variant.name: variant.recipe for variant in study.variants}
    plan = plan_cost(recipes, study.baseline, len(study.fingerprint.classes))
    if not estimate_cost_time(plan, predictor) > _LONG:
        return ""
    return (
        "this will take long: each model warms up and runs six rounds at least, in several "
        "processes. Shorter: --set measurement.restarts=1, a smaller --batch or --seconds, fewer "
        "or smaller models, or a GPU."
    )


def default_name(items: Sequence[str]) -> str:
    """A name for files from the typed items: ``compare-passt_s-passt_s-stride-16``."""
    text = re.sub(r"[^\w]+", "-", json.dumps(list(items))).strip("-")
    return f"compare-{text}"[:60].strip("-")
