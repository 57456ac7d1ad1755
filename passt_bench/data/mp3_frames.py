"""The frames of an mp3 file, as far as is needed to tell how many there are and whether all are.

Where the first frame says how many bytes and frames follow, that is believed, and compared with the
size. Where it does not, as in streams and in files of some encoders, a decoder takes all frames to
be as long as the first, and at a variable bit rate gives a part of the sound, or promises more than
there is. Then all frames are counted here, and the decoder is given another beginning of the file,
with a frame that says the number; the file stays as it is.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing and LAME header in the first frame.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

# kbit/s of layer III by the header's index; 0 is free, which is not followed.
_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_MONO = 3
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags of a Xing header that tells their number
_VBRI = 36  # where the header of Fraunhofer's encoder stands in the first frame
_SEARCHED = 1 << 20  # bytes behind a break that are looked through for more frames
_SHARED = 0xFFFE0C00  # bits of a header that are the same in all frames of a file
_IN_A_ROW = 3  # headers that are no accident
_LONGEST = 1441  # bytes of a frame


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


class Frames(NamedTuple):
    """What the frames of a file tell.

    Attributes:
        missing: what is wrong with them; None where nothing is.
        beginning: what a decoder has to be given in place of the file's own; None for nothing.
    """

    missing: str | None = None
    beginning: Beginning | None = None


class _Told(NamedTuple):
    """What the header in the first frame says; None where it does not."""

    frames: int | None
    size: int | None  # bytes of all frames


def look_at_mp3(file: BinaryIO, size: int) -> Frames:
    """Whether an mp3 file is whole, and how its length can be known; of other kinds nothing.

    Args:
        file: that can be sought in.
        size: its bytes.
    """
    start = _first_frame(file)
    if start is None:
        return Frames()
    file.seek(start)
    head = file.read(4)
    length = frame_length(head)
    assert length is not None
    told = _told(head, file.read(length - 4))
    if told is not None and told.frames and told.size:
        return Frames(
            _fewer("bytes", told.size, size - start) or _unheard(file, start + told.size, size)
        )
    begin = start if told is None else start + length  # such a frame holds no sound
    count, missing = _count(file, begin, size)
    if missing is None and told is not None and told.frames:
        more = f"the header tells of {told.frames} frames, and there are {count}"
        return Frames(
            _fewer("frames", told.frames, count) or (more if count > told.frames else None)
        )
    return Frames(missing, Beginning(_number_frame(head, count), begin) if count else None)


def frame_length(head: bytes) -> int | None:
    """Bytes of a frame of layer III by its first four; None where no frame begins."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version not in _RATES or kbits in (0, 15) or rate == 3:
        return None
    table, slots = (_MPEG1, 144000) if version == 3 else (_MPEG2, 72000)
    return slots * table[kbits] // _RATES[version][rate] + (head[2] >> 1 & 1)


def _fewer(what: str, promised: int, there: int) -> str | None:
    if promised <= there:
        return None
    return f"cut off: the header promises {promised} {what}, {there} are there"


def _unheard(file: BinaryIO, place: int, size: int) -> str | None:
    """What is wrong where more than a frame or two stands behind the end that a header tells of.

    Some encoders do not count the header's own frame.
    """
    if size - place <= _IN_A_ROW * _LONGEST:
        return None
    more = _going_on(file, place)
    if more is None or size - more <= _IN_A_ROW * _LONGEST:
        return None
    return f"several recordings: one ends at byte {place}, and what follows would not be heard"


def _first_frame(file: BinaryIO) -> int | None:
    """Where frames begin: behind ID3 tags; None in a file of another kind."""
    start = _behind_tags(file, 0)
    file.seek(start)
    head = file.read(4)
    if frame_length(head) is not None:
        return start
    # A tag may be longer than it says.
    return _going_on(file, start) if start and head != b"fLaC" else None


def _behind_tags(file: BinaryIO, place: int) -> int:
    """The end of the ID3 tags that begin at a place."""
    while True:
        file.seek(place)
        head = file.read(10)
        if head[:3] == b"ID3" and len(head) == 10:
            size = 0
            for byte in head[6:]:  # seven bits each
                size = size << 7 | byte & 0x7F
            place += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG" and place:
            place += 128
        else:
            return place


def _count(file: BinaryIO, place: int, size: int) -> tuple[int, str | None]:
    """Frames from a place on, and what is wrong with them."""
    count, kind = 0, None
    while True:
        file.seek(place)
        head = file.read(4)
        length = frame_length(head)
        if length is None or kind not in (None, _kind(head)):
            behind = _behind_tags(file, place)
            if behind == place or behind >= size:
                break
            place = behind
            continue
        count, kind, place = count + 1, _kind(head), place + length
        if place > size:
            return count, "cut off: the last frame is not whole"
    more = _going_on(file, place)
    if more is None:
        return count, None
    return count, f"damaged: the frames break off at byte {place}, and others begin at byte {more}"


def _kind(head: bytes) -> int:
    """What the frames of a file share: version, layer and sampling rate."""
    return int.from_bytes(head, "big") & _SHARED


def _going_on(file: BinaryIO, place: int) -> int | None:
    """Where several frames stand one behind the other, at a place or after it."""
    file.seek(place)
    rest = file.read(_SEARCHED)
    at = rest.find(0xFF)
    while at >= 0:
        end, kind, row = at, _kind(rest[at : at + 4]), 0
        while row < _IN_A_ROW and _kind(head := rest[end : end + 4]) == kind:
            if (length := frame_length(head)) is None:
                break
            end, row = end + length, row + 1
        if row == _IN_A_ROW or (row and end == len(rest)):
            return place + at
        at = rest.find(0xFF, at + 1)
    return None


def _told(head: bytes, rest: bytes) -> _Told | None:
    """What the first frame says of all; None where it is one like the others."""
    if rest[_VBRI - 4 : _VBRI] == b"VBRI":
        return _Told(None, None)  # which the decoder does not read
    side = _side(head) + (0 if head[1] & 1 else 2)  # a checksum
    if rest[side : side + 4] not in (b"Xing", b"Info"):
        return None
    fields = rest[side + 4 :]
    flags, at, told = int.from_bytes(fields[:4], "big"), 4, []
    for flag in (_HAS_FRAMES, _HAS_BYTES):
        told.append(int.from_bytes(fields[at : at + 4], "big") or None if flags & flag else None)
        at += 4 if flags & flag else 0
    return _Told(*told)


def _side(head: bytes) -> int:
    """Bytes of a frame that say how the sound in it is laid out."""
    mono = head[3] >> 6 == _MONO
    return (17 if mono else 32) if head[1] >> 3 & 3 == 3 else (9 if mono else 17)


def _number_frame(head: bytes, frames: int) -> bytes:
    """A frame that holds no sound and tells the number of those behind it.

    A decoder that knows the number leaves out its own delay of 529 samples at the start, as it does
    in files of common encoders. Frames without sound that make up for it would be wrong: where a
    file begins amid a stream, its first frames ask for bits of those before, and would find these.

    Args:
        head: the header of a frame of the file.
        frames: how many the file has.
    """
    kbits = 5 if head[1] >> 3 & 3 == 3 else 8  # 64 kbit/s
    info = bytes([0xFF, head[1] | 1, kbits << 4 | head[2] & 0x0C, head[3] & 0xC0])
    number = _HAS_FRAMES.to_bytes(4, "big") + frames.to_bytes(4, "big")
    return _filled(info + bytes(_side(head)) + b"Info" + number)


def _filled(frame: bytes) -> bytes:
    length = frame_length(frame)
    assert length is not None
    return frame.ljust(length, b"\0")
