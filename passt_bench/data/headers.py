"""Whether an audio file is as long as its header promises."""

from __future__ import annotations

from pathlib import Path

_TAIL = 1 << 16  # bytes; an Ogg page is no longer
_LAST_PAGE = 4  # flag in the header of an Ogg page


def missing_end(path: Path) -> str | None:
    """What a WAV or Ogg file lacks at its end, in words; None where it is whole.

    The decoder gives what is there and does not tell. Of FLAC and MP3 it tells by itself.

    Args:
        path: an audio file of any format; of formats unknown here nothing is said.
    """
    with path.open("rb") as file:
        head = file.read(12)
        file.seek(0, 2)
        size = file.tell()
        if head[:4] in (b"RIFF", b"RF64") and head[8:] == b"WAVE":
            file.seek(12)
            while len(chunk := file.read(8)) == 8:
                promised = int.from_bytes(chunk[4:], "little")
                if chunk[:4] == b"data" and head[:4] == b"RIFF":
                    there = size - file.tell()
                    if promised > there:
                        return f"cut off: the header promises {promised} bytes, {there} are there"
                    return None
                file.seek(promised + promised % 2, 1)
            return None
        if head[:4] == b"OggS":
            file.seek(max(0, size - _TAIL))
            tail = file.read()
            page = tail.rfind(b"OggS")
            if page < 0 or page + 5 >= len(tail) or not tail[page + 5] & _LAST_PAGE:
                return "cut off: the last page of the stream is not there"
    return None
