"""PANNs' front end: decibels of a power spectrogram over Slaney's mel filters.

What ``Spectrogram`` and ``LogmelFilterBank`` of torchlibrosa compute with the settings of
``pytorch/models.py`` of github.com/qiuqiangkong/audioset_tagging_cnn; written anew. There is no
normalisation: the models begin with a batch norm over mels.
"""

from __future__ import annotations

import torch

from passt_bench.errors import InputError
from passt_bench.models.frontend.base import FrontEnd, at_least
from passt_bench.registry import FRONTENDS
from passt_bench.spec.recipe import FrontendSpec
from passt_bench.torchaudio_guard import torchaudio

_LEAST = 1e-10


@FRONTENDS.register("panns", version=1, summary="PANNs: decibels over Slaney's mel filters")
class PannsLogMel(FrontEnd):
    """Centred power spectrogram, Slaney's filters of equal area, 10 log10 without a ceiling."""

    periodic = True

    def __init__(self, spec: FrontendSpec) -> None:
        super().__init__(spec)
        if spec.preemphasis:
            raise InputError(
                "this front end has none",
                field="frontend.preemphasis",
                value=spec.preemphasis,
                remedy="Give 0.",
            )

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Hops and one: 1001 for 10 s at a hop of 10 ms."""
        at_least(spec, samples, spec.n_fft // 2 + 1, f"an FFT of {spec.n_fft}")
        return samples // spec.hop + 1

    def banks(self, fmin: float, fmax: float) -> torch.Tensor:
        """Mel filters between two edges in Hz, (mels, bins)."""
        spec = self.spec
        filters: torch.Tensor = torchaudio.functional.melscale_fbanks(
            spec.n_fft // 2 + 1,
            fmin,
            fmax,
            spec.mels,
            spec.sampling_rate,
            norm="slaney",
            mel_scale="slaney",
        )
        return filters.T.contiguous()

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, bins, T)."""
        spec = self.spec
        spectrum = torch.stft(
            x, spec.n_fft, spec.hop, spec.window, self.window, center=True, return_complex=True
        )
        return spectrum.abs().square()

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """Decibels relative to 1."""
        return 10 * mel.clamp(min=_LEAST).log10()
