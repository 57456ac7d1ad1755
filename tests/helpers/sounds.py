"""Short sounds with a seed, and their files in every format that the data sets come in."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import soundfile

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def sound(
    seed: int, seconds: float = 1.0, rate: int = 32000, channels: int = 1, pitch: int | None = None
) -> np.ndarray:
    """A chirp under bursts of noise, (samples,) or (samples, channels) float32 within ±0.7.

    ``pitch`` (a class, say) decides where the chirp begins, so that classes can be told apart.
    """
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    time = np.arange(samples) / rate
    low = 200.0 * 1.25 ** (rng.integers(12) if pitch is None else pitch % 12)
    chirp = np.sin(2 * np.pi * (low * time + low / (4 * max(seconds, 1e-9)) * time**2))
    bursts = np.repeat(rng.random(8) > 0.5, -(-samples // 8))[:samples]
    tracks = [
        0.4 * chirp + 0.08 * bursts * rng.uniform(-1, 1, samples) + 0.01 * rng.uniform(-1, 1)
        for _ in range(channels)
    ]
    return np.stack(tracks, axis=1).astype(np.float32).squeeze(axis=1 if channels == 1 else ())


def encoded(samples: np.ndarray, rate: int, ending: str, other: str = "") -> bytes:
    """The bytes of an audio file (wav, flac, ogg or mp3), perhaps with another encoding."""
    kind, subtype = FORMATS[ending]
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=other or subtype)
    return file.getvalue()


def write_sound(path: Path, samples: np.ndarray, rate: int) -> Path:
    """Writes a file in the format of its ending; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(samples, rate, path.suffix[1:]))
    return path


def recordings() -> list[Path]:
    """Real recordings (ESC-10) below ``PASST_BENCH_DATA``, by name; none where it is not set."""
    root = os.environ.get("PASST_BENCH_DATA")
    return sorted(Path(root).glob("esc10/audio/*.ogg")) if root else []


def cut(path: Path, seconds: float, rate: int) -> np.ndarray:
    """The beginning of a real recording at another rate, mono float32, every n-th sample taken."""
    samples, found = soundfile.read(path, dtype="float32", always_2d=True)
    places = np.arange(round(seconds * rate)) * (found / rate)
    mono: np.ndarray = samples.mean(axis=1)
    return mono[np.minimum(places.astype(int), len(mono) - 1)]
