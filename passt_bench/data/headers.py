"""Checks whether an audio file is as long as its header states.

For Ogg files also whether a page is damaged or missing, which a decoder skips silently.

Source: RFC 3533 (pages of Ogg files, their numbers and checksums).
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import BinaryIO

from passt_bench.data.mp3_frames import Beginning, Look, cut_off, look_at_mp3

_TAIL = 1 << 16  # bytes; an Ogg page is no longer
_LAST_PAGE = 4  # flag in the header of an Ogg page
_UNKNOWN = 0xFFFFFFFF  # size of a part that was unknown when it was written
# Sizes of a WAV's data, as programs write them into a pipe. SoX has its own number, and
# arecord has two: the maximum that it records, and its maximum for a WAV.
_UNKNOWN_LENGTHS = (_UNKNOWN, 0x7FFFF000, 0x7FFFFF00, 0x80000000)
_HEAD = 27  # bytes of a page before the lengths of its parts
_FIRST = 2  # flag of the first page of a stream
_AHEAD = 1.0  # seconds that a decoder may look ahead
_OPUS_RATE = 48000  # Hz in which Opus counts, regardless of the source (RFC 7845)
_BLOCK = 1 << 16  # bytes read at a time to find the next page
SEVERAL = "several recordings in a row; only the first would be decoded"
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def look_at(sound: Path | bytes) -> Look:
    """Inspects a WAV, AIFF, AU, Ogg or MP3 file for completeness and length.

    libsndfile decodes incomplete files of these formats without an error, but not those of FLAC.

    Args:
        sound: an audio file of any format, or its bytes; other formats are not inspected.
    """
    with sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound) as file:
        head = file.read(28)
        size = file.seek(0, 2)
        if (expected := _expected_bytes(head)) is not None:
            return Look(cut_off("bytes", expected, size))
        if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
            return _look_at_wave(file, size)
        if head[:4] == b"OggS":
            return Look(_end_of_ogg(file, size))
        return look_at_mp3(file, size)


def _expected_bytes(head: bytes) -> int | None:
    """Bytes of a whole AIFF, AU, RF64 or W64 file by its first 28; None for other formats."""
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return 8 + int.from_bytes(head[4:8])
    if head[:4] == b".snd":
        begin, length = int.from_bytes(head[4:8]), int.from_bytes(head[8:12])
        return begin + (0 if length == _UNKNOWN else length)
    if head[:4] == b"RF64" and head[12:16] == b"ds64":
        return 8 + int.from_bytes(head[20:28], "little")
    if head[:4] == b"riff":
        return int.from_bytes(head[16:24], "little")
    return None


def _look_at_wave(file: BinaryIO, size: int) -> Look:
    """Inspects a WAV; an unknown length means up to the end of the file."""
    file.seek(12)
    while len(chunk := file.read(8)) == 8:
        expected, begin = int.from_bytes(chunk[4:], "little"), file.tell()
        if chunk[:4] == b"data":
            if expected in _UNKNOWN_LENGTHS and expected > size - begin:
                return Look()  # the decoder reads to the end
            if expected == 0 and not _ends_with_chunks(file, size):
                file.seek(0)  # decoders understand this mark
                return Look(None, Beginning(file.read(begin - 4) + b"\xff" * 4, begin))
            return Look(cut_off("bytes", expected, size - begin))
        file.seek(expected + expected % 2, 1)
    return Look()


def _ends_with_chunks(file: BinaryIO, size: int) -> bool:
    """Whether a WAV holds only chunks, and no sound, from here to its end."""
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
        return "cut off: the last page of the stream is missing"
    file.seek(0)
    return None if head[14:18] in begun(file) else SEVERAL


def broken_page(file: BinaryIO, rate: int, end: float = math.inf) -> str | None:
    """The first page that is damaged or missing, in words; None if there is none.

    Bytes between pages are skipped, as decoders do; the number of the next page shows a gap.

    Args:
        file: an Ogg file, at its beginning.
        rate: sampling rate in Hz.
        end: seconds; later pages are not checked. Those before a clip are, since after a gap a
            decoder seeks to a wrong position.
    """
    numbers: dict[bytes, int] = {}  # stream → number of its next page
    beginning = True  # parallel streams begin before anything else
    while len(head := _next_head(file)) == _HEAD:
        lengths = file.read(head[26])
        reached = int.from_bytes(head[6:14], "little", signed=True)
        stream, number, first = head[14:18], int.from_bytes(head[18:22], "little"), head[5] & _FIRST
        body = file.read(sum(lengths))
        place = file.tell() - len(head) - len(lengths) - len(body)
        if _checksum(head[:22] + bytes(4) + head[26:] + lengths + body) != head[22:26]:
            return f"damaged: the page at byte {place} does not fit its checksum"
        if first and not beginning:
            return SEVERAL
        if first:
            numbers[stream] = number
            rate = _OPUS_RATE if body.startswith(b"OpusHead") else rate
        else:
            beginning = False
        if number != numbers.get(stream):
            return f"damaged: pages are missing at byte {place}"
        numbers[stream] = number + 1
        if reached > (end + _AHEAD) * rate:
            return None
    return None


def begun(file: BinaryIO) -> set[bytes]:
    """Serial numbers of the parallel streams at the beginning of an Ogg file.

    Args:
        file: an Ogg file, at its beginning.
    """
    streams: set[bytes] = set()
    while (head := file.read(_HEAD))[:4] == b"OggS" and len(head) == _HEAD and head[5] & _FIRST:
        streams.add(head[14:18])
        file.seek(sum(file.read(head[26])), 1)
    return streams


def _next_head(file: BinaryIO) -> bytes:
    """Reads the head of the next page; less than a head at the end of the file."""
    head = file.read(_HEAD)
    if head[:4] == b"OggS":
        return head
    held = head
    while (at := held.find(b"OggS")) < 0:
        block = file.read(_BLOCK)
        if not block:
            return b""
        held = held[-3:] + block  # a mark may be split between two blocks
    file.seek(at - len(held), 1)
    return file.read(_HEAD)


def _checksum(page: bytes) -> bytes:
    """CRC of a page: zlib's polynomial, but most significant bit first and starting at zero."""
    checksum = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return checksum.to_bytes(4, "big").translate(_MIRRORED)
