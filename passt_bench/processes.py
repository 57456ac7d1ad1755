"""Starts child processes that leave Ctrl-C to their parent and import nothing by accident.

Python puts the current folder first on the path of a process that is started by ``-c`` or ``-m``,
as fork servers, resource trackers and MLflow are: a ``shutil.py`` there would be run instead of the
library's.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.forkserver import ensure_running

VARIABLE = "PYTHONSAFEPATH"  # and not -I, which would also leave out PYTHONPATH
_LOCK = threading.Lock()
_inside = 0  # number of bodies in all threads, which share the environment
_before: str | None = None


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Keeps the current folder off the path of Python processes started by the body.

    This includes the processes that those start. Afterwards the environment is restored.
    """
    global _inside, _before
    with _LOCK:
        if not _inside:
            _before = os.environ.get(VARIABLE)
            os.environ[VARIABLE] = "1"
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                del os.environ[VARIABLE]
                if _before is not None:
                    os.environ[VARIABLE] = _before


def fork_server(*modules: str) -> ForkServerContext:
    """The fork server of this process; starts it if it is not running.

    Children are not forks of this process, because its threads and its GPU do not survive a fork.

    Args:
        modules: modules that the server imports once for all its children; ignored if it is
            already running.
    """
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


def follow_parent() -> None:
    """Ends this process as soon as its parent ends; ignores Ctrl-C, which the parent handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def default_workers() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
