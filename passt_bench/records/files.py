"""Reads and writes the files of records atomically; refuses links and broken files."""

from __future__ import annotations

import errno
import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from pydantic import ValidationError

from passt_bench.errors import InputError, StorageError
from passt_bench.records.run import SCHEMA
from passt_bench.spec.codec import from_json, to_plain, wrong_field

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns system errors in writing a file into a message with a remedy.

    Raises:
        StorageError: the disk is full, or nothing can be written there.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        remedy = "Give a folder that can be written to, or the right to write there."
        if error.errno in _FULL:
            remedy = (
                "Free space there (`passt-bench records clean` lists what can be removed) and run "
                "the same command again; it resumes, and earlier files are not affected."
            )
        problem = f"cannot be written ({error.strerror or error})"
        full = StorageError(problem, source=path, remedy=remedy)
        full.errno = error.errno
        raise full from None


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Writes a file whole or not at all, see `writing`."""
    with writing(path, sync=sync) as file:
        file.write(data)


@contextmanager
def writing(path: Path, *, sync: bool = True) -> Iterator[BinaryIO]:
    """Yields a file that replaces another when it is complete (temporary file, fsync, rename).

    Its folder is created if missing. ``sync``: it must be on the disk before it replaces the other.

    Raises:
        StorageError: the disk is full, or nothing can be written; an old file is not affected.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_bytes(path: Path) -> bytes:
    """Reads a file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})",
            source=path,
            remedy="Give the right to read it, or another folder.",
        ) from None


def refuse_link(*paths: Path) -> None:
    """Refuses links, which may lead out of the folder."""
    for path in paths:
        if path.is_symlink():
            raise InputError(
                "a symbolic link, which is not followed",
                source=path,
                remedy="Replace it by its target, or remove it.",
            )


def pack_json(value: object) -> bytes:
    """Compressed JSON whose bytes depend only on the value (no time stamp in the header)."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def unpack_json(data: bytes) -> Any:
    """Inverse of `pack_json`."""
    return json.loads(gzip.decompress(data))


class Versioned(Protocol):
    """A dataclass with the version of its schema."""

    @property
    def schema(self) -> int:
        """The version of the schema."""


T = TypeVar("T", bound=Versioned)


def to_json(record: Versioned) -> str:
    """Canonical text of a record: sorted keys, no NaN, a line feed at the end."""
    return (
        json.dumps(to_plain(record), sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n"
    )


def read(kind: type[T], path: Path, *, in_store: bool = True) -> T:
    """Reads a record, or a document about several.

    ``in_store``: it must be in the place of its key or name, and not a link; false for a file that
    a user names.

    Raises:
        InputError: the file cannot be read, is incomplete, of another kind, or of a newer schema;
            or a name or key in it is not valid, or not that of its place.
    """
    has_key = "key" in kind.__annotations__
    if in_store:  # folders above may be links
        refuse_link(*([path.parent] if has_key else []), path)
    data = read_bytes(path)
    try:
        record = from_json(kind, data)
    except ValidationError as error:
        raise _unreadable(kind, path, data, error) from None
    if record.schema > SCHEMA:
        raise _other_schema(path, record.schema)
    if in_store:
        field = "key" if has_key else "name"
        name, place = getattr(record, field), path.parent.name if has_key else path.stem
        if name != place:
            raise InputError(
                "differs from the name of the folder"
                if has_key
                else "differs from the file's name",
                source=path,
                field=field,
                value=name,
                remedy=f"It is in {place}: rename that, or remove it.",
            )
    return record


def _unreadable(kind: type[T], path: Path, data: bytes, error: ValidationError) -> InputError:
    """The error for a file that is not a valid record of this version."""
    place = path.parent if "key" in kind.__annotations__ else path
    remedy = f"Remove {place} and run what made it again; nothing else is affected."
    try:
        plain = json.loads(data)
    except ValueError as broken:
        return InputError(f"not a complete JSON file ({broken})", source=path, remedy=remedy)
    schema = plain.get("schema") if isinstance(plain, dict) else None
    if not isinstance(schema, int) or schema > SCHEMA:
        return _other_schema(path, schema)
    first, (name, _) = error.errors()[0], wrong_field(kind, error)
    value = first["input"] if isinstance(first["input"], str | int | float) else None
    return InputError(first["msg"], source=path, field=name, value=value, remedy=remedy)


def _other_schema(path: Path, schema: object) -> InputError:
    return InputError(
        "unknown version of the schema",
        source=path,
        field="schema",
        value=schema,
        remedy=f"This version reads schemas up to {SCHEMA}; install a newer passt-bench, or write "
        "to another folder with --runs.",
    )
