"""Audio files to waveforms, by soundfile (WAV, FLAC, Ogg, MP3); from disk, or as bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from passt_bench.data.headers import missing_end
from passt_bench.errors import InputError
from passt_bench.torchaudio_guard import resample

RESAMPLER = "torchaudio sinc_interp_hann"
_BLOCK = 1 << 20  # samples read at a time
_MP3_BACK = 16 * 1152  # samples; frames of an MP3 build on those before them


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


@dataclass(frozen=True)
class Stretch:
    """A part of a file, in seconds from its beginning.

    Attributes:
        start: where it begins.
        end: where it ends; None at the end of the file.
    """

    start: float = 0.0
    end: float | None = None

    def frames(self, rate: int) -> tuple[int, int | None]:
        """First frame, and the one after the last, at a rate in Hz."""
        return round(self.start * rate), None if self.end is None else round(self.end * rate)


WHOLE = Stretch()


@dataclass(frozen=True)
class Header:
    """What the header of a file says."""

    rate: int  # Hz
    channels: int
    frames: int = 0  # samples of each channel, as far as the header tells


def read_header(sound: Sound) -> Header:
    """Rate and channels of a file that is there, whole, and holds sound.

    Raises:
        InputError: the file is missing, is no audio, is cut off, or holds no samples.
    """
    try:
        _check_there(sound)
        lost = missing_end(sound if isinstance(sound, Path) else sound.data)
        if lost is not None:
            raise _broken(sound, lost)
        info = soundfile.info(_opened(sound))
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(sound, error) from None
    if info.frames == 0:
        raise _broken(sound, "the file holds no samples")
    return Header(int(info.samplerate), int(info.channels), int(info.frames))


def length_at(header: Header, sampling_rate: int) -> int:
    """Samples of a whole clip once it is resampled."""
    return math.ceil(header.frames * sampling_rate / header.rate)


def read_whole(sound: Sound, sampling_rate: int) -> np.ndarray:
    """Mono float32 samples at the given rate, all of them.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, or holds NaN.
    """
    return _mono(sound, sampling_rate, None)


def read_waveform(
    sound: Sound, sampling_rate: int, samples: int, start: int = 0, stretch: Stretch = WHOLE
) -> np.ndarray:
    """Mono float32 samples at the given rate, cut or zero-padded at the end to a length.

    No more of the file is read than the result needs, whatever its header promises.

    Args:
        sound: an audio file of any rate and number of channels.
        sampling_rate: Hz of the result.
        samples: length of the result.
        start: samples of the stretch, at ``sampling_rate``, that come before the result.
        stretch: the part of the file that is the clip; nothing outside it is heard.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, holds NaN, or ends before the
            stretch begins.
    """
    wave = _mono(sound, sampling_rate, samples, start, stretch)
    fitted = np.zeros(samples, dtype=np.float32)
    fitted[: len(wave)] = wave[:samples]
    return fitted


def _mono(
    sound: Sound,
    sampling_rate: int,
    samples: int | None,
    start: int = 0,
    stretch: Stretch = WHOLE,
) -> np.ndarray:
    """At least ``samples`` from ``start`` on, or all for None."""
    rate = read_header(sound).rate
    # Reading begins where a sample of the file and one of the result fall together, and before the
    # first that the resampler looks back on: the result does not depend on where it was cut.
    common = math.gcd(rate, sampling_rate)
    step, apart = rate // common, sampling_rate // common
    back = 0 if rate == sampling_rate else -(-rate // (10 * step))
    skipped = max(0, start // apart - back)
    first, last = stretch.frames(rate)
    needed = None if last is None else max(0, last - first - skipped * step)
    if samples is not None:
        wanted = math.ceil((start - skipped * apart + samples) * rate / sampling_rate)
        if rate != sampling_rate:
            wanted += rate  # a second more than the resampler looks ahead
        needed = wanted if needed is None else min(needed, wanted)
    try:
        audio, promised = _read(sound, first + skipped * step, needed)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(sound, error) from None
    if first and first >= promised:
        raise _broken(sound, f"the clip starts at {stretch.start:g} s, where the file has ended")
    left = max(0, promised - first - skipped * step)
    if len(audio) < (left if needed is None else min(needed, left)):
        there = first + skipped * step + len(audio)
        raise _broken(sound, f"cut off: {promised} samples are promised, {there} are there")
    wave: np.ndarray = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    if not np.isfinite(wave).all():
        raise _broken(sound, "the file holds NaN or infinity")
    if rate != sampling_rate and len(wave):
        wave = resample(torch.from_numpy(wave), rate, sampling_rate).numpy()
    return wave[start - skipped * apart :]


def _read(sound: Sound, first: int, most: int | None) -> tuple[np.ndarray, int]:
    """Samples (n, channels) from ``first`` on, and how many the file says it has in all.

    In blocks: what a header promises is never asked for at once.
    """
    with soundfile.SoundFile(_opened(sound)) as file:
        promised = int(file.frames)
        left = max(0, promised - first)
        left = left if most is None else min(most, left)
        blocks = [np.zeros((0, file.channels), dtype=np.float32), *blocks_of(file, first, left)]
        return np.concatenate(blocks) if len(blocks) != 2 else blocks[1], promised


def blocks_of(
    file: soundfile.SoundFile, first: int, most: int, size: int = _BLOCK
) -> Iterator[np.ndarray]:
    """Samples (n, channels) float32 of an open file, in blocks.

    soundfile seeks after each read, and what comes after a seek in an MP3 is wrong for up to five
    frames in a third of all places (libsndfile 1.2.2): there each block begins with samples before
    it, which are read in the same call and dropped.

    Args:
        file: open for reading.
        first: sample to begin with.
        most: samples to read; fewer where the file ends before.
        size: samples of a block.
    """
    behind = _MP3_BACK if file.format == "MP3" else 0
    place, end = first, first + most
    while place < end:
        back = min(place, behind)
        if (place == first and place) or back:
            file.seek(place - back)
        read = file.read(back + min(end - place, size), dtype="float32", always_2d=True)
        if len(read) <= back:
            return
        yield read[back:]
        place += len(read) - back


def _opened(sound: Sound) -> Path | io.BytesIO:
    """What soundfile reads from."""
    return sound if isinstance(sound, Path) else io.BytesIO(sound.data)


def _check_there(sound: Sound) -> None:
    """Refuses what has no bytes to look at."""
    if isinstance(sound, Path):
        if sound.is_dir():
            raise _broken(sound, "a folder, and no file")
        if not sound.exists():
            raise _broken(sound, "no such file")
    size = sound.stat().st_size if isinstance(sound, Path) else len(sound.data)
    if size == 0:
        raise _broken(sound, "empty, 0 bytes")


def _unreadable(sound: Sound, error: soundfile.LibsndfileError | OSError) -> InputError:
    # Without the path that the library puts before it: a reason goes into records.
    reason = error.strerror if isinstance(error, OSError) else error.error_string
    return _broken(sound, f"not readable as audio ({reason})")


def _broken(sound: Sound, problem: str) -> InputError:
    remedy = "Replace the file, or remove it together with its metadata row."
    if isinstance(sound, Encoded):
        remedy = "Write that row of the HDF5 file anew, or leave it out."
    return InputError(problem, source=sound, remedy=remedy)
