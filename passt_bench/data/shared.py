"""Hands an open data set to other processes through a file, so that they need not open it."""

from __future__ import annotations

import fcntl
import os
import pickle
import tempfile
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Lock

from passt_bench.data.dataset import Dataset
from passt_bench.records.files import storing

_PREFIX = "shared-"
_LOCKING_SECONDS = 60.0  # a new file may not be locked yet


class SharedDataset:
    """A data set that was opened and fingerprinted once, for any number of processes.

    Pickling it writes the data set to a file in a folder (by default that for temporary files),
    once, and passes on the file's name. The file is removed with the object that wrote it, and
    locked until then; files left by killed processes are removed before a new one is written.
    """

    def __init__(
        self, dataset: Dataset | None, folder: Path | None = None, path: Path | None = None
    ) -> None:
        self._dataset, self._folder, self._path, self._lock = dataset, folder, path, Lock()

    @property
    def dataset(self) -> Dataset:
        """The data set; read from the file when it is first needed."""
        with self._lock:
            if self._dataset is None:
                assert self._path is not None
                with self._path.open("rb") as file:
                    self._dataset = pickle.load(file)
            return self._dataset

    def write(self) -> Path:
        """Writes the file unless it is there.

        Raises:
            StorageError: the folder is full or cannot be written to.
        """
        with self._lock:
            if self._path is None:
                folder = self._folder or Path(tempfile.gettempdir())
                with storing(folder):
                    folder.mkdir(parents=True, exist_ok=True)
                    for left in abandoned(folder):
                        left.unlink(missing_ok=True)
                    handle, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
                    fcntl.flock(handle, fcntl.LOCK_EX)
                    # Only by this process: a fork may end earlier.
                    weakref.finalize(self, _remove, Path(name), handle, os.getpid())
                    with os.fdopen(handle, "wb", closefd=False) as file:
                        pickle.dump(self._dataset, file)
                self._path = Path(name)
            return self._path

    def __reduce__(self) -> tuple[type[SharedDataset], tuple[None, None, Path]]:
        return SharedDataset, (None, None, self.write())


def abandoned(folder: Path) -> Iterator[Path]:
    """The files of processes that were killed: the kernel released their locks."""
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_mtime < time.time() - _LOCKING_SECONDS:
                yield path


def _remove(path: Path, handle: int, process: int) -> None:
    if os.getpid() == process:
        with suppress(OSError):
            path.unlink()
            os.close(handle)
