"""Named JSON documents beside the records: searches and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter

from passt_bench import record_files
from passt_bench.errors import InputError
from passt_bench.files import write_atomically
from passt_bench.names import plain_name

T = TypeVar("T", bound=record_files.Versioned)


def names(folder: Path) -> list[str]:
    """The documents in a folder."""
    return sorted(path.stem for path in folder.glob("*.json"))


def write(record: Any, folder: Path) -> Path:
    """Writes a dataclass that has a ``name`` as ``folder/NAME.json``, canonical and whole.

    Raises:
        InputError: its name would lead elsewhere.
    """
    plain = TypeAdapter(type(record)).dump_python(record, mode="json")
    text = json.dumps(plain, sort_keys=True, allow_nan=False, separators=(",", ":"))
    path = folder / f"{plain_name(record.name, field='name')}.json"
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
        InputError: there is none of that name, or `record_files.read` refuses its file.
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
    return record_files.read(kind, path, again=again)
