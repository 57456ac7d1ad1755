"""Classifies exceptions and dead processes, and limits the memory of a process."""

from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from passt_bench.errors import StorageError

Failure = Literal["oom", "error"]
# The disk is full or read-only, or a limit on the size of files is reached.
CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
# Messages of PyTorch, oneDNN, CUDA and its libraries for which they have no exception class.
_OOM_MESSAGES = (
    "can't allocate memory",
    "Cannot allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "_STATUS_ALLOC_FAILED",
    "could not create a memory object",
    "could not execute a primitive",
)
# Signals that people, schedulers and shutdowns send; a process's own errors end in other signals.
# SIGKILL is not among them, because the kernel sends it as well.
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def classify(error: BaseException) -> Failure:
    """``oom`` if memory ran out, else ``error``.

    PyTorch raises `torch.OutOfMemoryError` on CUDA and a plain RuntimeError on the CPU.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "oom"
    if isinstance(error, OSError):
        return "oom" if error.errno == errno.ENOMEM else "error"
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OOM_MESSAGES):
        return "oom"
    # Memory may have run out earlier and caused this error.
    cause = error.__cause__ or error.__context__
    return classify(cause) if cause is not None else "error"


def is_storage_error(error: BaseException) -> bool:
    """Whether the disk caused an error; the run then has no record and may be repeated."""
    return isinstance(error, StorageError) or (
        isinstance(error, OSError) and error.errno in CANNOT_WRITE
    )


@contextmanager
def memory_limit(limit: int | None) -> Iterator[None]:
    """Makes allocations of this process beyond the limit fail, inside the context.

    The limit counts private writable memory (``RLIMIT_DATA``), which is the memory a process
    allocates, without the libraries that it maps. Memory on a GPU is not counted.

    Args:
        limit: bytes; None: no limit.
    """
    if limit is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def oom_kills() -> int | None:
    """How many processes the kernel has killed for memory since it started; None if unknown."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return None
    counts = dict(line.split() for line in text.splitlines())
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


def was_interrupted(exitcode: int | None, kills_before: int | None) -> bool:
    """Whether a process was ended from outside, and not by an error of its own.

    Args:
        exitcode: exit code of `multiprocessing.Process`; negative for a signal, 255 if the fork
            server has died and the cause is unknown.
        kills_before: value of `oom_kills` when the process started.
    """
    if exitcode == -signal.SIGKILL:
        kills = oom_kills()
        return kills is not None and kills_before is not None and kills <= kills_before
    return exitcode in (None, 255) or -exitcode in _FROM_OUTSIDE


def explain_exit(exitcode: int | None, kills_before: int | None) -> tuple[Failure, str]:
    """Status and message for a process that ended without an answer.

    Args:
        exitcode: exit code of `multiprocessing.Process`; negative for a signal.
        kills_before: value of `oom_kills` when the process started.
    """
    if exitcode == -signal.SIGKILL:
        kills = oom_kills()
        if kills is None or kills_before is None:
            return "oom", "killed by signal 9, most likely by the kernel for memory"
        if kills > kills_before:
            return "oom", "killed by the kernel: out of memory"
    if exitcode is not None and exitcode < 0:
        return "error", f"killed by signal {-exitcode} ({signal.Signals(-exitcode).name})"
    return "error", f"the process ended with exit status {exitcode}"
