"""Hands an open data set to other processes through a file, so that they need not open it."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from passt_bench.data.dataset import Dataset
from passt_bench.records.files import storing

_ALIGNED = 64  # bytes, at which columns begin


class SharedDataset:
    """A data set that was opened and fingerprinted once, for any number of processes.

    Pickling it writes the data set to a temporary file, once, and passes on the file's name. A
    process that gets it maps the columns of the clip table into its memory instead of copying
    them. The file is removed with the object that wrote it.

    Args:
        dataset: the open data set; None in a process that reads the file.
        path: the file; None until it is written.
    """

    def __init__(self, dataset: Dataset | None, path: Path | None = None) -> None:
        self._dataset, self._path, self._lock = dataset, path, Lock()

    @property
    def dataset(self) -> Dataset:
        """The data set; read from the file when it is first needed."""
        with self._lock:
            if self._dataset is None:
                assert self._path is not None
                self._dataset = _read(self._path)
            return self._dataset

    def write(self) -> Path:
        """Writes the file unless it is there.

        Raises:
            StorageError: the folder for temporary files is full or cannot be written to.
        """
        with self._lock:
            if self._path is None:
                with storing(Path(tempfile.gettempdir())):
                    handle, name = tempfile.mkstemp(prefix="passt-bench-data-")
                    # Only by this process: a fork may end earlier.
                    weakref.finalize(self, _remove, Path(name), os.getpid())
                    with os.fdopen(handle, "wb") as file:
                        _write(file, self._dataset)
                self._path = Path(name)
            return self._path

    def __reduce__(self) -> tuple[type[SharedDataset], tuple[None, Path]]:
        return SharedDataset, (None, self.write())


def _write(file: BinaryIO, dataset: Dataset | None) -> None:
    """A pickle without the columns, with their sizes in bytes; then the columns."""
    columns: list[pickle.PickleBuffer] = []
    body = pickle.dumps(dataset, protocol=5, buffer_callback=columns.append)
    raw = [column.raw() for column in columns]
    pickle.dump((body, [column.nbytes for column in raw]), file)
    for column in raw:
        file.write(bytes(-file.tell() % _ALIGNED))
        file.write(column)


def _read(path: Path) -> Dataset:
    with path.open("rb") as file:
        body, sizes = pickle.load(file)
        at = file.tell()
        # A page is copied only where a process writes to it, which none does.
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    columns = []
    for size in sizes:
        at += -at % _ALIGNED
        columns.append(memory[at : at + size])
        at += size
    dataset: Dataset = pickle.loads(body, buffers=columns)
    return dataset


def _remove(path: Path, process: int) -> None:
    if os.getpid() == process:
        with suppress(OSError):
            path.unlink()
