"""Files whose header does not tell how long they are, with one before them that does.

A decoder believes what a header says. Where it says nothing or a wrong number, and the file itself
shows how much there is, the decoder is given another beginning; the file stays as it is.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


@dataclass(frozen=True)
class Beginning:
    """What stands in place of the first bytes of a file.

    Attributes:
        content: the bytes to be seen.
        behind: how many of the file's own are left out.
    """

    content: bytes
    behind: int


class Mended(io.RawIOBase):
    """A file with another beginning, for reading; closes the file with itself."""

    def __init__(self, file: BinaryIO, beginning: Beginning) -> None:
        self._file, self._head = file, beginning.content
        self._shift = beginning.behind - len(beginning.content)
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place, as of any file."""
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            offset += self._file.seek(0, io.SEEK_END) - self._shift
        self._place = offset
        return offset

    def readinto(self, buffer: Buffer) -> int:
        """Reads on; fewer bytes than the buffer takes where the beginning ends."""
        view = memoryview(buffer)
        if self._place < len(self._head):
            part = self._head[self._place : self._place + len(view)]
        else:
            self._file.seek(self._place + self._shift)
            part = self._file.read(len(view))
        view[: len(part)] = part
        self._place += len(part)
        return len(part)

    def close(self) -> None:
        """Closes the file too."""
        self._file.close()
        super().close()
