"""AST's and PANNs' front ends: other implementations, frame counts, silence, short clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models.frontend import frame_count, make_frontend, mask_fill
from passt_bench.spec import FrontendSpec, ast_frontend, panns_frontend, passt_frontend
from passt_bench.torchaudio_guard import kaldi

ALL = {"passt": passt_frontend(), "ast": ast_frontend(), "panns": panns_frontend()}


def _noise(spec: FrontendSpec, seconds: float, batch: int = 2) -> torch.Tensor:
    random = np.random.default_rng(0)
    samples = round(seconds * spec.sampling_rate)
    return torch.from_numpy(0.1 * random.standard_normal((batch, samples)).astype("f4"))


@pytest.mark.parametrize(
    ("name", "frames"),
    [("passt", (1000, 500)), ("ast", (1024, 1024)), ("panns", (1001, 501))],
)
def test_published_frame_counts(name: str, frames: tuple[int, int]) -> None:
    spec = ALL[name]
    for seconds, wanted in zip((10.0, 5.0), frames, strict=True):
        assert frame_count(spec, seconds) == wanted
        found = make_frontend(spec)(_noise(spec, seconds, batch=1))
        assert found.shape == (1, 1, spec.mels, wanted)
    assert frame_count(replace(ast_frontend(), frames=None), 10.0) == 998


@pytest.mark.parametrize("samples", [16000, 16159, 16160, 400, 401])
def test_kaldi_agrees_with_torchaudio(samples: int) -> None:
    """Called as in the official data loader of AST."""
    spec = replace(ast_frontend(), frames=None, mean=0.0, std=1.0)
    waves = _noise(spec, samples / 16000) + 0.05  # an offset that must not matter
    found = make_frontend(spec)(waves)
    for wave, logmel in zip(waves, found, strict=True):
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


def test_ast_pads_before_it_normalizes_and_cuts() -> None:
    spec = ast_frontend()
    net = make_frontend(spec)
    short = net(_noise(spec, 1.0))
    assert torch.equal(short[..., 98:], torch.full((2, 1, 128, 926), 4.2677393 / (2 * 4.5689974)))
    long = net(_noise(spec, 11.0))
    plain = make_frontend(replace(spec, frames=None))(_noise(spec, 11.0))
    assert torch.equal(long, plain[..., :1024])


def _slaney(spec: FrontendSpec) -> np.ndarray:
    """Triangles of equal area, straight in Hz, between points even on Slaney's scale."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        hertz = np.asarray(hertz, dtype=np.float64)
        high = 15 + 27 * np.log(np.maximum(hertz, 1000) / 1000) / np.log(6.4)
        return np.where(hertz < 1000, hertz * 3 / 200, high)

    grid = np.linspace(0, spec.sampling_rate / 2, 400_001)
    edges = np.interp(np.linspace(mel(spec.fmin), mel(spec.fmax), spec.mels + 2), mel(grid), grid)
    left, center, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.linspace(0, spec.sampling_rate / 2, spec.n_fft // 2 + 1)
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (right - left)


def test_panns_agrees_with_numpy() -> None:
    spec = panns_frontend()
    waves = _noise(spec, 0.5)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)  # periodic
    for wave, found in zip(waves.numpy(), make_frontend(spec)(waves), strict=True):
        x = np.pad(wave.astype(np.float64), 512, mode="reflect")
        columns = [x[start : start + 1024] * window for start in range(0, len(wave) + 1, 320)]
        power = np.abs(np.fft.rfft(np.stack(columns), axis=1).T) ** 2
        wanted = 10 * np.log10(np.maximum(_slaney(spec) @ power, 1e-10))
        np.testing.assert_allclose(found[0].numpy(), wanted, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "floor"),
    [
        ("passt", (np.log(1e-5) + 4.5) / 5),
        ("ast", (np.log(2.0**-23) + 4.2677393) / (2 * 4.5689974)),
        ("panns", -100.0),
    ],
)
def test_silence_is_the_floor(name: str, floor: float) -> None:
    spec = replace(ALL[name], frames=None)
    quiet = make_frontend(spec)(torch.zeros(1, spec.sampling_rate))
    torch.testing.assert_close(quiet, torch.full_like(quiet, floor))


@pytest.mark.parametrize(("name", "least"), [("passt", 514), ("ast", 400), ("panns", 513)])
def test_refuses_clips_too_short(name: str, least: int) -> None:
    spec = ALL[name]
    with pytest.raises(InputError, match=rf"data\.seconds.*{least - 1} samples"):
        frame_count(spec, (least - 1) / spec.sampling_rate)
    with pytest.raises(InputError, match=r"data\.seconds"):
        make_frontend(spec)(torch.zeros(1, least - 1))
    assert make_frontend(spec)(torch.zeros(1, least)).isfinite().all()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (replace(panns_frontend(), preemphasis=0.97), r"frontend\.preemphasis"),
        (replace(panns_frontend(), name="pann"), r"frontend\.name.*kaldi, logmel, panns"),
        (replace(ast_frontend(), fmax=9000.0), r"frontend\.fmax"),
        (replace(passt_frontend(), fmax_jitter=2002), r"frontend\.fmax_jitter"),
        (replace(passt_frontend(), fmin_jitter=15000), r"frontend\.fmax_jitter"),
    ],
)
def test_refuses_what_does_not_fit(spec: FrontendSpec, field: str) -> None:
    with pytest.raises(InputError, match=field):
        make_frontend(spec)


def test_masks_are_zero_before_the_normalization() -> None:
    assert mask_fill(passt_frontend()) == pytest.approx(0.9)
    assert mask_fill(ast_frontend()) == pytest.approx(4.2677393 / (2 * 4.5689974))
    assert mask_fill(panns_frontend()) == 0
