"""Opens audio files for decoding, from disk or as bytes, and refuses those that are not whole."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile

from passt_bench.data.headers import look_at
from passt_bench.data.mended import Beginning, Mended
from passt_bench.data.ogg_pages import broken_page
from passt_bench.errors import InputError

_UNTOLD = 2**63 - 1  # samples, where a header does not tell


@dataclass(frozen=True)
class Encoded:
    """The bytes of an audio file that lies in another file.

    Attributes:
        data: all of them.
        source: where they lie, for messages.
    """

    data: bytes
    source: str

    def __str__(self) -> str:
        return self.source


Sound = Path | Encoded


@contextmanager
def opened(sound: Sound) -> Iterator[soundfile.SoundFile]:
    """A file that is there, holds sound, and is whole as far as its header tells.

    Where the header leaves the length open, the file is read up to its end.

    Raises:
        InputError: the file is missing, is no audio, is cut off, or holds no samples; and inside
            the block, what cannot be decoded.
    """
    try:
        _check_there(sound)
        look = look_at(sound if isinstance(sound, Path) else sound.data)
        if look.missing is not None:
            raise broken(sound, look.missing)
        with _source(sound, look.beginning) as source, soundfile.SoundFile(source) as file:
            if file.frames == 0:
                raise broken(sound, "the file holds no samples")
            if file.frames == _UNTOLD:
                raise broken(sound, "the header does not tell how many samples there are")
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(sound, error) from None


def check_pages(file: soundfile.SoundFile, sound: Sound, end: int | None = None) -> None:
    """Refuses an Ogg file with a hole, over which its decoder would jump.

    Args:
        file: the open file.
        sound: the same.
        end: the sample behind the last that is wanted; None is the end of the file.

    Raises:
        InputError: a page is damaged or missing.
    """
    if file.format == "OGG":
        with _raw(sound) as raw:
            rate, last = file.samplerate, file.frames if end is None else end
            damage = broken_page(raw, rate, last / rate)
        if damage is not None:
            raise broken(sound, damage)


def _raw(sound: Sound) -> BinaryIO:
    return sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound.data)


def _source(sound: Sound, beginning: Beginning | None) -> AbstractContextManager[Path | BinaryIO]:
    """What soundfile is to read; by itself it reads a file faster than through Python."""
    if beginning is not None:
        return io.BufferedReader(Mended(_raw(sound), beginning))
    return nullcontext(sound) if isinstance(sound, Path) else _raw(sound)


def _check_there(sound: Sound) -> None:
    """Refuses what has no bytes to look at."""
    if isinstance(sound, Path):
        if sound.is_dir():
            raise broken(sound, "a folder, and no file")
        if not sound.exists():
            raise broken(sound, "no such file")
    size = sound.stat().st_size if isinstance(sound, Path) else len(sound.data)
    if size == 0:
        raise broken(sound, "empty, 0 bytes")


def _unreadable(sound: Sound, error: soundfile.LibsndfileError | OSError) -> InputError:
    # Without the path that the library puts before it: a reason goes into records.
    reason = error.strerror if isinstance(error, OSError) else error.error_string
    return broken(sound, f"not readable as audio ({reason})")


def broken(sound: Sound, problem: str) -> InputError:
    """What is wrong with a file, and what to do about it."""
    remedy = "Replace the file, or remove it together with its metadata row."
    if isinstance(sound, Encoded):
        remedy = "Write that row of the HDF5 file anew, or leave it out."
    return InputError(problem, source=sound, remedy=remedy)
