"""Writes dataclasses as JSON and reads them, by pydantic and marks in the fields' annotations.

``FREE`` fields do not decide a quality result and are not in its key. ``LATER`` fields were added
after records had been written: in the key only where they differ from their default, which means
what was done before the field existed, so that older records keep their keys. All others always
enter. A field marked ``written_as`` was renamed: it keeps its first name in records, keys and
MLflow, and that name is accepted wherever fields are named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from functools import lru_cache, partial
from typing import Any, Self, TypeVar, get_args, get_type_hints

from pydantic import Field, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from passt_bench.errors import InputError

T = TypeVar("T")


FREE, LATER = "free", "later"  # marks of fields
JSON_BYTES, JSON_LEVELS = 64 << 20, 64  # JSON of others is not larger and not nested deeper
JSON_VALUES = 4_000_000  # and takes less than a GiB in memory
_NOT_SHAPE = bytes(set(range(256)) - set(b"[]{}NI"))  # NaN and Infinity begin with N and I
_BEYOND = re.compile(rb"[eE]\+?0*[1-9]\d\d")  # 1e100
_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")  # to search fast for what few files have


class Spelling:
    """How a field is written in records, and its values (Python → records) where they differ.

    Pydantic reads both spellings of a value.
    """

    def __init__(self, name: str, values: Mapping[str, str | bool]) -> None:
        self.name, self.values = name, values

    def write(self, value: Any) -> Any:
        """The value as it is written."""
        return self.values.get(value, value) if isinstance(value, str) else value

    def _read(self, value: Any) -> Any:
        alike = (
            new for new, old in self.values.items() if (type(old), old) == (type(value), value)
        )
        return next(alike, value)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """The schema of the field, with its values translated both ways."""
        schema = handler(source)
        if not self.values:
            return schema
        written = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.no_info_before_validator_function(
            self._read, schema, serialization=written
        )


def about(text: str, **limits: Any) -> Any:
    """Mark of a field that says what it is; ``limits`` are those of pydantic's ``Field``."""
    return Field(description=text, **limits)


def written_as(name: str, **values: str | bool) -> Any:
    """Mark of a field that was renamed after records had been written, see `Spelling`."""
    mark = Field(alias=name)
    mark.metadata.append(Spelling(name, values))
    return mark


def to_pair(value: object) -> object:
    """``6`` and ``"6,6"`` as ``(6, 6)``; the check that follows is of its numbers."""
    if isinstance(value, str) and re.fullmatch(r"\d+,\d+", value):
        return tuple(map(int, value.split(",")))
    if type(value) is int:
        return value, value
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise PydanticCustomError("pair", "must be a pair, e.g. 6 or 6,6")
    return value


def to_names(value: object) -> object:
    """``"mAP,AUC"`` as ``("mAP", "AUC")``; anything else is left to the check that follows."""
    return tuple(value.split(",")) if isinstance(value, str) else value


@lru_cache
def spellings(kind: Any) -> dict[str, Spelling]:
    """How each field of a dataclass is written in records, by its name in Python."""
    hints = get_type_hints(kind, include_extras=True)
    spelled = {}
    for item in fields(kind):
        marks = getattr(hints[item.name], "__metadata__", ())
        nested = (note for mark in marks for note in getattr(mark, "metadata", ()))
        own = (note for note in nested if isinstance(note, Spelling))
        spelled[item.name] = next(own, Spelling(item.name, {}))
    return spelled


@dataclass(frozen=True)
class OpenSpec:
    """Base of a dataclass that accepts a plug-in's options with its own fields.

    ``Patchout("my_kind", share=0.5)`` is of a subclass of `Patchout` with a field ``share``, which
    is compared, hashed, written and part of keys like the others without being known anywhere.
    """

    def __new__(cls, *args: Any, **given: Any) -> Self:
        """Chooses the class by the names of the options that are given."""
        more = tuple(sorted(given.keys() - {item.name for item in fields(cls)})) if given else ()
        kind: Any = cls
        made: Self = object.__new__(_extended(kind, more) if more else kind)
        return made

    def __post_init__(self) -> None:
        """Turns lists into tuples, so that a recipe can be hashed."""
        for name, value in own_options(self).items():
            object.__setattr__(self, name, _frozen(value))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles a call, because the extended class is in no module."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return partial(_declared(type(self)), **values), ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of the fields; further options are read and written as they are."""
        schema = handler(source)
        written = core_schema.wrap_serializer_function_ser_schema(_write_open, schema=schema)
        return core_schema.no_info_wrap_validator_function(
            partial(_read_open, cls), schema, serialization=written
        )


def own_options(spec: Any) -> dict[str, Any]:
    """The options of a spec beyond the fields of its declared class."""
    declared = len(fields(_declared(type(spec))))
    return {item.name: getattr(spec, item.name) for item in fields(spec)[declared:]}


@lru_cache
def _extended(kind: Any, names: tuple[str, ...]) -> Any:
    more = [(name, Any, None) for name in names]
    return make_dataclass(kind.__name__, more, bases=(kind,), frozen=True)


def _declared(kind: Any) -> Any:
    return kind if OpenSpec in kind.__bases__ else _declared(kind.__bases__[0])


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _write_open(spec: Any, handler: Any) -> Any:
    written = handler(spec)
    # A value that is not a spec, as in --set model=3, is written before it is refused.
    return written | own_options(spec) if isinstance(spec, OpenSpec) else written


def _read_open(kind: Any, value: Any, handler: Any) -> Any:
    if not isinstance(value, Mapping):
        return handler(value)
    more = {name: item for name, item in value.items() if python_name(kind, name) is None}
    if not more:
        return handler(value)
    return replace(handler({n: item for n, item in value.items() if n not in more}), **more)


_adapters: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The cached pydantic TypeAdapter of a type (building one takes tens of milliseconds)."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def to_plain(value: object) -> Any:
    """A dataclass as JSON values, with the names and spellings of records."""
    return adapter(type(value)).dump_python(value, mode="json", by_alias=True)


def check_json(data: bytes) -> None:
    """Refuses JSON that would fill the memory or the stack, or that holds no finite numbers.

    Raises:
        ValueError: it is larger, nested deeper, or holds more values, NaN, Infinity or a number
            beyond 1e99.
    """
    if len(data) > JSON_BYTES:
        raise ValueError(f"larger than {JSON_BYTES >> 20} MiB")
    plain = data.replace(rb"\\", b"").replace(rb"\"", b"") if b"\\" in data else data
    values = sum(map(plain.count, (b",", b"[", b"{")))
    if max(values, plain.count(b'"') // 2) > JSON_VALUES:
        raise ValueError(f"holds more than {JSON_VALUES:,} values")
    rest = b"".join(plain.split(b'"')[::2])  # without strings
    shape = rest.translate(None, _NOT_SHAPE)
    zeros = rest.translate(_ZEROS, b"+")
    huge = b"0" * 100 in zeros or (b"0e" in zeros and _BEYOND.search(rest))
    if b"N" in shape or b"I" in shape or huge:
        raise ValueError("holds NaN, Infinity, or a number beyond 1e99")
    for _ in range(JSON_LEVELS):  # removes the innermost brackets
        if not shape:
            break
        shape = shape.replace(b"[]", b"").replace(b"{}", b"")
    if shape:
        raise ValueError(f"cut off, or nested deeper than {JSON_LEVELS} levels")


def parse_json(data: bytes) -> Any:
    """The value of JSON, which `check_json` may refuse; ValueError also if it is not JSON."""
    check_json(data)
    return json.loads(data.decode())


def from_json(kind: type[T], data: bytes) -> T:
    """Reads a dataclass from checked JSON, with the names of records or those of Python.

    Raises:
        ValueError: it is not JSON, or refused by `check_json`.
        ValidationError: a field is wrong; see `wrong_field`.
    """
    check_json(data)
    value: T = adapter(kind).validate_json(data, by_alias=True, by_name=True)
    return value


def validate(kind: type[T], value: object, *, source: object = None) -> T:
    """Checks a value from outside against a dataclass.

    Raises:
        InputError: a field is wrong; the message names the first such field and its value.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = adapter(type(value)).dump_python(value, warnings=False)
    try:
        checked: T = adapter(kind).validate_python(value, by_alias=True, by_name=True)
    except ValidationError as error:
        name, meaning = wrong_field(kind, error)
        raise InputError(
            error.errors()[0]["msg"],
            source=source,
            field=name or kind.__name__,
            value=error.errors()[0].get("input"),
            remedy=meaning,
        ) from None
    return checked


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
        remedy = "See `passt-bench list` and `passt-bench list fields`."
        return ".".join(names), remedy
    if note := _meaning(hint):
        return ".".join(names), f"Meaning of the field: {note[:1].lower()}{note[1:]}"
    part = _dataclass_in(hint)
    example = f"{names[-1]}.{fields(part)[0].name}=VALUE" if part else ""
    return ".".join(names), f"Set one of its fields, e.g. {example}." if part else ""


def _meaning(hint: Any) -> str:
    notes = (getattr(mark, "description", None) for mark in getattr(hint, "__metadata__", ()))
    return next(filter(None, notes), "")


def meanings(spec: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name of each field of nested dataclasses; its meaning, and its value in ``spec``.

    A value is as ``--set`` takes it.
    """
    hints = get_type_hints(type(spec), include_extras=True)
    for item in fields(spec):
        name, value = f"{prefix}{item.name}", getattr(spec, item.name)
        if is_dataclass(value):
            yield from meanings(value, f"{name}.")
        else:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
            yield name, f"{_meaning(hints[item.name])} [{shown}]"


def _dataclass_in(hint: Any) -> Any:
    """The dataclass of an annotation such as ``tuple[Variant, ...]``; None where there is none."""
    if is_dataclass(hint) and isinstance(hint, type):  # marks in annotations are instances of some
        return hint
    return next(filter(None, map(_dataclass_in, get_args(hint))), None)


def python_name(kind: Any, name: str) -> str | None:
    """The Python name of a field given by its name in Python or in records; None if unknown."""
    spelled = spellings(kind)
    renamed = (own for own, item in spelled.items() if item.name == name)
    return name if name in spelled else next(renamed, None)
