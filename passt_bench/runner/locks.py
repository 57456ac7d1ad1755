"""Locks on a store's folder, all freed by the kernel when their holder dies.

Two a key: ``KEY.lock`` belongs to the invocation that has taken a cell or an evaluation on,
``KEY.work.lock`` to the process that computes a cell: should an invocation be killed, its process
may live on for a moment, and nobody writes beside it. What brings records of others holds both for
as long as it copies.

``studies.lock`` is the innermost: whoever has it waits for no other, and has it for moments only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from passt_bench.records.files import storing

PROGRESS = "progress.jsonl"  # a line an epoch; there from the beginning of a cell to its record
MERGE = "merge.lock"  # of all that merge into a folder, and of who gives a session its key
STUDIES = "studies.lock"  # of who writes a study or a search, or unites them with those of others
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


@contextmanager
def studies_held(root: Path) -> Iterator[None]:
    """Waits until nobody else writes studies or searches there, and keeps others from it.

    Raises:
        StorageError: nothing can be written there.
    """
    mine = lock(root, STUDIES)
    with storing(root / "locks" / STUDIES):
        mine.acquire(timeout=-1)
    try:
        yield
    finally:
        mine.release()


def discard(path: Path) -> None:
    """Removes the file of a lock, unless somebody holds it.

    It goes while it is held here. Who has opened it before and gets it afterwards is told by the
    kernel that it has no name any more; `FileLock` looks, and opens the file that has the name by
    then. So nobody holds a lock that others cannot see.

    Raises:
        StorageError: it cannot be removed.
    """
    with storing(path):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return


def _names(key: str) -> tuple[str, str]:
    return f"{key}.lock", f"{key}.work.lock"
