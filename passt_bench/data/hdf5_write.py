"""Writes HDF5 files in the layout of the reference code, see `hdf5_file`."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
import soundfile

from passt_bench.data.hdf5_file import NAME, SOUND, SOURCE, TARGET
from passt_bench.errors import InputError
from passt_bench.records.files import storing

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
# LAME's level for constant 128 kbit/s from 32 kHz on, as ffmpeg made the published files.
_LEVEL = 2 / 3


def encode_mp3(wave: np.ndarray, sampling_rate: int) -> bytes:
    """A mono mp3 file: constant bit rate, 128 kbit/s from 32 kHz on, less below.

    Args:
        wave: float32 within ±1.
        sampling_rate: one of `MP3_RATES`.
    """
    file = io.BytesIO()
    soundfile.write(
        file,
        wave,
        sampling_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=_LEVEL,
    )
    return file.getvalue()


def check_mp3_rate(sampling_rate: int) -> None:
    """Refuses a rate that mp3 does not know.

    Raises:
        InputError: it is none.
    """
    if sampling_rate not in MP3_RATES:
        raise InputError(
            "mp3 knows no such sampling rate",
            field="--rate",
            value=sampling_rate,
            remedy=f"Known: {', '.join(map(str, MP3_RATES))}.",
        )


def write_hdf5(
    path: Path,
    names: list[str],
    sources: list[str],
    sounds: Iterable[bytes],
    target: np.ndarray,
) -> None:
    """Writes a file whole or not at all.

    Args:
        path: the file.
        names: of the clips.
        sources: the recordings that they were cut from: a column that the published files lack.
        sounds: the bytes of their mp3 files.
        target: (N, ceil(classes / 8)) uint8, or (N, 2 classes) float32, see `hdf5_file`.

    Raises:
        StorageError: the disk is full, or nothing can be written there.
    """
    temporary = path.with_name(f".{path.name}.part")
    with storing(path):
        with h5py.File(temporary, "w") as file:
            file[NAME] = _encoded(names)
            file[SOURCE] = _encoded(sources)
            file[TARGET] = target
            column = file.create_dataset(SOUND, (len(names),), h5py.vlen_dtype(np.uint8))
            for row, sound in enumerate(sounds):
                column[row] = np.frombuffer(sound, dtype=np.uint8)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def masked_target(targets: np.ndarray) -> np.ndarray:
    """(N, 2C) float32 as OpenMIC has it: likelihoods (0.5 where nobody knows), then the mask."""
    known = ~np.isnan(targets)
    return np.concatenate([np.where(known, targets, 0.5), known], axis=1).astype(np.float32)


def _encoded(texts: list[str]) -> np.ndarray:
    raw = [text.encode() for text in texts]
    return np.array(raw, dtype=f"S{max(20, max(map(len, raw), default=0))}")
