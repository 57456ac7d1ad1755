"""Checks whether an mp3 file is complete, and counts its frames if its header does not state them.

The first frame may state how many bytes and frames follow; this is compared with the size. Without
it, as in streams and in files of some encoders, a decoder assumes that all frames are as long as
the first, and at a variable bit rate decodes only a part or expects too much. Then all frames are
counted here, and the decoder gets the file with another beginning: a frame that states the number.
The file itself is not changed.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing and LAME header in the first frame.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Buffer

# kbit/s of layer III by the header's index; 0 is the free format, which is not supported.
_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_MONO = 3
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags of a Xing header that states their number
_VBRI = 36  # offset of the header of Fraunhofer's encoder in the first frame
_SEARCHED = 1 << 20  # bytes after a gap that are searched for more frames
_SHARED = 0xFFFE0C00  # bits of a header that are the same in all frames of a file
_IN_A_ROW = 3  # consecutive headers that prove frames
_LONGEST = 1441  # bytes of a frame


@dataclass(frozen=True)
class Beginning:
    """Bytes to read in place of the beginning of a file.

    Attributes:
        content: the bytes.
        replaced: how many bytes of the file they replace.
    """

    content: bytes
    replaced: int


class PatchedFile(io.RawIOBase):
    """A readable file with another beginning; closing it closes the file."""

    def __init__(self, file: BinaryIO, beginning: Beginning) -> None:
        self._file, self._head = file, beginning.content
        self._shift = beginning.replaced - len(beginning.content)
        self._place = 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a position, as in any file."""
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            offset += self._file.seek(0, io.SEEK_END) - self._shift
        self._place = offset
        return offset

    def readinto(self, buffer: Buffer) -> int:
        """Reads into the buffer; fewer bytes than it holds at the end of the beginning."""
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
        """Closes this file and the file behind it."""
        self._file.close()
        super().close()


class Look(NamedTuple):
    """The result of inspecting header, frames and end of a file.

    Attributes:
        problem: what is wrong with it; None if it is complete.
        beginning: what a decoder must read instead of the file's own; None if unchanged.
    """

    problem: str | None = None
    beginning: Beginning | None = None


class _Stated(NamedTuple):
    """Numbers that the header in the first frame states; None if it does not."""

    frames: int | None
    size: int | None  # bytes of all frames


def look_at_mp3(file: BinaryIO, size: int) -> Look:
    """Inspects an mp3 file for completeness and length; an empty result for other files.

    Args:
        file: must be seekable.
        size: size in bytes.
    """
    start = _first_frame(file)
    if start is None:
        return Look()
    file.seek(start)
    head = file.read(4)
    length = frame_length(head)
    assert length is not None
    stated = _stated_count(head, file.read(length - 4))
    if stated is not None and stated.frames and stated.size:
        return Look(
            cut_off("bytes", stated.size, size - start)
            or _ignored_frames(file, start + stated.size, size)
        )
    begin = start if stated is None else start + length  # such a frame has no sound
    count, problem = _count(file, begin, size)
    if problem is None and stated is not None and stated.frames:
        more = f"the header states {stated.frames} frames, but the file has {count}"
        return Look(
            cut_off("frames", stated.frames, count) or (more if count > stated.frames else None)
        )
    return Look(problem, Beginning(_number_frame(head, count), begin) if count else None)


def frame_length(head: bytes) -> int | None:
    """Bytes of a frame of layer III by its first four; None if they do not begin one."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version not in _RATES or kbits in (0, 15) or rate == 3:
        return None
    table, slots = (_MPEG1, 144000) if version == 3 else (_MPEG2, 72000)
    return slots * table[kbits] // _RATES[version][rate] + (head[2] >> 1 & 1)


def cut_off(what: str, expected: int, found: int) -> str | None:
    """The problem of a file that has less than its header states; None if it has all."""
    if expected <= found:
        return None
    return f"cut off: {expected} {what} expected, {found} found"


def _ignored_frames(file: BinaryIO, place: int, size: int) -> str | None:
    """The problem of a file with more than a frame or two after its end according to the header.

    Some encoders do not count the header's own frame.
    """
    if size - place <= _IN_A_ROW * _LONGEST:
        return None
    more = _next_frames(file, place)
    if more is None or size - more <= _IN_A_ROW * _LONGEST:
        return None
    return f"several recordings: one ends at byte {place}, and what follows would be ignored"


def _first_frame(file: BinaryIO) -> int | None:
    """Where frames begin, after ID3 tags; None in a file of another kind."""
    start = _behind_tags(file, 0)
    file.seek(start)
    head = file.read(4)
    if frame_length(head) is not None:
        return start
    # A tag may be longer than it states.
    return _next_frames(file, start) if start and head != b"fLaC" else None


def _behind_tags(file: BinaryIO, place: int) -> int:
    """The end of the ID3 tags that begin at an offset."""
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
    """Number of frames from an offset on, and what is wrong with them."""
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
            return count, "cut off: the last frame is incomplete"
    more = _next_frames(file, place)
    if more is None:
        return count, None
    return count, f"damaged: the frames break off at byte {place}, and others begin at byte {more}"


def _kind(head: bytes) -> int:
    """The bits that the frames of a file share: version, layer and sampling rate."""
    return int.from_bytes(head, "big") & _SHARED


def _next_frames(file: BinaryIO, place: int) -> int | None:
    """Offset of the first of several consecutive frames, from an offset on."""
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


def _stated_count(head: bytes, rest: bytes) -> _Stated | None:
    """The numbers stated in the first frame; None if it is a frame like the others."""
    if rest[_VBRI - 4 : _VBRI] == b"VBRI":
        return _Stated(None, None)  # the decoder does not read it
    side = _side(head) + (0 if head[1] & 1 else 2)  # a checksum
    if rest[side : side + 4] not in (b"Xing", b"Info"):
        return None
    fields = rest[side + 4 :]
    flags, at, stated = int.from_bytes(fields[:4], "big"), 4, []
    for flag in (_HAS_FRAMES, _HAS_BYTES):
        stated.append(int.from_bytes(fields[at : at + 4], "big") or None if flags & flag else None)
        at += 4 if flags & flag else 0
    return _Stated(*stated)


def _side(head: bytes) -> int:
    """Bytes of a frame's side information."""
    mono = head[3] >> 6 == _MONO
    return (17 if mono else 32) if head[1] >> 3 & 3 == 3 else (9 if mono else 17)


def _number_frame(head: bytes, frames: int) -> bytes:
    """A frame without sound that states how many follow.

    A decoder that knows the number drops its own delay of 529 samples at the start, as in files of
    common encoders. Silent frames to compensate would be wrong: if a file begins in the middle of a
    stream, its first frames refer to bits of earlier ones and would read these instead.

    Args:
        head: the header of a frame of the file.
        frames: number of frames of the file.
    """
    kbits = 5 if head[1] >> 3 & 3 == 3 else 8  # 64 kbit/s
    info = bytes([0xFF, head[1] | 1, kbits << 4 | head[2] & 0x0C, head[3] & 0xC0])
    number = _HAS_FRAMES.to_bytes(4, "big") + frames.to_bytes(4, "big")
    return _filled(info + bytes(_side(head)) + b"Info" + number)


def _filled(frame: bytes) -> bytes:
    length = frame_length(frame)
    assert length is not None
    return frame.ljust(length, b"\0")
