"""The frames of an mp3 file, as far as is needed to tell whether its end is there.

Sources: ISO/IEC 11172-3 and 13818-3 (frame headers), the Xing and LAME header in the first frame.
"""

from __future__ import annotations

from typing import BinaryIO

# kbit/s of layer III by the header's index; 0 is free, which is not followed.
_MPEG1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_MONO = 3
_HAS_BYTES = 2  # flag of a Xing header that tells the number of bytes


def end_of_mp3(file: BinaryIO, size: int) -> str | None:
    """What an mp3 file lacks at its end; None where nothing, and of files of other kinds.

    Args:
        file: that can be sought in.
        size: its bytes.
    """
    start = _behind_tag(file)
    file.seek(start)
    head = file.read(4)
    length = frame_length(head)
    if length is None:
        return None
    promised = _promised(head, file.read(length - 4))
    if promised is not None:
        there = size - start
        if promised > there:
            return f"cut off: the header promises {promised} bytes, {there} are there"
        return None
    while length is not None:
        start += length
        if start > size:
            return "cut off: the last frame is not whole"
        file.seek(start)
        length = frame_length(file.read(4))
    return None


def frame_length(head: bytes) -> int | None:
    """Bytes of a frame of layer III by its first four; None where no frame begins."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version not in _RATES or kbits in (0, 15) or rate == 3:
        return None
    table, slots = (_MPEG1, 144000) if version == 3 else (_MPEG2, 72000)
    return slots * table[kbits] // _RATES[version][rate] + (head[2] >> 1 & 1)


def _behind_tag(file: BinaryIO) -> int:
    """Where frames begin: behind an ID3 tag."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:  # seven bits each
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)


def _promised(head: bytes, rest: bytes) -> int | None:
    """Bytes of all frames as the first one says; None where it does not."""
    mono = head[3] >> 6 == _MONO
    side = (17 if mono else 32) if head[1] >> 3 & 3 == 3 else (9 if mono else 17)
    if not head[1] & 1:  # a checksum follows the header
        side += 2
    if rest[side : side + 4] not in (b"Xing", b"Info"):
        return None
    fields = rest[side + 4 :]
    flags = int.from_bytes(fields[:4], "big")
    if not flags & _HAS_BYTES:
        return None
    at = 8 if flags & 1 else 4  # behind the number of frames
    return int.from_bytes(fields[at : at + 4], "big") or None
