"""Opens audio files (WAV, FLAC, Ogg, MP3), from disk or as bytes, and decodes them to waveforms.

Incomplete files are refused.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from passt_bench.data.headers import broken_page, look_at
from passt_bench.data.mp3_frames import Beginning, PatchedFile
from passt_bench.errors import InputError

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"),
    *(".aiff", ".aif", ".au", ".caf", ".w64", ".rf64"),
)
RESAMPLER = "torchaudio sinc_interp_hann"
_UNKNOWN = 2**63 - 1  # samples, if a header does not state them
_BLOCK = 1 << 20  # samples read at a time
_MAX_PHASES = 4000  # of the resampler, which stores a filter per phase
_MP3_BACK = 16 * 1152  # samples; frames of an MP3 depend on earlier ones


@dataclass(frozen=True)
class Encoded:
    """The bytes of an audio file that is inside another file.

    Attributes:
        data: the bytes.
        source: file and row, for messages.
    """

    data: bytes
    source: str

    def __str__(self) -> str:
        return self.source


AudioFile = Path | Encoded


@contextmanager
def opened(sound: AudioFile) -> Iterator[soundfile.SoundFile]:
    """Opens an audio file that is complete according to its header.

    If the header does not state the length, the file is read to its end.

    Raises:
        InputError: the file is missing, is not audio, is cut off, or has no samples; inside the
            block also if it cannot be decoded.
    """
    try:
        _check_there(sound)
        look = look_at(sound if isinstance(sound, Path) else sound.data)
        if look.problem is not None:
            raise broken(sound, look.problem)
        with _source(sound, look.beginning) as source, soundfile.SoundFile(source) as file:
            if file.frames == 0:
                raise broken(sound, "the file holds no samples")
            if file.frames == _UNKNOWN:
                raise broken(sound, "the header does not state the number of samples")
            yield file
    except (soundfile.LibsndfileError, OSError) as error:
        # Without the library's prefix, the path, because the reason goes into records.
        reason = error.strerror if isinstance(error, OSError) else error.error_string
        raise broken(sound, f"not readable as audio ({reason})") from None


def check_pages(file: soundfile.SoundFile, sound: AudioFile, end: int | None = None) -> None:
    """Refuses an Ogg file with a hole, which its decoder would skip silently.

    Args:
        file: the open file.
        sound: the same file, to read its bytes.
        end: the sample after the last one needed; None is the end of the file.

    Raises:
        InputError: a page is damaged or missing.
    """
    if file.format == "OGG":
        with _raw(sound) as raw:
            rate, last = file.samplerate, file.frames if end is None else end
            damage = broken_page(raw, rate, last / rate)
        if damage is not None:
            raise broken(sound, damage)


def _raw(sound: AudioFile) -> BinaryIO:
    return sound.open("rb") if isinstance(sound, Path) else io.BytesIO(sound.data)


def _source(
    sound: AudioFile, beginning: Beginning | None
) -> AbstractContextManager[Path | BinaryIO]:
    """The input for soundfile: a path if possible, which it reads faster than a Python file."""
    if beginning is not None:
        return io.BufferedReader(PatchedFile(_raw(sound), beginning))
    return nullcontext(sound) if isinstance(sound, Path) else _raw(sound)


def _check_there(sound: AudioFile) -> None:
    if isinstance(sound, Path):
        if sound.is_dir():
            raise broken(sound, "a folder, not a file")
        if not sound.exists():
            raise broken(sound, "no such file")
    size = sound.stat().st_size if isinstance(sound, Path) else len(sound.data)
    if size == 0:
        raise broken(sound, "empty, 0 bytes")


def broken(sound: AudioFile, problem: str) -> InputError:
    """The error that names a file, its problem and the remedy."""
    remedy = "Replace the file, or remove it together with its metadata row."
    if isinstance(sound, Encoded):
        remedy = "Write that row of the HDF5 file again, or remove it."
    return InputError(problem, source=sound, remedy=remedy)


@dataclass(frozen=True)
class Segment:
    """A part of a file, in seconds from its beginning.

    Attributes:
        start: beginning.
        end: end; None is the end of the file.
    """

    start: float = 0.0
    end: float | None = None

    def samples(self, rate: int) -> tuple[int, int | None]:
        """First sample, and the one after the last, at a rate in Hz."""
        return round(self.start * rate), None if self.end is None else round(self.end * rate)


WHOLE = Segment()


@dataclass(frozen=True)
class Header:
    """The header of an audio file."""

    rate: int  # Hz
    channels: int
    samples: int = 0  # per channel


def read_header(sound: AudioFile, to_end: bool = False) -> Header:
    """Rate, channels and length of a complete audio file.

    Args:
        sound: an audio file.
        to_end: whether to also decode the last sample; some damage shows only there.

    Raises:
        InputError: the file is missing, is not audio, is cut off, or has no samples.
    """
    with opened(sound) as file:
        header = Header(int(file.samplerate), int(file.channels), int(file.frames))
        if to_end and not _has_last(file):
            problem = f"cut off: {header.samples} samples expected, the last is missing"
            raise broken(sound, problem)
        return header


def _has_last(file: soundfile.SoundFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1)) == 1
    except soundfile.LibsndfileError:
        return False


def length_at(header: Header, sampling_rate: int) -> int:
    """Samples of a whole clip after resampling."""
    return math.ceil(header.samples * ratio_of(header.rate, sampling_rate))


def ratio_of(rate: int, sampling_rate: int) -> Fraction:
    """The resampling ratio, in whole numbers small enough for the resampler.

    The filters for 11,127 and 32,000 Hz, which have no common divisor, would take 6 GiB. There the
    nearest ratio of smaller numbers is used: it is off by less than 1 in 4000, four thousandths
    of a semitone.

    Args:
        rate: Hz of the file.
        sampling_rate: Hz of the result.
    """
    exact = Fraction(sampling_rate, rate)
    if max(exact.numerator, exact.denominator) <= _MAX_PHASES:
        return exact
    return exact.limit_denominator(_MAX_PHASES // max(Fraction(1), exact))


def read_whole(sound: AudioFile, sampling_rate: int) -> np.ndarray:
    """Mono float32 samples at the given rate, all of them.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, or holds NaN.
    """
    return _read_mono(sound, sampling_rate, None)


def read_waveform(
    sound: AudioFile, sampling_rate: int, samples: int, start: int = 0, segment: Segment = WHOLE
) -> np.ndarray:
    """Mono float32 samples at the given rate, cut or zero-padded at the end to a length.

    Only the part of the file that the result needs is read.

    Args:
        sound: an audio file of any rate and number of channels.
        sampling_rate: Hz of the result.
        samples: length of the result.
        start: samples of the segment, at ``sampling_rate``, to skip.
        segment: the part of the file that is the clip; nothing outside it is read.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, holds NaN, or ends before the
            segment begins.
    """
    wave = _read_mono(sound, sampling_rate, samples, start, segment)
    fitted = np.zeros(samples, dtype=np.float32)
    fitted[: len(wave)] = wave[:samples]
    return fitted


def _read_mono(
    sound: AudioFile,
    sampling_rate: int,
    samples: int | None,
    start: int = 0,
    segment: Segment = WHOLE,
) -> np.ndarray:
    """At least ``samples`` from ``start`` on, or all for None."""
    with opened(sound) as file:
        rate, total = int(file.samplerate), int(file.frames)
        # Reading begins where input and output samples align, and before the first sample that the
        # resampler needs: the start of reading does not change the result.
        ratio = ratio_of(rate, sampling_rate)
        step, spacing = ratio.denominator, ratio.numerator
        back = 0 if rate == sampling_rate else -(-rate // (10 * step))
        skipped = max(0, start // spacing - back)
        begin, last = segment.samples(rate)
        if begin and begin >= total:
            raise broken(
                sound, f"the clip starts at {segment.start:g} s, after the end of the file"
            )
        first = begin + skipped * step
        end = total if last is None else min(total, last)
        if samples is not None:
            wanted = math.ceil((start - skipped * spacing + samples) / ratio)
            if rate != sampling_rate:
                wanted += rate  # a second more than the resampler looks ahead
            end = min(end, first + wanted)
        audio = _read(file, sound, first, max(first, end))
    wave: np.ndarray = audio[:, 0] if audio.shape[1] == 1 else audio.mean(axis=1)
    if not np.isfinite(wave).all():
        raise broken(sound, "the file holds NaN or infinity")
    if rate != sampling_rate and len(wave):
        import torch  # takes seconds to import, and only clips of another rate need it

        from passt_bench.torchaudio_guard import resample

        wave = resample(torch.from_numpy(wave), step, spacing).numpy()
    return wave[start - skipped * spacing :]


def _read(file: soundfile.SoundFile, sound: AudioFile, first: int, end: int) -> np.ndarray:
    """Samples (n, channels) from ``first`` to ``end``; in blocks, since a header may state TBs."""
    check_pages(file, sound, end)
    blocks = [np.zeros((0, file.channels), dtype=np.float32), *blocks_of(file, first, end - first)]
    audio = np.concatenate(blocks) if len(blocks) != 2 else blocks[1]
    if len(audio) < end - first:
        read = first + len(audio)
        raise broken(sound, f"cut off: {file.frames} samples expected, {read} found")
    return audio


def blocks_of(
    file: soundfile.SoundFile, first: int, count: int, size: int = _BLOCK
) -> Iterator[np.ndarray]:
    """Samples (n, channels) float32 of an open file, in blocks.

    soundfile seeks after each read, and after a seek in an MP3 up to five frames are wrong in a
    third of all positions (libsndfile 1.2.2). So reading a block of an MP3 starts earlier, and what
    comes before the block is dropped.

    Args:
        file: open for reading.
        first: first sample.
        count: samples to read; fewer if the file ends before.
        size: samples of a block.
    """
    lead = _MP3_BACK if file.format == "MP3" else 0
    place, end = first, first + count
    while place < end:
        back = min(place, lead)
        if (place == first and place) or back:
            file.seek(place - back)
        wanted = back + min(end - place, size)
        read = file.read(wanted, dtype="float32", always_2d=True)
        if len(read) > back:
            yield read[back:]
        if len(read) < wanted:  # soundfile would continue after the gap
            return
        place += len(read) - back
