"""Audio files to waveforms, by soundfile (WAV, FLAC, Ogg, MP3)."""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class Header:
    """What the header of a file says."""

    rate: int  # Hz
    channels: int


def read_header(path: Path) -> Header:
    """Rate and channels of a file that is there, whole, and holds sound.

    Raises:
        InputError: the file is missing, is no audio, is cut off, or holds no samples.
    """
    if path.is_dir():
        raise _broken(path, "a folder, and no file")
    if not path.exists():
        raise _broken(path, "no such file")
    try:
        if path.stat().st_size == 0:
            raise _broken(path, "empty, 0 bytes")
        info = soundfile.info(path)
        lost = missing_end(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    if lost is not None:
        raise _broken(path, lost)
    if info.frames == 0:
        raise _broken(path, "the file holds no samples")
    return Header(int(info.samplerate), int(info.channels))


def read_whole(path: Path, sampling_rate: int) -> np.ndarray:
    """Mono float32 samples at the given rate, all of them.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, or holds NaN.
    """
    return _mono(path, sampling_rate, None)


def read_waveform(path: Path, sampling_rate: int, samples: int) -> np.ndarray:
    """Mono float32 samples at the given rate, cut or zero-padded at the end to a length.

    No more of the file is read than the result needs, whatever its header promises.

    Args:
        path: an audio file of any rate and number of channels.
        sampling_rate: Hz of the result.
        samples: length of the result.

    Raises:
        InputError: the file cannot be read, is empty, is cut off, or holds NaN.
    """
    wave = _mono(path, sampling_rate, samples)
    fitted = np.zeros(samples, dtype=np.float32)
    fitted[: len(wave)] = wave[:samples]
    return fitted


def _mono(path: Path, sampling_rate: int, samples: int | None) -> np.ndarray:
    """At least the first ``samples``, or all for None."""
    rate = read_header(path).rate
    needed = None
    if samples is not None:
        needed = math.ceil(samples * rate / sampling_rate)
        if rate != sampling_rate:
            needed += rate  # a second more than the resampler looks ahead
    try:
        audio, promised = _read(path, needed)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    if len(audio) < (promised if needed is None else min(needed, promised)):
        raise _broken(path, f"cut off: {promised} samples are promised, {len(audio)} are there")
    wave: np.ndarray = audio.mean(axis=1)
    if not np.isfinite(wave).all():
        raise _broken(path, "the file holds NaN or infinity")
    if rate != sampling_rate:
        wave = resample(torch.from_numpy(wave), rate, sampling_rate).numpy()
    return wave


def _read(path: Path, most: int | None) -> tuple[np.ndarray, int]:
    """The first samples (n, channels), and how many the file says it has.

    In blocks: what a header promises is never asked for at once.
    """
    with soundfile.SoundFile(path) as file:
        promised = int(file.frames)
        left = promised if most is None else min(most, promised)
        blocks = [np.zeros((0, file.channels), dtype=np.float32)]
        while left > 0:
            block = file.read(min(left, _BLOCK), dtype="float32", always_2d=True)
            if not len(block):
                break
            blocks.append(block)
            left -= len(block)
        return np.concatenate(blocks), promised


def _unreadable(path: Path, error: Exception) -> InputError:
    return _broken(path, f"not readable as audio ({error})")


def _broken(path: Path, problem: str) -> InputError:
    return InputError(
        problem,
        source=path,
        remedy="Replace the file, or remove it together with its metadata row.",
    )
