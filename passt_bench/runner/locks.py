"""Locks on a store's folder; the kernel releases them when their holder ends.

Each key has two: ``KEY.lock`` is held by the command that runs a cell or an evaluation,
``KEY.work.lock`` by the process that computes a cell. If a command is killed, its process may run
a moment longer, and no other may write to the same folder then.

``studies.lock`` is the innermost: its holder waits for no other lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from passt_bench.records.files import storing
from passt_bench.spec.key import is_key

PROGRESS = "progress.jsonl"  # one line per epoch; exists from the start of a cell to its record
MERGE = "merge.lock"  # held to choose the key of a session
STUDIES = "studies.lock"  # held to write or merge studies and searches


def lock(root: Path, name: str) -> FileLock:
    """A lock that is not held yet; acquiring it fails at once unless given a timeout.

    Args:
        root: the store's folder.
        name: name of the file.

    Raises:
        StorageError: nothing can be written there.
    """
    folder = root / "locks"
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / name, timeout=0)


def is_running(root: Path, key: str) -> bool:
    """Whether a command, or a process left by one, is working on the key."""
    for name in _names(key):
        path = root / "locks" / name
        if path.is_file():
            try:
                with FileLock(path, timeout=0):
                    pass
            except Timeout:
                return True
            except OSError:  # a read-only folder
                continue
    return False


def running_keys(root: Path) -> list[str]:
    """The keys that commands, or processes left by them, are working on in a folder."""
    keys = {path.name.partition(".")[0] for path in (root / "locks").glob("*.lock")}
    return [key for key in sorted(keys) if is_key(key) and is_running(root, key)]


@contextmanager
def studies_held(root: Path) -> Iterator[None]:
    """Waits for the lock on the studies and searches of a folder, and holds it.

    Raises:
        StorageError: nothing can be written there.
    """
    studies = lock(root, STUDIES)
    with storing(root / "locks" / STUDIES):
        studies.acquire(timeout=-1)
    try:
        yield
    finally:
        studies.release()


def discard(path: Path) -> None:
    """Removes the file of a lock, unless the lock is held.

    The file is removed while this process holds it. A process that opened it before and acquires it
    afterwards notices that the file was unlinked (`FileLock` checks) and opens the new one, so no
    process holds a lock that others cannot see.

    Raises:
        StorageError: the file cannot be removed.
    """
    with storing(path):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return


def _names(key: str) -> tuple[str, str]:
    return f"{key}.lock", f"{key}.work.lock"
