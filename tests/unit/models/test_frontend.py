"""The front ends against computations in numpy and torchaudio; their frames, edges and floors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models.frontend import (
    draw_edges,
    frame_count,
    is_jittered,
    make_frontend,
    mask_fill,
)
from passt_bench.spec import ast_frontend, panns_frontend, passt_frontend
from passt_bench.spec.recipe import FrontendSpec
from passt_bench.torchaudio_guard import kaldi

SMALL = FrontendSpec(sampling_rate=16000, n_fft=512, window=400, hop=250, mels=64)
PASST, AST, PANNS = passt_frontend(), ast_frontend(), panns_frontend()
PAPER = replace(passt_frontend(jitter=False), mean=SMALL.mean, std=SMALL.std)
NAMED = {"passt": PASST, "ast": AST, "panns": PANNS}


def noise(spec: FrontendSpec, samples: int, batch: int = 2) -> torch.Tensor:
    wave = 0.1 * np.random.default_rng(0).standard_normal((batch, samples))
    return torch.from_numpy(wave.astype(np.float32))


def kaldi_filters(spec: FrontendSpec) -> np.ndarray:
    """Triangles that are straight on the mel scale 1127 ln(1 + f / 700), (mels, bins)."""

    def mel(frequency: Any) -> Any:
        return 1127 * np.log1p(np.asarray(frequency, dtype=np.float64) / 700)

    edges = np.linspace(mel(spec.fmin), mel(spec.fmax), spec.mels + 2)
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = mel(np.arange(spec.n_fft // 2 + 1) * spec.sampling_rate / spec.n_fft)
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[:, -1] = 0  # the reference code pads the bin at half the sampling rate with zeros
    return filters


def log_mel(x: np.ndarray, spec: FrontendSpec) -> np.ndarray:
    """PaSST's, (mels, frames)."""
    frames = (len(x) - 1) // spec.hop + 1
    x = x[1:] - spec.preemphasis * x[:-1] if spec.preemphasis else x
    x = np.pad(x, spec.n_fft // 2, mode="reflect")
    window = np.zeros(spec.n_fft)
    start = (spec.n_fft - spec.window) // 2
    window[start : start + spec.window] = np.hanning(spec.window)
    columns = [x[t * spec.hop : t * spec.hop + spec.n_fft] * window for t in range(frames)]
    power = np.abs(np.fft.rfft(np.stack(columns), axis=1).T) ** 2
    return (np.log(kaldi_filters(spec) @ power + 1e-5) - spec.mean) / spec.std


@pytest.mark.parametrize(
    ("spec", "samples"),
    [
        *((SMALL, samples) for samples in (16000, 16001, 15999, 5003, 258)),
        (FrontendSpec(hop=160, preemphasis=0.0), 16000),
        (FrontendSpec(hop=160, preemphasis=0.0, window=512, mels=4, fmin=50, fmax=8000), 4321),
        (PAPER, 32000),
    ],
)
def test_passts_agrees_with_numpy(spec: FrontendSpec, samples: int) -> None:
    waves = noise(spec, samples)
    found = make_frontend(spec)(waves)
    frames = (samples - 1) // spec.hop + 1
    assert found.shape == (2, 1, spec.mels, frames)
    assert frame_count(spec, samples / spec.sampling_rate) == frames
    for wave, logmel in zip(waves.double().numpy(), found, strict=True):
        np.testing.assert_allclose(logmel[0].numpy(), log_mel(wave, spec), atol=2e-4)


@pytest.mark.parametrize("samples", [16000, 16159, 16160, 400, 401])
def test_asts_agrees_with_torchaudio(samples: int) -> None:
    """Called as in the official data loader of AST."""
    spec = replace(AST, frames=None, mean=0.0, std=1.0)
    waves = noise(spec, samples) + 0.05  # an offset that must not matter
    for wave, logmel in zip(waves, make_frontend(spec)(waves), strict=True):
        wanted = kaldi.fbank(
            (wave - wave.mean())[None],
            htk_compat=True,
            sample_frequency=16000,
            use_energy=False,
            window_type="hanning",
            num_mel_bins=128,
            dither=0.0,
            frame_shift=10,
        )
        torch.testing.assert_close(logmel[0].T, wanted, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("spec", "frames"),
    [
        (PASST, (1000, 500)),
        (replace(PASST, preemphasis=0.0), (1000, 500)),
        (AST, (1024, 1024)),
        (replace(AST, frames=None), (998, 498)),
        (PANNS, (1001, 501)),
    ],
)
def test_published_frame_counts(spec: FrontendSpec, frames: tuple[int, int]) -> None:
    for seconds, wanted in zip((10, 5), frames, strict=True):
        assert frame_count(spec, seconds) == wanted
        found = make_frontend(spec)(noise(spec, seconds * spec.sampling_rate, batch=1))
        assert found.shape == (1, 1, spec.mels, wanted)


@pytest.mark.parametrize(
    ("name", "floor", "least"),
    [
        ("passt", (np.log(1e-5) + 4.5) / 5, 514),
        ("ast", (np.log(2.0**-23) + 4.2677393) / (2 * 4.5689974), 400),
        ("panns", -100.0, 513),
    ],
)
def test_silence_is_the_floor_and_clips_too_short_are_refused(
    name: str, floor: float, least: int
) -> None:
    spec = replace(NAMED[name], frames=None)
    net = make_frontend(spec)
    silence = net(torch.zeros(1, least))
    torch.testing.assert_close(silence, torch.full_like(silence, floor))
    for call in (
        lambda: frame_count(spec, (least - 1) / spec.sampling_rate),
        lambda: net(torch.zeros(1, least - 1)),
    ):
        with pytest.raises(InputError) as refused:
            call()
        assert refused.value.field == "data.seconds"


@pytest.mark.parametrize(
    ("spec", "change", "field"),
    [
        (SMALL, {"window": 600}, "window"),
        (SMALL, {"fmax": 9000.0}, "fmax"),
        (SMALL, {"mels": 3}, "mels"),
        (SMALL, {"n_fft": 513}, "n_fft"),
        (SMALL, {"name": "cqt"}, "name"),
        (PANNS, {"preemphasis": 0.97}, "preemphasis"),
        (PASST, {"fmax_jitter": 2002}, "fmax_jitter"),
        (PASST, {"fmin_jitter": 15000}, "fmax_jitter"),
    ],
)
def test_refuses_what_does_not_fit(spec: FrontendSpec, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        make_frontend(replace(spec, **change))
    assert refused.value.field == f"frontend.{field}"


def test_masks_are_zero_before_the_normalization() -> None:
    assert mask_fill(PASST) == pytest.approx(0.9)
    assert mask_fill(AST) == pytest.approx(4.2677393 / (2 * 4.5689974))
    assert mask_fill(PANNS) == 0


def test_edges_cover_the_published_range() -> None:
    drawn = np.array([draw_edges(PASST, 0, 0, step) for step in range(6000)])
    assert set(drawn[:, 0]) == set(range(10))
    # 6000 draws of 2000 values: each end is met.
    assert 14001 <= drawn[:, 1].min() < 14005 < 15996 < drawn[:, 1].max() <= 16000
    # Uniform over 2000 values: the mean is off by less than five standard errors.
    assert abs(drawn[:, 1].mean() - 15000.5) < 5 * 2000 / np.sqrt(12 * 6000)


def test_a_draw_of_edges_is_a_pure_function() -> None:
    one = draw_edges(PASST, 3, 0, 7)
    np.random.seed(1)
    torch.manual_seed(1)
    assert draw_edges(PASST, 3, 0, 7) == one
    assert one not in [draw_edges(PASST, *at) for at in ((4, 0, 7), (3, 1, 7), (3, 0, 8))]
    still = passt_frontend(jitter=False)
    assert draw_edges(still, 0, 0, 0) == (0.0, 15000.0)
    jittered = (PASST, still, replace(still, fmin_jitter=1))
    assert [is_jittered(spec) for spec in jittered] == [True, False, True]
