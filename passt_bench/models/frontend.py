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
    """
    samples = round(seconds * spec.sampling_rate)
    return (samples - 1) // spec.hop + 1


class LogMel(nn.Module):
    """PaSST's log-mel spectrogram; nothing in it is trained.

    Args:
        spec: sizes, edges and normalisation.

    Raises:
        InputError: a window longer than the FFT, or filters beyond half the sampling rate.
    """

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__()
        if spec.window > spec.n_fft:
            raise InputError(
                f"longer than n_fft = {spec.n_fft}", field="frontend.window", value=spec.window
            )
        if not spec.fmin < spec.fmax <= spec.sampling_rate / 2:
            raise InputError(
                f"must lie between fmin = {spec.fmin} and half of {spec.sampling_rate} Hz",
                field="frontend.fmax",
                value=spec.fmax,
            )
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
        """Waveform (B, samples) → normalised log-mel (B, 1, mels, frames), float32."""
        spec = self.spec
        with torch.autocast(waveform.device.type, enabled=False):
            x = waveform.float()
            frames = (x.shape[1] - 1) // spec.hop + 1
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
