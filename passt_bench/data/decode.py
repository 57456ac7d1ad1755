"""Audio files to waveforms, by soundfile (WAV, FLAC, Ogg, MP3)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
import torch

from passt_bench.errors import InputError
from passt_bench.torchaudio_guard import resample

RESAMPLER = "torchaudio sinc_interp_hann"


def sampling_rate_of(path: Path) -> int:
    """The rate in a file's header, Hz.

    Raises:
        InputError: the file cannot be read as audio, or holds none.
    """
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    if info.frames == 0:
        raise InputError("the file holds no samples", source=path, remedy="Replace or remove it.")
    return int(info.samplerate)


def read_waveform(path: Path, sampling_rate: int, samples: int) -> np.ndarray:
    """Mono float32 samples at the given rate, cut or zero-padded at the end to a length.

    Args:
        path: an audio file of any rate and number of channels.
        sampling_rate: Hz of the result.
        samples: length of the result.

    Raises:
        InputError: the file cannot be read, is empty, or holds NaN.
    """
    try:
        audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _unreadable(path, error) from None
    wave = audio.mean(axis=1)
    if not len(wave):
        raise InputError("the file holds no samples", source=path, remedy="Replace or remove it.")
    if not np.isfinite(wave).all():
        raise InputError("the file holds NaN or infinity", source=path, remedy="Replace it.")
    if rate != sampling_rate:
        wave = resample(torch.from_numpy(wave), rate, sampling_rate).numpy()
    fitted = np.zeros(samples, dtype=np.float32)
    fitted[: len(wave)] = wave[:samples]
    return fitted


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"not readable as audio ({error})",
        source=path,
        remedy="Replace the file, or remove it together with its metadata row.",
    )
