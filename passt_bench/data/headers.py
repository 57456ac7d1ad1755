"""Whether an audio file is as long as its header promises, and what a decoder is to take it for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

from passt_bench.data.mended import Beginning
from passt_bench.data.mp3_frames import look_at_mp3
from passt_bench.data.ogg_pages import SEVERAL, begun

_TAIL = 1 << 16  # bytes; an Ogg page is no longer
_LAST_PAGE = 4  # flag in the header of an Ogg page
_LEFT_OPEN = 0xFFFFFFFF  # as the size of a part: whoever wrote it did not know
# Of a WAV's data, as programs write them into a pipe. SoX has a number of its own, and arecord two:
# the most that it records, and the most that it takes a WAV to hold.
_LENGTHS_LEFT_OPEN = (_LEFT_OPEN, 0x7FFFF000, 0x7FFFFF00, 0x80000000)


class Look(NamedTuple):
    """What a look at a file's header and end told.

    Attributes:
        missing: what is wrong, in words; None where the file is whole.
        beginning: what a decoder has to be given in place of the file's own; None for nothing.
    """

    missing: str | None = None
    beginning: Beginning | None = None


def look_at(sound: Path | bytes) -> Look:
    """What a WAV, AIFF, AU, Ogg or MP3 file lacks, and how a decoder can know its length.

    The decoder gives what is there and does not tell, or only at the end. Of FLAC it tells by
    itself.

    Args:
        sound: an audio file of any format, or its bytes; of formats unknown here nothing is said.
    """
    with sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound) as file:
        head = file.read(28)
        size = file.seek(0, 2)
        if (promised := _promised(head)) is not None:
            return Look(_cut_off(promised, size))
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return _look_at_wave(file, size)
        if head[:4] == b"OggS":
            return Look(_end_of_ogg(file, size))
        return Look(*look_at_mp3(file, size))


def _promised(head: bytes) -> int | None:
    """Bytes of a whole AIFF, AU, RF64 or W64 file by its first 28; None for other formats."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return 8 + int.from_bytes(head[4:8])
    if head[:4] == b".snd":
        begin, length = int.from_bytes(head[4:8]), int.from_bytes(head[8:12])
        return begin + (0 if length == _LEFT_OPEN else length)
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return 8 + int.from_bytes(head[20:28], "little")
    if head[:4] == b"riff":
        return int.from_bytes(head[16:24], "little")
    return None


def _cut_off(promised: int, there: int) -> str | None:
    if promised <= there:
        return None
    return f"cut off: the header promises {promised} bytes, {there} are there"


def _look_at_wave(file: BinaryIO, size: int) -> Look:
    """A length that was left open means: up to the end of the file."""
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        promised, begin = int.from_bytes(chunk[4:], "little"), file.tell()
        if chunk[:4] == b"data":
            if promised in _LENGTHS_LEFT_OPEN and promised > size - begin:
                return Look()  # the decoder reads up to there
            if promised == 0 and not _ends_with_chunks(file, size):
                file.seek(0)  # decoders understand the other mark
                return Look(None, Beginning(file.read(begin - 4) + b"\xff" * 4, begin))
            return Look(_cut_off(promised, size - begin))
        file.seek(promised + promised % 2, 1)
    return Look()


def _ends_with_chunks(file: BinaryIO, size: int) -> bool:
    """Whether chunks, and no sound, fill a WAV from here to its end."""
    while chunk := file.read(8):
        if len(chunk) < 8 or not chunk[:4].isascii() or 0 in chunk[:4]:
            return False
        length = int.from_bytes(chunk[4:], "little")
        file.seek(length + length % 2, 1)
    return file.tell() <= size + 1  # the last byte of an odd chunk may be missing


def _end_of_ogg(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    page = tail.rfind(b"OggS")
    head = tail[page : page + 18] if page >= 0 else b""
    if len(head) < 18 or not head[5] & _LAST_PAGE:
        return "cut off: the last page of the stream is not there"
    file.seek(0)
    return None if head[14:18] in begun(file) else SEVERAL
