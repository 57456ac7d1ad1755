"""Locks on a store's folder, all freed by the kernel when their holder dies.

Each key has two: ``KEY.lock`` belongs to the command that has taken a cell or an evaluation,
``KEY.work.lock`` to the process that computes a cell. If a command is killed, its process may live
for a moment longer, and no other may write to the same folder then. Merging records holds both
while it copies.

``studies.lock`` is the innermost: its holder waits for no other lock and holds it for moments only.
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
    """A lock of that name, not taken yet; acquiring it fails at once unless given a timeout.

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
    """Holds both locks of a key, unless it is being worked on; yields whether it does.

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
    """Waits for the right to write studies and searches there, and holds it.

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
    """Removes the file of a lock, unless it is held.

    It is removed while it is held here. A process that had opened it before and acquires it
    afterwards notices that the file has no name any more (`FileLock` checks) and opens the new
    one, so no process holds a lock that others cannot see.

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
