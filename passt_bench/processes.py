"""Starts, watches and ends child processes, which import nothing from the current folder.

Python puts the current folder first on the path of a process that is started by ``-c`` or ``-m``,
as fork servers, resource trackers and MLflow are: a ``shutil.py`` there would be run instead of the
library's.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running
from multiprocessing.util import get_temp_dir
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from passt_bench.errors import InputError
from passt_bench.registry import StudyFiles

_NAME = "passt-bench.lock"
_LONGEST = 70  # bytes; of the 107 of a socket, 37 are for its name
SAFE_PATH_VARIABLE = "PYTHONSAFEPATH"  # and not -I, which would also leave out PYTHONPATH
_LOCK = threading.Lock()
_mark: FileLock | None = None  # held in the folder of this process's sockets
_inside = 0  # number of bodies in all threads, which share the environment
_previous: str | None = None


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Keeps the current folder off the path of Python processes started by the body.

    This includes the processes that those start. Afterwards the environment is restored.
    """
    global _inside, _previous
    with _LOCK:
        if not _inside:
            _previous = os.environ.get(SAFE_PATH_VARIABLE)
            os.environ[SAFE_PATH_VARIABLE] = "1"
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                del os.environ[SAFE_PATH_VARIABLE]
                if _previous is not None:
                    os.environ[SAFE_PATH_VARIABLE] = _previous


def fork_server(*modules: str) -> ForkServerContext:
    """The fork server of this process; starts it, with some modules imported, if there is none.

    Children are not forks of this process, because its threads and its GPU do not survive a fork.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > _LONGEST:
        problem = f"longer than {_LONGEST} bytes; processes of this program meet at sockets in it"
        remedy = "Set TMPDIR to a folder with a shorter path."
        raise InputError(problem, field="TMPDIR", value=folder, remedy=remedy)
    _own_sockets(Path(folder))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    # A Ctrl-C reaches every process of the terminal; this program decides what it means, and
    # the server and its children never see it, not even while they start.
    with without_current_folder():
        resource_tracker.ensure_running()  # it would let Ctrl-C through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _own_sockets(folder: Path) -> None:
    """Marks the folder of this process's sockets, and removes those of killed commands.

    The mark is a lock, which the kernel releases when its holder dies; folders of other programs
    have none.
    """
    global _mark
    if _mark is None:
        remove_sockets(folder)
        _mark = FileLock(Path(get_temp_dir()) / _NAME, timeout=0)
        with suppress(Timeout):  # a child has the folder of its parent
            _mark.acquire()


def remove_sockets(folder: Path) -> None:
    """Removes the marked folders of sockets whose processes have died."""
    for mark in folder.glob(f"pymp-*/{_NAME}"):
        with suppress(Timeout, OSError):
            if mark.stat().st_mtime < time.time() - 60:  # a younger one may not be held yet
                with FileLock(mark, timeout=0):
                    shutil.rmtree(mark.parent)


def follow_parent() -> None:
    """Ends this process as soon as its parent ends; ignores Ctrl-C, which the parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class PipedChild:
    """A process from the fork server that runs ``target(pipe, *arguments)``, to talk with.

    It follows its parent. Messages and answers go through the pipe.

    Args:
        target: function of a module.
        arguments: its other arguments, which must be picklable.
        modules: see `fork_server`.
        daemon: a daemon may not start processes; it is killed when this process exits.
    """

    def __init__(
        self,
        target: Callable[..., object],
        *arguments: object,
        modules: Sequence[str] = (),
        daemon: bool = False,
    ) -> None:
        self._kills = oom_kills()
        self.pipe, other_end = multiprocessing.Pipe()
        self._process = fork_server(*modules).Process(
            target=_follow_and_run,
            args=(StudyFiles(), target, other_end, *arguments),
            daemon=daemon,
        )
        self._process.start()
        other_end.close()

    @property
    def pid(self) -> int | None:
        """The ID of the process."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, negative for a signal; 255 also if the fork server died."""
        return self._process.exitcode

    def ended(self, seconds: float) -> bool:
        """Waits for the end, for at most so many seconds; returns whether it has ended."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def kill(self) -> None:
        """Kills the process, even if it outlived the fork server."""
        if self.status in (None, 255) and self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def explain_exit(self) -> tuple[Exit, str]:
        """Why the process ended, see `explain_exit`."""
        return explain_exit(self.status, self._kills)

    def send(self, *message: object) -> None:
        """Sends a message; that the process is dead is noticed when its answer is awaited."""
        with suppress(OSError):
            self.pipe.send(message)

    def wait(self, seconds: float) -> bool:
        """Waits for an answer or the end of the process; returns whether there was either."""
        return bool(connection.wait([self.pipe, self._process.sentinel], seconds))

    def answer(self) -> Any:
        """The answer that has come; None if the process ended without one."""
        with suppress(EOFError, OSError):
            return self.pipe.recv() if self.pipe.poll() else None

    def close(self) -> None:
        """Kills the process and waits for its end."""
        self.kill()
        self.ended(10)
        self.pipe.close()


def _follow_and_run(files: StudyFiles, target: Callable[..., object], *arguments: object) -> None:
    follow_parent()
    target(*arguments)


Exit = Literal["interrupted", "oom", "error"]
# Signals that people, schedulers and shutdowns send; a process's own errors end in other signals.
# SIGKILL is not among them, because the kernel sends it as well.
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def oom_kills() -> int | None:
    """How many processes the kernel has killed for memory since it started; None if unknown."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return None
    counts = dict(line.split() for line in text.splitlines())
    return int(counts["oom_kill"]) if "oom_kill" in counts else None


def explain_exit(exitcode: int | None, kills_before: int | None) -> tuple[Exit, str]:
    """Why a process ended without an answer: from outside, for memory, or by its own error.

    Args:
        exitcode: see `PipedChild.status`.
        kills_before: value of `oom_kills` when the process started.
    """
    if exitcode is None or exitcode >= 0:
        reason: Exit = "interrupted" if exitcode in (None, 255) else "error"
        return reason, f"the process ended with exit status {exitcode}"
    if exitcode == -signal.SIGKILL:
        kills = oom_kills()
        if kills is None or kills_before is None:
            return "oom", "killed by signal 9, probably by the kernel's OOM killer"
        if kills > kills_before:
            return "oom", "killed by the kernel: out of memory"
    outside = -exitcode in (signal.SIGKILL, *_FROM_OUTSIDE)
    message = f"killed by signal {-exitcode} ({signal.Signals(-exitcode).name})"
    return "interrupted" if outside else "error", message


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
