"""A file that grows part by part, and a journal that says which parts are whole.

A part is written and synced before its line in the journal is, so that after a kill at any moment
the journal's whole lines say what the file holds; whatever follows is cut off, and the work goes on
behind it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from passt_bench.errors import InputError
from passt_bench.records.files import storing


@dataclass(frozen=True)
class Entry:
    """What the journal says of a part.

    Attributes:
        sizes: bytes of each clip; 0 for one that broke.
        clipped: place in the part → samples beyond ±1.
        lost: place in the part → why it broke.
        cut: clips that were longer than wanted.
        samples: of all clips.
        sha256: of the part's bytes.
    """

    sizes: list[int]
    clipped: dict[int, int] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    cut: int = 0
    samples: int = 0
    sha256: str = ""


class FlatFile:
    """The file and its journal, opened to be continued.

    Args:
        path: of the file; the journal lies beside it.
        identity: of the work; what was begun for another is not continued.

    Raises:
        InputError: other work was begun there, or there is a file without a journal.
        StorageError: nothing can be written there.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.journal = path, path.with_suffix(".journal")
        self._identity = dict(identity)
        self.entries: list[Entry] = []
        with storing(path):
            end = self._read_journal()
            self._file = self._open_at(end)
            self._lines = self.journal.open("ab")

    def __enter__(self) -> FlatFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lines.close()

    def _read_journal(self) -> int:
        """Takes the whole lines, cuts off the rest; bytes of the file that they speak of."""
        head = json.dumps(self._identity, sort_keys=True).encode() + b"\n"
        if not self.journal.exists():
            if self.path.exists():
                raise _foreign(self.path, "the file was not begun by this command")
            self.journal.write_bytes(b"")
        content = self.journal.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        first, _, rest = whole.partition(b"\n")
        if not whole:
            first, rest = head[:-1], b""
            self._rewrite(head)
        elif first != head[:-1]:
            raise _foreign(self.journal, "other clips were begun there", first.decode())
        else:
            self._rewrite_to(len(whole))
        self.entries = [_entry(line) for line in rest.splitlines()]
        return sum(sum(entry.sizes) for entry in self.entries)

    def _rewrite(self, content: bytes) -> None:
        with self.journal.open("wb") as file:
            file.write(content)
            os.fsync(file.fileno())

    def _rewrite_to(self, size: int) -> None:
        with self.journal.open("r+b") as file:
            file.truncate(size)

    def _open_at(self, end: int) -> BinaryIO:
        file = self.path.open("r+b" if self.path.exists() else "w+b")
        if file.seek(0, 2) < end:
            file.close()
            raise _foreign(self.path, "shorter than its journal says")
        file.truncate(end)
        file.seek(end)
        return file

    def append(self, data: bytes, entry: Entry) -> None:
        """Adds a part; it stands on the disk when this returns.

        Raises:
            StorageError: the disk is full.
        """
        told = asdict(entry) | {"sha256": hashlib.sha256(data).hexdigest()}
        with storing(self.path):
            for file, content in ((self._file, data), (self._lines, _line(told))):
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        self.entries.append(Entry(**told))

    def verify(self, progress: Callable[[float], None]) -> str:
        """Reads all of it again; SHA-256 of the whole.

        Raises:
            InputError: a part is not what was written.
        """
        whole = hashlib.sha256()
        self._file.seek(0)
        for number, entry in enumerate(self.entries):
            data = self._file.read(sum(entry.sizes))
            if hashlib.sha256(data).hexdigest() != entry.sha256:
                raise _foreign(self.path, f"part {number} does not read as it was written")
            whole.update(data)
            progress((number + 1) / len(self.entries))
        return whole.hexdigest()

    def sizes(self) -> np.ndarray:
        """(clips,) int64, bytes of each clip."""
        return np.array([size for entry in self.entries for size in entry.sizes], dtype=np.int64)

    def read(self, start: int, size: int) -> bytes:
        """Bytes from somewhere in the file."""
        self._file.seek(start)
        return self._file.read(size)


def _line(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _entry(line: bytes) -> Entry:
    told = json.loads(line)
    for name in ("clipped", "lost"):
        told[name] = {int(place): value for place, value in told[name].items()}
    return Entry(**told)


def _foreign(path: Path, problem: str, found: str | None = None) -> InputError:
    return InputError(
        problem,
        source=path,
        field="--out" if found else None,
        value=found,
        remedy="Give another folder by --out, or remove what stands there.",
    )
