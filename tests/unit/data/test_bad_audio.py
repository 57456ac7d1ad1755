"""Broken and unusual audio: what is refused is named with its remedy, what can be read is read."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from esc_layout import rows_of

from passt_bench.data import open_dataset
from passt_bench.data.audio import read_header, read_waveform, read_whole
from passt_bench.errors import InputError
from passt_bench.models.frontend import LogMel
from passt_bench.spec.recipe import DataSpec, FrontendSpec
from passt_bench.training.features import prepare_features

Layout = Callable[..., Path]
NOISE = 0.1 * np.random.default_rng(0).standard_normal(16000)


def whole(path: Path, kind: str = "wav", subtype: str | None = None) -> bytes:
    """An audio file's bytes."""
    file = path.with_name(f"whole.{kind}")
    soundfile.write(file, NOISE, 8000, subtype=subtype)
    content = file.read_bytes()
    file.unlink()
    return content


def half(path: Path, kind: str = "wav") -> None:
    content = whole(path, kind)
    path.write_bytes(content[: len(content) // 2])


def promises_4_gb(path: Path) -> None:
    content = bytearray(whole(path))
    content[40:44] = (2**32 - 16).to_bytes(4, "little")
    path.write_bytes(content)


def promises_2_36_samples(path: Path) -> None:
    content = bytearray(whole(path, "flac"))
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)


def nan(path: Path) -> None:
    sound = NOISE.copy()
    sound[7] = np.nan
    soundfile.write(path, sound, 8000, subtype="FLOAT")


def no_samples(path: Path) -> None:
    soundfile.write(path, NOISE[:0], 8000)


# What is wrong → (how the file comes to it, what the message says, whether its header tells).
BROKEN: dict[str, tuple[Callable[[Path], object], str, bool]] = {
    "missing": (lambda path: None, "no such file", True),
    "empty": (Path.touch, "empty, 0 bytes", True),
    "a folder": (Path.mkdir, "a folder, not a file", True),
    "text": (lambda path: path.write_text("no audio"), "not readable as audio", True),
    "without samples": (no_samples, "no samples", True),
    "a header alone": (lambda path: path.write_bytes(whole(path)[:44]), "cut off", True),
    "half a header": (lambda path: path.write_bytes(whole(path)[:30]), "audio", True),
    "cut WAV": (half, "cut off: 32000 bytes expected", True),
    "cut Ogg": (lambda path: half(path, "ogg"), "cut off: the last page", True),
    "cut FLAC": (lambda path: half(path, "flac"), "not readable as audio", False),
    "cut MP3": (lambda path: half(path, "mp3"), " expected, ", True),
    "4 GB promised": (promises_4_gb, "4294967280 bytes expected, 32000 found", True),
    "2^36 samples promised": (promises_2_36_samples, "not readable as audio", False),
    "NaN": (nan, "NaN or infinity", False),
}


@pytest.mark.parametrize("wrong", BROKEN)
def test_a_broken_file_is_named_and_costs_no_memory(wrong: str, tmp_path: Path) -> None:
    spoil, message, header_tells = BROKEN[wrong]
    path = tmp_path / "clip.wav"
    spoil(path)
    tracemalloc.start()
    try:
        for read in (lambda: read_waveform(path, 8000, 16000), lambda: read_whole(path, 16000)):
            with pytest.raises(InputError) as error:
                read()
            assert error.value.source == path
            assert message in error.value.problem
            assert error.value.remedy
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    if header_tells:
        with pytest.raises(InputError, match=message):
            read_header(path)


def test_a_chunk_of_odd_length_before_the_data(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    content = whole(path)
    path.write_bytes(content[:36] + b"note\x03\0\0\0abc\0" + content[36:])
    assert read_header(path).rate == 8000
    np.testing.assert_allclose(read_whole(path, 8000), NOISE, atol=1e-4)


@pytest.mark.parametrize(
    ("subtype", "error"), [("PCM_24", 1e-6), ("PCM_32", 1e-8), ("PCM_U8", 1e-2)]
)
def test_any_depth(subtype: str, error: float, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, NOISE, 8000, subtype=subtype)
    np.testing.assert_allclose(read_waveform(path, 8000, 16000), NOISE, atol=error)


def test_channels_and_rates_are_noted(layout: Layout) -> None:
    root = layout()
    stereo, slow = (root / "audio" / str(rows_of()[index]["filename"]) for index in (0, 1))
    soundfile.write(stereo, np.stack([NOISE, -NOISE / 2], axis=1), 8000, subtype="PCM_24")
    soundfile.write(slow, NOISE, 4000)
    data = open_dataset(DataSpec(name="esc50", seconds=0.1), 8000, root)
    assert data.fingerprint.sampling_rates == {"4000": 1, "8000": 29}
    assert data.fingerprint.notes == (
        "1 clips resampled to 8000 Hz by torchaudio sinc_interp_hann",
        "1 clips of several channels mixed to one",
    )
    mixed = data.waveform(data.ids.index(stereo.stem))
    np.testing.assert_allclose(mixed, NOISE[:800] / 4, atol=1e-6)


def test_features_of_an_interrupted_preparation_are_not_kept(tmp_path: Path) -> None:
    frontend = FrontendSpec(sampling_rate=8000, fmax=3500.0, mels=32)
    data = open_dataset(DataSpec(train_clips=60, test_clips=40), 8000, None)

    def stop(share: float, text: str) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "cache" / "features.npy"
    with pytest.raises(KeyboardInterrupt):
        prepare_features(data, frontend, 1.0, path, stop)
    assert not list(path.parent.iterdir())
    prepare_features(data, frontend, 1.0, path)
    features = np.load(path)
    wave = data.waveform(99)[None]
    with torch.no_grad():
        expected = LogMel(frontend).eval()(torch.from_numpy(wave))[0, 0].numpy()
    np.testing.assert_allclose(features[99], expected, atol=1e-5)
