"""Audio files to waveforms."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from esc_layout import rows_of
from sounds import sound, write_sound

from passt_bench.data import open_dataset
from passt_bench.data.audio import (
    blocks_of,
    length_at,
    ratio_of,
    read_header,
    read_waveform,
    read_whole,
)
from passt_bench.spec.recipe import DataSpec

NOISE = 0.1 * np.random.default_rng(0).standard_normal(16000)


def tone(rate: int, seconds: float = 0.5, frequency: float = 500.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 11127, 47999])
def test_a_tone_keeps_its_pitch_and_length(tmp_path: Path, ending: str, rate: int) -> None:
    path = tmp_path / f"tone.{ending}"
    soundfile.write(path, tone(rate), rate)
    assert read_header(path).rate == rate
    wave = read_waveform(path, 16000, 8000)
    assert wave.shape == (8000,)
    assert wave.dtype == np.float32
    assert int(np.abs(np.fft.rfft(wave)).argmax()) == 250  # 500 Hz in bins of 2 Hz
    np.testing.assert_allclose(wave[2000:6000].std(), 0.5 / np.sqrt(2), rtol=0.03)


@pytest.mark.parametrize("rate", [1000, 7999, 15999, 22255, 31999, 44099, 47999, 95999, 768000])
def test_ratios_stay_small_and_near(rate: int) -> None:
    for other in (8000, 16000, 32000, 44100, 48000):
        ratio = ratio_of(rate, other)
        assert min(ratio.numerator, ratio.denominator) > 0
        assert max(ratio.numerator, ratio.denominator) <= 4000
        assert abs(float(ratio) * rate / other - 1) < 1 / 4000
    assert ratio_of(44100, 32000) == Fraction(320, 441)


def test_a_part_of_a_file_of_an_odd_rate(tmp_path: Path) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, tone(22255, 2.0), 22255, subtype="FLOAT")
    whole = read_whole(path, 32000)
    assert len(whole) == length_at(read_header(path), 32000)
    for start in (0, 777, 40000):
        part = read_waveform(path, 32000, 5000, start)
        np.testing.assert_allclose(part, whole[start : start + 5000], atol=1e-6)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    left, right = np.full(100, 0.5), np.full(100, -0.25)
    soundfile.write(path, np.stack([left, right], axis=1), 8000, subtype="FLOAT")
    np.testing.assert_allclose(read_waveform(path, 8000, 100), 0.125)


@pytest.mark.parametrize("samples", [1, 99, 100, 101, 250])
def test_cut_or_padded_at_the_end(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "ramp.wav"
    ramp = np.arange(1, 101, dtype=np.float32) / 128
    soundfile.write(path, ramp, 8000, subtype="FLOAT")
    wave = read_waveform(path, 8000, samples)
    assert len(wave) == samples
    np.testing.assert_array_equal(wave[:100], ramp[:samples])
    assert not wave[100:].any()


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_part_is_that_of_the_whole_wherever_it_begins(kind: str, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{kind}", sound(4, 8.0, 16000), 16000)
    whole = read_whole(path, 16000)
    for start in np.random.default_rng(0).integers(0, len(whole) - 4000, 40).tolist():
        part = read_waveform(path, 16000, 4000, start)
        np.testing.assert_allclose(part, whole[start : start + 4000], atol=1e-5)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("size", [1000, 65536])
def test_blocks_make_up_the_whole(kind: str, size: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{kind}", sound(4, 8.0, 16000), 16000)
    with soundfile.SoundFile(path) as file:
        whole = file.read(dtype="float32", always_2d=True)
    with soundfile.SoundFile(path) as file:
        blocks = list(blocks_of(file, 100, len(whole), size))
    np.testing.assert_allclose(np.concatenate(blocks), whole[100:], atol=1e-5)


@pytest.mark.parametrize(
    ("subtype", "error"), [("PCM_24", 1e-6), ("PCM_32", 1e-8), ("PCM_U8", 1e-2)]
)
def test_any_depth(subtype: str, error: float, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, NOISE, 8000, subtype=subtype)
    np.testing.assert_allclose(read_waveform(path, 8000, 16000), NOISE, atol=error)


def test_channels_and_rates_are_noted(layout: Callable[..., Path]) -> None:
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
