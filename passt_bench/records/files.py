"""Reads and writes the files of records atomically; refuses links and broken files."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISCHR, S_ISFIFO
from typing import Any, BinaryIO, TypeVar

from pydantic import ValidationError

from passt_bench.errors import InputError, StorageError, check_known
from passt_bench.records.evaluation import EvaluationRecord
from passt_bench.records.run import SCHEMA, RunRecord, StudyRecord
from passt_bench.registry import metric_bounds
from passt_bench.spec.codec import JSON_BYTES, from_json, parse_json, to_plain, wrong_field

T = TypeVar("T", bound=Any)
GROWTH = 4  # bytes in memory per byte of a file, at most
_ROUNDING = 1e-9  # of a metric at its bound
_SEAL, _BLOCK = hashlib.sha256().digest_size, 1 << 22  # bytes of a checksum, and read at a time


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
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
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
def writing(path: Path, *, sync: bool = True, sealed: bool = False) -> Iterator[BinaryIO]:
    """Yields a file that replaces another when it is complete (temporary file, fsync, rename).

    Its folder is created if missing. ``sync``: it must be on the disk before it replaces the other.
    ``sealed``: a checksum follows the content, see `is_sealed`.

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
                if sealed:
                    file.flush()
                    file.write(_seal_of(path, temporary, file.tell()))
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def is_sealed(path: Path, progress: Callable[..., object] = lambda *done: None) -> bool:
    """Whether a file is as `writing` sealed it, under the same name in a folder of the same name.

    The checksum covers both names: a file of another result, put in its place, is found as well.
    ``progress`` is called with the share that was read.
    """
    try:
        size = path.stat().st_size - _SEAL
        with path.open("rb") as file:
            file.seek(max(0, size))
            return size >= 0 and file.read() == _seal_of(path, path, size, progress)
    except OSError:
        return False


def _seal_of(
    path: Path, content: Path, size: int, progress: Callable[..., object] = lambda *done: None
) -> bytes:
    """SHA-256 of the name of a path and its folder, and of the first bytes of a file."""
    hasher, done = hashlib.sha256(f"{path.parent.name}/{path.name}\n".encode()), 0
    with content.open("rb") as file:
        while done < size and (data := file.read(min(_BLOCK, size - done))):
            hasher.update(data)
            done += len(data)
            progress(done / size, "")
    return hasher.digest()


def read_bytes(path: Path, most: int = JSON_BYTES) -> bytes:
    """Reads a file of at most so many bytes."""
    try:
        mode = path.stat().st_mode
        if S_ISFIFO(mode) or S_ISCHR(mode):  # to read it would wait, or not end
            raise OSError("not a file")
        with path.open("rb") as file:
            data = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        remedy = "Give the right to read it, or another folder."
        raise InputError(problem, source=path, remedy=remedy) from None
    if len(data) > most:
        problem, remedy = f"larger than {most >> 20} MiB", "Remove it; no such file is that large."
        raise InputError(problem, source=path, remedy=remedy)
    return data


def check_size(needed: int, path: Path, what: str, least: int = 0) -> None:
    """Refuses what takes more than ``least`` and four times the bytes of its file to be made."""
    size = path.stat().st_size
    if needed > max(GROWTH * size, least):
        problem = f"{what} would take {needed} bytes of memory, but the file has {size}"
        raise InputError(problem, source=path, remedy="Get the file again from its source.")


def check_zip(path: Path, parts: Collection[str] = ()) -> None:
    """As `check_size` for the parts, by default all, of a zip or npz file; 64 MiB are allowed."""
    with zipfile.ZipFile(path) as archive:
        needed = sum(p.file_size for p in archive.infolist() if not parts or p.filename in parts)
    check_size(needed, path, "its content", JSON_BYTES)


def refuse_link(*paths: Path) -> None:
    """Refuses links, which may lead out of the folder."""
    for path in paths:
        if path.is_symlink():
            problem = "a symbolic link, which is not followed"
            remedy = "Replace it by its target, or remove it."
            raise InputError(problem, source=path, remedy=remedy)


def pack_json(value: object) -> bytes:
    """Compressed JSON whose bytes depend only on the value (no time stamp in the header)."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def unpack_json(path: Path) -> Any:
    """The value in a file that `pack_json` wrote.

    Raises:
        InputError: the file cannot be read, is too large, or was not written so.
    """
    data = read_bytes(path)
    try:
        with gzip.open(io.BytesIO(data)) as file:
            return parse_json(file.read(JSON_BYTES + 1))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        remedy = "Remove its folder and run what made it again."
        raise InputError(f"not readable ({error})", source=path, remedy=remedy) from None


def to_json(record: object) -> str:
    """Canonical text of a record: sorted keys, no NaN, a line feed at the end."""
    plain = to_plain(record)
    return json.dumps(plain, sort_keys=True, allow_nan=False, separators=(",", ":")) + "\n"


def read(kind: type[T], path: Path, *, in_store: bool = True) -> T:
    """Reads a record, or a document about several.

    ``in_store``: it must be in the place of its key or name, and not a link; false for a file that
    a user names.

    Raises:
        InputError: the file cannot be read, is incomplete, of another kind, or of a newer schema;
            or a name or key in it is not valid, or not that of its place; or a successful run
            lacks a metric of its recipe, or has one outside of its bounds.
    """
    field, place = ("key", path.parent) if "key" in kind.__annotations__ else ("name", path)
    if in_store:  # folders above may be links
        refuse_link(place, path)
    data = read_bytes(path)
    try:
        record = from_json(kind, data)
    except ValueError as error:
        raise _unreadable(kind, path, place, data, error) from None
    if record.schema > SCHEMA:
        raise _other_schema(path, record.schema)
    by_key = place.name, "the name of the folder"
    own, what = by_key if field == "key" else (place.stem, "the file's name")
    if in_store and (name := getattr(record, field)) != own:
        problem, remedy = f"differs from {what}", f"It is in {own}: rename that, or remove it."
        raise InputError(problem, source=path, field=field, value=name, remedy=remedy)
    if isinstance(record, RunRecord | EvaluationRecord):
        _check_metrics(record, path)
    if isinstance(record, StudyRecord):
        names = [variant.name for variant in record.variants]
        check_known(record.baseline, names, "no such variant", field="baseline", source=path)
    return record


def _check_metrics(record: RunRecord | EvaluationRecord, path: Path) -> None:
    """Refuses a successful run without a metric of its recipe, and values that no metric has."""
    wrong: list[tuple[str, str, object]] = []
    if isinstance(record, RunRecord) and record.status == "ok":
        without = (name for name in record.recipe.metrics if name not in record.metrics)
        text, found = "a successful run without its metric", sorted(record.metrics)
        wrong = [(f"{text} {name}", "metrics", found) for name in without]
    if isinstance(record, EvaluationRecord):
        both = record.against.differences if record.against else record.scored
        lacking = {*record.metrics} - (record.scored.keys() & both.keys())
        wrong = [("a metric without its classes or difference", n, None) for n in lacking]
    parts = [record.metrics, *getattr(record, "occlusions", {}).values()]
    parts += [against.metrics] if (against := getattr(record, "against", None)) else []
    values = [(name, [value]) for part in parts for name, value in part.items()]
    values += [(name, [*classes.values()]) for name, classes in record.per_class.items()]
    for name, own in values:
        low, high = metric_bounds(name.partition("/")[0])  # of a class group: mAP/frequency
        beyond = (value for value in own if not low - _ROUNDING <= value <= high + _ROUNDING)
        wrong += [(f"not between {low:g} and {high:g}", name, value) for value in beyond]
    for problem, field, value in wrong[:1]:
        remedy = f"Remove {path.parent} and run it again."
        raise InputError(problem, source=path, field=field, value=value, remedy=remedy)


def _unreadable(
    kind: type[T], path: Path, place: Path, data: bytes, error: ValueError
) -> InputError:
    """The error for a file that is not a valid record of this version."""
    remedy = f"Remove {place} and run what made it again; nothing else is affected."
    try:
        plain = parse_json(data)
    except ValueError as broken:
        text = getattr(broken, "doc", "")[getattr(broken, "pos", 0) :][:20]  # e.g. nan
        problem = f"not valid JSON ({broken}{f': {text!r}' * bool(text)})"
        return InputError(problem, source=path, remedy=remedy)
    assert isinstance(error, ValidationError)
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
