"""Reads audio files as mono waveforms of a sampling rate, whole or in part."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soundfile

from passt_bench.data.opening import BLOCK, AudioFile, broken, opened

RESAMPLER = "torchaudio sinc_interp_hann"
_MAX_PHASES = 4000  # of the resampler, which stores a filter per phase
_PIECE = 1 << 24  # samples resampled at a time
_MP3_BACK = 16 * 1152  # samples; frames of an MP3 depend on earlier ones
_OGG_PAGE = 1 << 18  # samples; a page has at most 255 packets of at most 1,024
_MAX_SAMPLE = 1e6  # where full scale is 1; the square of a much larger one is infinite in float32


@dataclass(frozen=True)
class Header:
    """Rate in Hz, channels, and samples per channel of an audio file."""

    rate: int
    channels: int
    samples: int = 0


def read_header(sound: AudioFile, thorough: bool = False) -> Header:
    """Rate, channels and length of a complete audio file.

    With ``thorough``, packets are counted and the last sample is decoded, too.

    Raises:
        InputError: the file is missing, is not audio, is cut off, or has no samples.
    """
    with opened(sound, thorough) as file:
        header = Header(int(file.samplerate), int(file.channels), int(file.frames))
        last = not thorough
        with suppress(soundfile.LibsndfileError):
            if thorough:
                go_to(file, file.frames - 1)
                last = len(file.read(1)) == 1
        if not last:
            raise broken(sound, f"cut off: {header.samples} samples expected, the last is missing")
        return header


def go_to(file: soundfile.SoundFile, place: int) -> None:
    """Goes to a sample of a file; from its beginning where soundfile cannot seek (GSM, G.721)."""
    if file.seekable():
        file.seek(place)
    for at in range(0, 0 if file.seekable() else place, BLOCK):
        file.read(min(BLOCK, place - at), dtype="float32")


def length_at(header: Header, sampling_rate: int) -> int:
    """Samples of a whole clip after resampling."""
    return math.ceil(header.samples * ratio_of(header.rate, sampling_rate))


def ratio_of(rate: int, sampling_rate: int) -> Fraction:
    """The resampling ratio from ``rate``, in whole numbers small enough for the resampler.

    The filters for 11,127 and 32,000 Hz, which have no common divisor, would take 6 GiB. There the
    nearest ratio of smaller numbers is used: it is off by less than 1 in 4000, four thousandths
    of a semitone.
    """
    exact = Fraction(sampling_rate, rate)
    if max(exact.numerator, exact.denominator) <= _MAX_PHASES:
        return exact
    return exact.limit_denominator(_MAX_PHASES // max(Fraction(1), exact))


def read_waveform(
    sound: AudioFile,
    sampling_rate: int,
    samples: int | None = None,
    start: int = 0,
    part: tuple[float, float | None] = (0.0, None),
    file: soundfile.SoundFile | None = None,
) -> np.ndarray:
    """Mono float32 samples at the given rate: all, or cut or zero-padded at the end to a length.

    Of a length, only the part of the file that the result needs is read.

    The clip is a ``part`` of the file, from begin to end in seconds (None is the file's end), of
    which ``start`` samples at ``sampling_rate`` are skipped. ``file`` is the open file, if several
    parts of one that can seek are read.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, holds NaN, or ends before the
            clip begins.
    """
    with opened(sound, thorough=samples is None) if file is None else nullcontext(file) as file:
        rate, total = int(file.samplerate), int(file.frames)
        # Reading begins where input and output samples align, and before the first sample that the
        # resampler needs: the start of reading does not change the result.
        ratio = ratio_of(rate, sampling_rate)
        step, spacing = ratio.denominator, ratio.numerator
        back = 0 if rate == sampling_rate else -(-rate // (10 * step))
        skipped = max(0, start // spacing - back)
        begin = round(part[0] * rate)
        if begin and begin >= total:
            raise broken(sound, f"the clip starts at {part[0]:g} s, after the end of the file")
        first = begin + skipped * step
        end = total if part[1] is None else min(total, round(part[1] * rate))
        if samples is not None:
            wanted = math.ceil((start - skipped * spacing + samples) / ratio)
            if rate != sampling_rate:
                wanted += rate  # a second more than the resampler looks ahead
            end = min(end, first + wanted)
        wave = _read(file, sound, first, max(first, end))
        if rate != sampling_rate and len(wave):
            wave = _resampled(wave, step, spacing)
    wave = wave[start - skipped * spacing :][:samples]
    missing = 0 if samples is None else samples - len(wave)
    return np.pad(wave, (0, missing)) if missing else wave  # a copy takes as long as reading a WAV


def _resampled(wave: np.ndarray, step: int, spacing: int) -> np.ndarray:
    """``spacing`` samples for every ``step``; long sound in pieces, which takes less memory."""
    import torch  # takes seconds to import, and only clips of another rate need it

    from passt_bench.torchaudio_guard import resample

    length = math.ceil(_PIECE / step)  # of a piece, in steps
    more = math.ceil(_MAX_PHASES / step)  # more than the resampler needs on either side
    parts = []
    for at in range(0, math.ceil(len(wave) / step), length):
        first = max(0, at - more)
        piece = torch.from_numpy(wave[first * step : (at + length + more) * step])
        part = resample(piece, step, spacing).numpy()[(at - first) * spacing :]
        whole = (at + length) * step >= len(wave)
        parts.append(part if whole else part[: length * spacing])
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _read(file: soundfile.SoundFile, sound: AudioFile, first: int, end: int) -> np.ndarray:
    """Mono samples from ``first`` to ``end``; in blocks, since a header may state TBs."""
    blocks = [np.zeros(0, dtype=np.float32)]
    for block in blocks_of(file, first, end - first):
        check_samples(sound, block)
        blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(axis=1))
    wave = np.concatenate(blocks) if len(blocks) != 2 else blocks[1]
    if len(wave) < end - first:
        read = first + len(wave)
        raise broken(sound, f"cut off: {file.frames} samples expected, {read} found")
    return wave


def check_samples(sound: AudioFile, block: np.ndarray) -> None:
    """Refuses samples that are not numbers, or so large that no model could compute with them."""
    most = max(block.max(initial=0.0), -block.min(initial=0.0))  # NaN if one is
    if not np.isfinite(most):
        raise broken(sound, "the file holds NaN or infinity")
    if most > _MAX_SAMPLE:
        raise broken(sound, f"the file holds a sample of {most:.3g}, where 1 is full scale")


def blocks_of(
    file: soundfile.SoundFile, first: int, count: int, size: int = BLOCK
) -> Iterator[np.ndarray]:
    """Samples (n, channels) float32 of an open file from ``first`` on, in blocks of ``size``.

    Fewer than ``count`` if the file ends before. soundfile seeks after each read, and after a seek
    in an MP3 up to five frames are wrong in a third of all positions (libsndfile 1.2.2). So reading
    a block of an MP3 starts earlier, and what comes before the block is dropped. A seek into the
    last page of an Ogg file lands at the wrong sample; so its end is read from before that page.
    """
    lead = _MP3_BACK if file.format == "MP3" else 0
    last = max(0, file.frames - _OGG_PAGE) if file.format == "OGG" else file.frames
    place, end = first, first + count
    at = file.tell() if file.seekable() else 0  # what was read before may have ended elsewhere
    while place < end:
        back = max(min(place, lead), place - last)
        if (place == first and place != at) or back:
            go_to(file, place - back)
        wanted = back + min(end - place, size)
        read = file.read(wanted, dtype="float32", always_2d=True)
        if len(read) > back:
            yield read[back:]
        if len(read) < wanted:  # soundfile would continue after the gap
            return
        place += len(read) - back
