"""Locks on a store's folder, all freed by the kernel when their holder dies.

Two a key: ``KEY.lock`` belongs to the invocation that has taken a cell or an evaluation on,
``KEY.work.lock`` to the process that computes a cell: should an invocation be killed, its process
may live on for a moment, and nobody writes beside it. What brings records of others holds both for
as long as it copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from passt_bench.files import storing

MERGE = "merge.lock"  # of all that merge into a folder, and of who gives a session its key
_MOMENT = 0.5  # seconds; who only looks whether a lock is held has it for less


def lock(root: Path, name: str) -> FileLock:
    """A lock of that name, not taken yet; to acquire it waits for nobody unless asked to.

    Args:
        root: the store's folder.
        name: of the file.

    Raises:
        StorageError: nothing can be written there.
    """
    folder = root / "locks"
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name, timeout=0)


def is_running(root: Path, key: str) -> bool:
    """Whether some invocation, or a process that one left behind, works on the key now."""
    for name in _names(key):
        path = root / "locks" / name
        if path.is_file():
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                return True
            except OSError:  # a folder that may only be read
                continue
    return False


@contextmanager
def taken(root: Path, key: str) -> Iterator[bool]:
    """Holds both locks of a key, unless somebody works on it; whether it does.

    Raises:
        StorageError: nothing can be written there.
    """
    with ExitStack() as held:
        free = True
        try:
            for name in _names(key):
                held.enter_context(lock(root, name).acquire(timeout=_MOMENT))
        except Timeout:
            held.close()
            free = False
        yield free


def _names(key: str) -> tuple[str, str]:
    return f"{key}.lock", f"{key}.work.lock"
