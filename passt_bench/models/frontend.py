"""Front ends: waveform to normalised log-mel.

Follows ``models/preprocess.py`` of the reference code: pre-emphasis, power spectrogram, Kaldi mel
filters, natural logarithm, a fixed shift and scale. Always float32, whatever the autocast.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.spec.recipe import FrontendSpec
from passt_bench.torchaudio_guard import kaldi

_FLOOR = 1e-5  # added before the logarithm


def frame_count(spec: FrontendSpec, seconds: float) -> int:
    """Frames of a clip: whole hops, so that 10 s at a hop of 10 ms are 1000.

    A centred transform of n samples has n // hop + 1 frames; pre-emphasis takes a sample away and
    with it, for whole hops, the last frame. Without pre-emphasis the last frame is dropped alike.

    Raises:
        InputError: the clip is shorter than half an FFT, which centring needs on either side.
    """
    return _frames(spec, round(seconds * spec.sampling_rate))


def _frames(spec: FrontendSpec, samples: int) -> int:
    least = spec.n_fft // 2 + 2  # half an FFT is mirrored at each end; pre-emphasis takes one more
    if samples < least:
        raise InputError(
            f"{samples} samples are too few for an FFT of {spec.n_fft}",
            field="data.seconds",
            value=samples / spec.sampling_rate,
            remedy=f"Give at least {least / spec.sampling_rate:g} s.",
        )
    return (samples - 1) // spec.hop + 1


def _check(spec: FrontendSpec) -> None:
    if spec.name != "logmel":
        raise InputError(
            "unknown front end", field="frontend.name", value=spec.name, remedy="Known: logmel."
        )
    if spec.n_fft % 2:
        raise InputError(
            "must be even",
            field="frontend.n_fft",
            value=spec.n_fft,
            remedy="A power of two is best.",
        )
    if spec.window > spec.n_fft:
        raise InputError(
            "longer than the FFT",
            field="frontend.window",
            value=spec.window,
            remedy=f"Give at most frontend.n_fft = {spec.n_fft}.",
        )
    if spec.mels < 4:
        raise InputError(
            "too few filters", field="frontend.mels", value=spec.mels, remedy="Give at least 4."
        )
    if not spec.fmin < spec.fmax <= spec.sampling_rate / 2:
        raise InputError(
            "outside the spectrum",
            field="frontend.fmax",
            value=spec.fmax,
            remedy=f"Give more than frontend.fmin = {spec.fmin:g} and at most half of "
            f"frontend.sampling_rate = {spec.sampling_rate}.",
        )


class LogMel(nn.Module):
    """PaSST's log-mel spectrogram; nothing in it is trained.

    Args:
        spec: sizes, edges and normalisation.

    Raises:
        InputError: sizes that do not fit each other, or filters beyond half the sampling rate.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__()
        _check(spec)
        self.spec = spec
        banks, _ = kaldi.get_mel_banks(
            spec.mels,
            spec.n_fft,
            spec.sampling_rate,
            spec.fmin,
            spec.fmax,
            vtln_low=100.0,
            vtln_high=-500.0,
            vtln_warp_factor=1.0,
        )
        self.register_buffer("filters", F.pad(banks.float(), (0, 1)), persistent=False)
        self.register_buffer(
            "window", torch.hann_window(spec.window, periodic=False), persistent=False
        )

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """Waveform (B, samples) → normalised log-mel (B, 1, mels, frames), float32.

        Raises:
            InputError: as `frame_count`.
        """
        spec = self.spec
        frames = _frames(spec, waveform.shape[1])
        with torch.autocast(waveform.device.type, enabled=False):
            x = waveform.float()
            if spec.preemphasis:
                x = x[:, 1:] - spec.preemphasis * x[:, :-1]
            spectrum = torch.stft(
                x,
                spec.n_fft,
                spec.hop,
                spec.window,
                self.window,
                center=True,
                return_complex=True,
            )
            power = spectrum.abs().square()[..., :frames]
            mel = (self.filters @ power + _FLOOR).log()
            return ((mel - spec.mean) / spec.deviation).unsqueeze(1)
