"""What kind of failure an exception or a dead process is."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Literal

import torch

Failure = Literal["oom", "error"]


def classify(error: BaseException) -> Failure:
    """``oom`` where memory ran out, else ``error``.

    PyTorch raises `torch.OutOfMemoryError` on CUDA and a plain RuntimeError on the CPU.
    """
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "oom"
    told = any(words in str(error) for words in ("can't allocate memory", "out of memory"))
    return "oom" if told and isinstance(error, RuntimeError) else "error"


def oom_kills() -> int | None:
    """How many processes the kernel has killed for memory since it started; None if unknown."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return None
    counts = dict(line.split() for line in text.splitlines())
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


def explain_exit(exitcode: int | None, kills_before: int | None) -> tuple[Failure, str]:
    """Status and message for a process that ended without an answer.

    Args:
        exitcode: of `multiprocessing.Process`; negative for a signal.
        kills_before: `oom_kills` when the process started.
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
