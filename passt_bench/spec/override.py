"""Changes recipes by dotted field names; errors name the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

from passt_bench.errors import InputError, choose_from, located
from passt_bench.registry import MODELS, PATCHOUTS
from passt_bench.spec.codec import OpenSpec, own_options, python_name, validate
from passt_bench.spec.recipe import Patchout, Recipe


def override(recipe: Recipe, changes: Mapping[str, Any], *, source: object = None) -> Recipe:
    """A recipe with fields replaced, e.g. ``{"model.stride": (6, 6), "patchout": Patchout(...)}``.

    Raises:
        InputError: a field is unknown, or a value is not allowed.
    """
    for name, value in changes.items():
        recipe = _put(recipe, name.split("."), value, name, source)
    checked = validate(Recipe, recipe, source=source)
    _check_finite(checked, source)
    with located(source):
        _check_own(checked)
    return checked


def _check_own(recipe: Recipe) -> None:
    """Refuses options that neither the recipe's fields nor the model or patchout kind know."""
    if given := own_options(recipe.model):
        MODELS.get(recipe.model.name).build.parse_options(given)
    known = [item.name for item in fields(Patchout)]
    for name, value in own_options(recipe.patchout).items():
        amounts = PATCHOUTS.get(recipe.patchout.kind).build.fields
        if name not in amounts:
            remedy = choose_from({*known, *amounts}, name)
            field = f"patchout.{name}"
            raise InputError("unknown field", field=field, value=value, remedy=remedy)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree of mappings as dotted names, as ``--set`` takes them, and values."""
    out: dict[str, Any] = {}
    for name, value in tree.items():
        nested = isinstance(value, Mapping)
        out |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return out


def _check_finite(recipe: Recipe, source: object) -> None:
    """Refuses infinity, which pydantic accepts as a number but a key cannot contain."""
    for name, value in flatten(asdict(recipe)).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                "not a finite number",
                source=source,
                field=name,
                value=value,
                remedy="Give a finite number.",
            )


def _put(node: Any, path: list[str], value: object, name: str, source: object) -> Any:
    own = python_name(type(node), path[0])
    if own is None and isinstance(node, OpenSpec):
        own = path[0]  # an option of a plug-in, see `_check_own`
    if own is None:
        raise InputError(
            "unknown field",
            source=source,
            field=name,
            value=value,
            remedy=_suggest(node, path, name),
        )
    if len(path) == 1:
        return replace(node, **{own: value})
    child = getattr(node, own)
    if not is_dataclass(child):
        raise InputError(
            f"{path[0]} has no fields of its own",
            source=source,
            field=name,
            value=value,
            remedy=f"Set {name.rpartition('.')[0]} itself.",
        )
    return replace(node, **{own: _put(child, path[1:], value, name, source)})


def _suggest(node: Any, path: list[str], name: str) -> str:
    """The remedy for an unknown field; knows the fields of the parts of a recipe as well."""
    parts = {item.name: type(getattr(node, item.name)) for item in fields(node)}
    owners = [
        part for part, kind in parts.items() if is_dataclass(kind) and python_name(kind, path[0])
    ]
    hint = " or ".join(repr(f"{part}.{path[0]}") for part in owners)
    known = choose_from(parts, path[0], name.removesuffix(".".join(path)))
    return f"Did you mean {hint}? {known}" if hint else known


def parse_assignments(items: list[str]) -> dict[str, Any]:
    """``["training.epochs=3", "model.stride=[6,6]"]`` as a mapping; values are JSON or plain text.

    Raises:
        InputError: an item is not FIELD=VALUE.
    """
    changes: dict[str, Any] = {}
    for item in items:
        name, mark, text = item.partition("=")
        if not mark or not name:
            raise InputError(
                f"no {'field' if mark else 'value'} given",
                source="--set",
                field=item,
                remedy="Write FIELD=VALUE, e.g. --set training.epochs=3.",
            )
        try:
            changes[name] = json.loads(text)
        except json.JSONDecodeError:
            changes[name] = None if text in ("none", "None") and name != "patchout.kind" else text
    return changes
