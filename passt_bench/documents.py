"""Named JSON documents beside the records: searches and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from passt_bench.errors import InputError
from passt_bench.files import read_bytes, write_atomically
from passt_bench.record import SCHEMA

T = TypeVar("T")


def names(folder: Path) -> list[str]:
    """The documents in a folder."""
    return sorted(path.stem for path in folder.glob("*.json"))


def write(record: Any, folder: Path) -> Path:
    """Writes a dataclass that has a ``name`` as ``folder/NAME.json``, canonical and whole."""
    plain = TypeAdapter(type(record)).dump_python(record, mode="json")
    text = json.dumps(plain, sort_keys=True, allow_nan=False, separators=(",", ":"))
    path = folder / f"{record.name}.json"
    write_atomically(path, f"{text}\n".encode())
    return path


def read(kind: type[T], name: str, folder: Path, *, field: str, make: str, again: str) -> T:
    """Reads ``folder/NAME.json``.

    Args:
        kind: the dataclass; it has a ``schema``.
        name: of the document.
        folder: where it lies.
        field: what it is, e.g. ``search``.
        make: remedy where there is none.
        again: remedy where it is broken.

    Raises:
        InputError: there is none of that name, or its file is broken or of a newer schema.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise InputError(
            f"no such {field} stands here",
            source=folder.parent,
            field=field,
            value=name,
            remedy=make,
        )
    try:
        record = TypeAdapter(kind).validate_json(read_bytes(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            first["msg"],
            source=path,
            field=".".join(map(str, first["loc"])) or None,
            remedy=again,
        ) from None
    schema: int = record.schema  # type: ignore[attr-defined]
    if schema > SCHEMA:
        raise InputError(
            f"a {field} of another schema",
            source=path,
            field="schema",
            value=schema,
            remedy=f"This version reads schemas up to {SCHEMA}; install a newer passt-bench.",
        )
    return record
