"""Audio files to waveforms."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import sound, write_sound

from passt_bench.data import audio
from passt_bench.data.audio import blocks_of, length_at, ratio_of, read_header, read_waveform

ENDINGS = ["wav", "flac", "ogg", "mp3"]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8000, 16000, 44100, 11127, 47999])
def test_a_tone_keeps_its_pitch_and_length(tmp_path: Path, ending: str, rate: int) -> None:
    path = tmp_path / f"tone.{ending}"
    soundfile.write(path, 0.5 * np.sin(1000 * np.pi * np.arange(round(rate / 2)) / rate), rate)
    assert read_header(path).rate == rate
    wave = read_waveform(path, 16000, 8000)
    assert (wave.shape, wave.dtype) == ((8000,), np.float32)
    assert int(np.abs(np.fft.rfft(wave)).argmax()) == 250  # 500 Hz in bins of 2 Hz
    np.testing.assert_allclose(wave[2000:6000].std(), 0.5 / np.sqrt(2), rtol=0.03)


@pytest.mark.parametrize("rate", [1000, 7999, 15999, 22255, 31999, 44099, 47999, 95999, 768000])
def test_ratios_stay_small_and_near(rate: int) -> None:
    for other in (8000, 16000, 32000, 44100, 48000):
        ratio = ratio_of(rate, other)
        assert 0 < min(ratio.as_integer_ratio()) <= max(ratio.as_integer_ratio()) <= 4000
        assert abs(float(ratio) * rate / other - 1) < 1 / 4000
    assert ratio_of(44100, 32000) == Fraction(320, 441)


@pytest.mark.parametrize(
    ("kind", "rate", "wanted"),
    [
        *((kind, *rates) for kind in ENDINGS for rates in ((16000, 16000), (44100, 32000))),
        ("flac", 22255, 32000),
        ("mp3", 8000, 44100),
    ],
)
def test_a_part_is_that_of_the_whole_wherever_it_begins(
    kind: str, rate: int, wanted: int, tmp_path: Path
) -> None:
    path = write_sound(tmp_path / f"a.{kind}", sound(4, 3.0, rate, 2), rate)
    whole = read_waveform(path, wanted)
    assert len(whole) == length_at(read_header(path), wanted)
    anywhere = np.random.default_rng(0).integers(2, len(whole), 12).tolist()
    for start in (0, 1, len(whole) - 4000, len(whole) - 10, *anywhere):
        part, there = read_waveform(path, wanted, 4000, start), whole[start : start + 4000]
        assert (part.shape, part.dtype) == ((4000,), np.float32)
        np.testing.assert_allclose(part[: len(there)], there, atol=1e-5)
        assert not part[len(there) :].any()


@pytest.mark.parametrize("kind", ENDINGS)
def test_parts_of_an_open_file_are_those_of_the_whole_in_any_order(
    kind: str, tmp_path: Path
) -> None:
    path = write_sound(tmp_path / f"a.{kind}", sound(4, 3.0, 44100), 44100)
    whole = read_waveform(path, 32000)
    with soundfile.SoundFile(path) as file:
        for start in (0, 10, 20, 40000, 0, 80000, 30):  # windows that overlap begin at 0 again
            part = read_waveform(path, 32000, 4000, start, file=file)
            np.testing.assert_allclose(part, whole[start : start + 4000], atol=1e-5)


def test_long_sound_is_resampled_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rate, wanted in ((44100, 32000), (8000, 16000), (11127, 32000)):
        path = write_sound(tmp_path / "a.wav", sound(4, 2.3, rate), rate)
        whole = read_waveform(path, wanted)
        monkeypatch.setattr(audio, "_PIECE", 5000)
        np.testing.assert_allclose(read_waveform(path, wanted), whole, atol=1e-6)
        monkeypatch.undo()


@pytest.mark.parametrize("kind", ENDINGS)
@pytest.mark.parametrize("size", [1000, 65536])
def test_blocks_make_up_the_whole(kind: str, size: int, tmp_path: Path) -> None:
    path = write_sound(tmp_path / f"a.{kind}", sound(4, 8.0, 16000), 16000)
    whole, _ = soundfile.read(path, dtype="float32", always_2d=True)
    with soundfile.SoundFile(path) as file:
        blocks = list(blocks_of(file, 100, len(whole), size))
    np.testing.assert_allclose(np.concatenate(blocks), whole[100:], atol=1e-5)


@pytest.mark.parametrize(
    ("subtype", "error"),
    [("FLOAT", 1e-7), ("PCM_24", 1e-6), ("PCM_32", 1e-7), ("PCM_U8", 1e-2)],
)
def test_any_depth_and_the_mean_of_channels(subtype: str, error: float, tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((1000, 2))
    soundfile.write(tmp_path / "clip.wav", noise, 8000, subtype=subtype)
    for samples in (999, 1000, 1500):  # cut or padded at the end
        wave = read_waveform(tmp_path / "clip.wav", 8000, samples)
        expected = np.pad(noise.mean(axis=1), (0, 500))[:samples]
        np.testing.assert_allclose(wave, expected, atol=error)
