"""The pages of an Ogg file: whether one is damaged, or missing between others.

A decoder leaves such a page out and joins what stands before and behind it, without a word.

Source: RFC 3533 (pages, their numbers and checksums).
"""

from __future__ import annotations

import math
import zlib
from typing import BinaryIO

_HEAD = 27  # bytes of a page before the lengths of its parts
_FIRST = 2  # flag of the first page of a stream
_AHEAD = 1.0  # seconds that a decoder may look ahead
_OPUS_RATE = 48000  # Hz in which Opus counts, whatever it was made from (RFC 7845)
_BLOCK = 1 << 16  # bytes, in which the next page is looked for
SEVERAL = "several recordings, one behind the other; only the first would be heard"
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def broken_page(file: BinaryIO, rate: int, end: float = math.inf) -> str | None:
    """The first page that is damaged or missing, in words; None where there is none.

    What is no page is passed over, as decoders do; the number of the next page tells whether one
    is gone.

    Args:
        file: an Ogg file, at its beginning.
        rate: Hz of its sound.
        end: seconds; pages behind them are not looked at. Those before a clip are: behind a hole
            a decoder that is to begin later seeks to a wrong place.
    """
    numbers: dict[bytes, int] = {}  # of a stream → of the page that comes next
    beginning = True  # streams side by side begin before anything else
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
    """Serial numbers of the streams that begin with an Ogg file, side by side.

    Args:
        file: an Ogg file, at its beginning.
    """
    streams: set[bytes] = set()
    while (head := file.read(_HEAD))[:4] == b"OggS" and len(head) == _HEAD and head[5] & _FIRST:
        streams.add(head[14:18])
        file.seek(sum(file.read(head[26])), 1)
    return streams


def _next_head(file: BinaryIO) -> bytes:
    """Reads the head of the next page, from here or further on; less than one at the end."""
    head = file.read(_HEAD)
    if head[:4] == b"OggS":
        return head
    held = head
    while (at := held.find(b"OggS")) < 0:
        block = file.read(_BLOCK)
        if not block:
            return b""
        held = held[-3:] + block  # a mark may lie across two blocks
    file.seek(at - len(held), 1)
    return file.read(_HEAD)


def _checksum(page: bytes) -> bytes:
    """CRC of a page: zlib's polynomial, but most significant bit first and begun at zero."""
    found = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return found.to_bytes(4, "big").translate(_MIRRORED)
