"""The log-mel front end against a computation in numpy alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models.frontend import LogMel, frame_count
from passt_bench.spec.recipe import FrontendSpec

SMALL = FrontendSpec(sampling_rate=16000, n_fft=512, window=400, hop=250, mels=64)
PAPER = FrontendSpec(
    sampling_rate=32000, n_fft=1024, window=800, hop=320, mels=128, fmin=0.0, fmax=15000.0
)


def mel_filters(spec: FrontendSpec) -> np.ndarray:
    """Triangles that are straight on the mel scale 1127 ln(1 + f / 700), (mels, bins)."""

    def mel(frequency: np.ndarray | float) -> np.ndarray:
        return 1127 * np.log1p(np.asarray(frequency, dtype=np.float64) / 700)

    edges = np.linspace(mel(spec.fmin), mel(spec.fmax), spec.mels + 2)
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = mel(np.arange(spec.n_fft // 2 + 1) * spec.sampling_rate / spec.n_fft)
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[:, -1] = 0  # the reference code pads the bin at half the sampling rate with zeros
    return filters


def reference(spec: FrontendSpec, waveform: np.ndarray) -> np.ndarray:
    x = waveform.astype(np.float64)
    frames = (len(x) - 1) // spec.hop + 1
    if spec.preemphasis:
        x = x[1:] - spec.preemphasis * x[:-1]
    x = np.pad(x, spec.n_fft // 2, mode="reflect")
    window = np.zeros(spec.n_fft)
    start = (spec.n_fft - spec.window) // 2
    window[start : start + spec.window] = np.hanning(spec.window)
    columns = [x[t * spec.hop : t * spec.hop + spec.n_fft] * window for t in range(frames)]
    power = np.abs(np.fft.rfft(np.stack(columns), axis=1).T) ** 2
    return (np.log(mel_filters(spec) @ power + 1e-5) - spec.mean) / spec.std


@pytest.mark.parametrize(
    ("spec", "samples"),
    [
        (SMALL, 16000),
        (SMALL, 16001),
        (SMALL, 15999),
        (SMALL, 5003),
        (FrontendSpec(hop=160, preemphasis=0.0), 16000),
        (FrontendSpec(hop=160, preemphasis=0.0, window=512, mels=4, fmin=50, fmax=8000), 4321),
        (PAPER, 32000),
        (SMALL, 258),
    ],
)
def test_agrees_with_numpy(spec: FrontendSpec, samples: int) -> None:
    waveform = 0.1 * np.random.default_rng(0).standard_normal((2, samples)).astype(np.float32)
    found = LogMel(spec)(torch.from_numpy(waveform))
    wanted = np.stack([reference(spec, row) for row in waveform])
    assert found.shape == (2, 1, spec.mels, frame_count(spec, samples / spec.sampling_rate))
    np.testing.assert_allclose(found[:, 0].numpy(), wanted, atol=2e-4)


@pytest.mark.parametrize("preemphasis", [0.97, 0.0])
def test_frames_are_whole_hops(preemphasis: float) -> None:
    for spec, seconds, frames in ((SMALL, 1.0, 64), (PAPER, 10.0, 1000), (PAPER, 5.0, 500)):
        spec = FrontendSpec(**{**vars(spec), "preemphasis": preemphasis})
        assert frame_count(spec, seconds) == frames
        samples = round(seconds * spec.sampling_rate)
        assert LogMel(spec)(torch.zeros(1, samples)).shape == (1, 1, spec.mels, frames)


def test_a_tone_shows_in_its_filter() -> None:
    time = torch.arange(16000) / 16000
    for frequency in (440.0, 3000.0):
        x = LogMel(SMALL)(0.5 * torch.sin(2 * np.pi * frequency * time)[None])
        bin_ = round(frequency / 16000 * 512)
        nearest = mel_filters(SMALL)[:, bin_].argmax()
        assert abs(int(x[0, 0].mean(dim=1).argmax()) - nearest) <= 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"window": 600}, "frontend.window"),
        ({"fmax": 9000.0}, "frontend.fmax"),
        ({"fmin": 7500.0}, "frontend.fmax"),
        ({"sampling_rate": 8000}, "frontend.fmax"),
        ({"mels": 3}, "frontend.mels"),
        ({"n_fft": 513}, "frontend.n_fft"),
        ({"name": "cqt"}, "frontend.name"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, object], field: str) -> None:
    with pytest.raises(InputError, match=field):
        LogMel(FrontendSpec(**{**vars(SMALL), **change}))  # type: ignore[arg-type]
