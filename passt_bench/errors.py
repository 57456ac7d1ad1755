"""Errors caused by input: what is wrong, where, and how to correct it."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Literal

# An absolute path that is no part of an address, with the last name in it.
_PATH = re.compile(r"(?<![\w.:/])/[^\s\"':,;)]*/([^\s\"':,;)]+)")
# Messages of Python, PyTorch, oneDNN, CUDA and others for which they have no exception class.
_OOM_MESSAGES = (
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "_STATUS_ALLOC_FAILED",
    "could not create a memory object",
    "could not execute a primitive",
    "failed to map segment",
    "can't start new thread",
)


class InputError(ValueError):
    """Bad input from outside: the command line, a study file, a data folder, a record.

    The command line prints the message without a traceback and exits with status 2.

    Args:
        problem: what is wrong, as a sentence without its full stop.
        source: the file, folder or option that it came from.
        field: the dotted name of the field, e.g. ``training.epochs``.
        value: the wrong value.
        remedy: how to correct it, as a sentence.
    """

    def __init__(
        self,
        problem: str,
        *,
        source: object = None,
        field: str | None = None,
        value: object = None,
        remedy: str | None = None,
    ) -> None:
        self.problem, self.source, self.field = problem, source, field
        self.value, self.remedy = value, remedy
        super().__init__(problem)

    def __str__(self) -> str:
        where = f"{self.source}: " if self.source is not None else ""
        what = ""
        if self.field is not None:
            what = f"{self.field}: " if self.value is None else f"{self.field} = {self.value!r}: "
        return f"{where}{what}{self.problem}." + (f" {self.remedy}" if self.remedy else "")


class StorageError(InputError, OSError):
    """Nothing can be written: the disk is full, or the folder is read-only.

    Attributes:
        errno: the system's error number.
    """

    errno: int | None = None


def without_folders(text: str) -> str:
    """Text for a record: of absolute paths of this machine, a file's name or place in its package.

    ``/home/me/data/a.wav`` becomes ``a.wav``, ``/usr/site-packages/torch/x.py`` ``torch/x.py``.
    """

    def shorten(path: re.Match[str]) -> str:
        for root, kept in (("/site-packages/", ""), ("/passt_bench/", "passt_bench/")):
            if root in path[0]:
                return kept + path[0].rpartition(root)[2]
        return path[1]

    return _PATH.sub(shorten, text)


def without_password(text: str) -> str:
    """Text without the credentials of any address in it."""
    # Up to the last @, because a password may contain one.
    text = re.sub(r"//[^\s'\"]*@", "//", text)
    return re.sub(r"(?i)((?:password|passwd|pwd|token|secret)=)[^&\s'\"]*", r"\1***", text)


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk caused an error: it is full or read-only, or files may not grow further."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
    return isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in full)


def failure_status(error: BaseException) -> Literal["oom", "error"]:
    """``oom`` if memory ran out, else ``error``.

    PyTorch raises `torch.OutOfMemoryError`, a RuntimeError, on CUDA and a plain one on the CPU.
    """
    text, kinds = str(error), (RuntimeError, ImportError, OSError)
    known = isinstance(error, kinds) and any(each in text for each in _OOM_MESSAGES)
    if known or isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM:
        return "oom"
    if isinstance(error, OSError):
        return "error"
    # Memory may have run out earlier and caused this error.
    cause = error.__cause__ or error.__context__
    return failure_status(cause) if cause is not None else "error"


class ContractError(AssertionError):
    """A component violates the contract of its kind."""


def require(kept: bool, what: str) -> None:
    """Raises `ContractError` unless a requirement is kept."""
    if not kept:
        raise ContractError(what)


def require_error(call: Callable[[], object], kind: type[Exception], what: str) -> Any:
    """The error that a call must raise; `ContractError` if it raises none."""
    try:
        call()
    except kind as error:
        return error
    raise ContractError(what)


@contextmanager
def located(source: object) -> Iterator[None]:
    """Adds the source to input errors of the body that name no source."""
    try:
        yield
    except InputError as error:
        error.source = source if error.source is None else error.source
        raise


def check_known(
    name: str, known: Iterable[str], problem: str, *, field: str, source: object = None
) -> None:
    """Refuses a name that is not a known one (raises `InputError`)."""
    known = list(known)
    if name not in known:
        remedy = choose_from(known, name)
        raise InputError(problem, source=source, field=field, value=name, remedy=remedy)


def choose_from(names: Iterable[str], wrong: str, prefix: str = "", heading: str = "Known") -> str:
    """A remedy for an unknown name: the nearest known one (after a prefix), then all of them."""
    known = sorted(names)
    near = get_close_matches(wrong, known, n=1)
    hint = f"Did you mean {prefix + near[0]!r}? " if near else ""
    mark = "; " if any("," in name for name in known) else ", "
    return f"{hint}{heading}: {mark.join(known) or '(none)'}."
