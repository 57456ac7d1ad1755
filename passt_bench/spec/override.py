"""Reading and changing recipes by dotted field names, with errors that name the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from passt_bench.errors import InputError, choose_from
from passt_bench.spec.recipe import Recipe, spellings

T = TypeVar("T")


def adapter(kind: type[T]) -> TypeAdapter[T]:
    """Checks and writes values of a type; made once a type, for that takes tens of milliseconds."""
    found: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]  # types can be hashed
    return found


@lru_cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def to_plain(value: object) -> Any:
    """A dataclass as JSON values, with the names and spellings of records."""
    return adapter(type(value)).dump_python(value, mode="json", by_alias=True)


def from_json(kind: type[T], data: bytes | str) -> T:
    """Reads a dataclass from JSON, with the names of records or those of Python.

    Raises:
        ValidationError: it is not JSON, or a field is wrong; see `wrong_field`.
    """
    return adapter(kind).validate_json(data, by_alias=True, by_name=True)


def validate(kind: type[T], value: object, *, source: object = None) -> T:
    """Checks a value from outside against a dataclass.

    Raises:
        InputError: names the first wrong field, its value and what is right.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = adapter(type(value)).dump_python(value, warnings=False)
    try:
        return adapter(kind).validate_python(value, by_alias=True, by_name=True)
    except ValidationError as error:
        name, meaning = wrong_field(kind, error)
        raise InputError(
            error.errors()[0]["msg"],
            source=source,
            field=name or kind.__name__,
            value=error.errors()[0].get("input"),
            remedy=meaning,
        ) from None


def wrong_field(kind: Any, error: ValidationError) -> tuple[str, str]:
    """The first wrong field by its dotted name in Python, and a sentence that says what it is."""
    names, hint, known = [], kind, False
    for part in map(str, error.errors()[0]["loc"]):
        owner = _dataclass_in(hint)
        own = python_name(owner, part) if owner is not None else None
        if known := own is not None:
            hint = get_type_hints(owner, include_extras=True)[own]
        names.append(own or part)
    if not known:
        remedy = "See `passt-bench list` and the field's description in passt_bench/spec/recipe.py."
        return ".".join(names), remedy
    notes = [m.description for m in getattr(hint, "__metadata__", ()) if hasattr(m, "description")]
    return ".".join(names), f"Meant: {notes[0]}" if notes and notes[0] else ""


def _dataclass_in(hint: Any) -> Any:
    """The dataclass of an annotation such as ``tuple[Variant, ...]``; None where there is none."""
    if is_dataclass(hint) and isinstance(hint, type):  # marks in annotations are instances of some
        return hint
    return next(filter(None, map(_dataclass_in, get_args(hint))), None)


def python_name(kind: Any, name: str) -> str | None:
    """The name in Python of a field that is named as in Python or as in records, None for none."""
    written = {spelling.name: own for own, spelling in spellings(kind).items()}
    return name if name in written.values() else written.get(name)


def override(recipe: Recipe, changes: Mapping[str, Any], *, source: object = None) -> Recipe:
    """A recipe with fields replaced, e.g. ``{"model.stride": (6, 6), "patchout": Patchout(...)}``.

    Raises:
        InputError: an unknown field, or a value that the field does not take.
    """
    for name, value in changes.items():
        recipe = _put(recipe, name.split("."), value, name, source)
    checked = validate(Recipe, recipe, source=source)
    _check_finite(checked, "", source)
    return checked


def _check_finite(node: Any, prefix: str, source: object) -> None:
    """Refuses infinity, which pydantic takes for a number and no key can hold."""
    for item in fields(node):
        value = getattr(node, item.name)
        if is_dataclass(value):
            _check_finite(value, f"{prefix}{item.name}.", source)
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(
                "not a finite number",
                source=source,
                field=prefix + item.name,
                value=value,
                remedy="Give a finite number.",
            )


def _put(node: Any, path: list[str], value: object, name: str, source: object) -> Any:
    own = python_name(type(node), path[0])
    if own is None:
        raise InputError(
            "unknown field",
            source=source,
            field=name,
            value=value,
            remedy=choose_from([item.name for item in fields(node)], path[0]),
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


def parse_assignments(items: list[str]) -> dict[str, Any]:
    """``["training.epochs=3", "model.stride=[6,6]"]`` as a mapping; values are JSON or plain text.

    Raises:
        InputError: an item without an equals sign.
    """
    changes: dict[str, Any] = {}
    for item in items:
        name, mark, text = item.partition("=")
        if not mark or not name:
            raise InputError(
                "not an assignment",
                source="--set",
                value=item,
                field=item,
                remedy="Write field=value, e.g. --set training.epochs=3.",
            )
        try:
            changes[name] = json.loads(text)
        except json.JSONDecodeError:
            changes[name] = None if text in ("none", "None") and name != "patchout.kind" else text
    return changes
