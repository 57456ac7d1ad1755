"""Files written whole or not at all, and what is told where a disk or a folder refuses."""

from __future__ import annotations

import errno
import gzip
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from passt_bench.errors import InputError, StorageError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turns what the system says while a file is written into a message with a remedy.

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
                "Free space there (`passt-bench records clean` says what can go) and give the same "
                "command again; it goes on from here, and what stood before is whole."
            )
        problem = f"cannot be written ({error.strerror or error})"
        told = StorageError(problem, source=path, remedy=remedy)
        told.errno = error.errno
        raise told from None


def write_atomically(path: Path, data: bytes, *, sync: bool = True) -> None:
    """Writes a file whole or not at all: a temporary neighbour, fsync, rename.

    Args:
        path: the file; its folder is made.
        data: all of it.
        sync: whether it must stand on the disk before the old file goes; not for mere copies.

    Raises:
        StorageError: the disk is full, or nothing can be written there; an old file is whole.
    """
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def read_bytes(path: Path) -> bytes:
    """All of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot be read ({error.strerror or error})",
            source=path,
            remedy="Give the right to read it, or another folder.",
        ) from None


def refuse_link(*paths: Path) -> None:
    """Refuses links where only files and folders may stand: a link leads elsewhere.

    Raises:
        InputError: one of the paths is a link.
    """
    for path in paths:
        if path.is_symlink():
            raise InputError(
                "a symbolic link, which is not followed",
                source=path,
                remedy="Replace it by what it points to, or remove it.",
            )


def pack_json(value: object) -> bytes:
    """Compressed JSON whose bytes depend on the value alone (no time stamp in the header)."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return gzip.compress(text.encode(), mtime=0)


def unpack_json(data: bytes) -> Any:
    """The value that `pack_json` packed."""
    return json.loads(gzip.decompress(data))
