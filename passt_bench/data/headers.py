"""Whether an audio file is as long as its header promises."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

from passt_bench.data.mp3_frames import end_of_mp3

_TAIL = 1 << 16  # bytes; an Ogg page is no longer
_LAST_PAGE = 4  # flag in the header of an Ogg page


def missing_end(sound: Path | bytes) -> str | None:
    """What a WAV, AIFF, AU, Ogg or MP3 file lacks at its end, in words; None where it is whole.

    The decoder gives what is there and does not tell, or only at the end. Of FLAC it tells by
    itself.

    Args:
        sound: an audio file of any format, or its bytes; of formats unknown here nothing is said.
    """
    with sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound) as file:
        head = file.read(28)
        size = file.seek(0, 2)
        if (promised := _promised(head)) is not None:
            return _cut_off(promised, size)
        head = head[:12]
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _end_of_wave(file, size)
        if head[:4] == b"OggS":
            return _end_of_ogg(file, size)
        return end_of_mp3(file, size)


def _promised(head: bytes) -> int | None:
    """Bytes of a whole AIFF, AU, RF64 or W64 file by its first 28; None for other formats."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return 8 + int.from_bytes(head[4:8])
    if head[:4] == b".snd":
        begin, length = int.from_bytes(head[4:8]), int.from_bytes(head[8:12])
        return begin + (0 if length == 0xFFFFFFFF else length)  # which stands for: not known
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return 8 + int.from_bytes(head[20:28], "little")
    if head[:4] == b"riff":
        return int.from_bytes(head[16:24], "little")
    return None


def _cut_off(promised: int, there: int) -> str | None:
    if promised <= there:
        return None
    return f"cut off: the header promises {promised} bytes, {there} are there"


def _end_of_wave(file: BinaryIO, size: int) -> str | None:
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        promised = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            return _cut_off(promised, size - file.tell())
        file.seek(promised + promised % 2, 1)
    return None


def _end_of_ogg(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or page + 5 >= len(tail) or not tail[page + 5] & _LAST_PAGE:
        return "cut off: the last page of the stream is not there"
    return None
