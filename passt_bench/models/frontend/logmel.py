"""PaSST's front end: ``models/preprocess.py`` of the reference code, written anew."""

from __future__ import annotations

import torch

from passt_bench.models.frontend.base import FrontEnd, at_least
from passt_bench.registry import FRONTENDS
from passt_bench.spec.recipe import FrontendSpec

_FLOOR = 1e-5  # added before the logarithm


@FRONTENDS.register("logmel", version=1, summary="PaSST: Kaldi's mel filters, centred")
class LogMel(FrontEnd):
    """Pre-emphasis, centred power spectrogram, Kaldi mel filters, natural logarithm."""

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Whole hops, so that 10 s at a hop of 10 ms are 1000 frames.

        A centred transform of n samples has n // hop + 1 frames; pre-emphasis takes a sample away
        and with it, for whole hops, the last frame. Without pre-emphasis the last frame is dropped
        alike.
        """
        # Half an FFT is mirrored at each end, and pre-emphasis takes one sample more.
        at_least(spec, samples, spec.n_fft // 2 + 2, f"an FFT of {spec.n_fft}")
        return (samples - 1) // spec.hop + 1

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, bins, T)."""
        spec = self.spec
        frames = self.frames(spec, x.shape[1])
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
        return spectrum.abs().square()[..., :frames]

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """Natural logarithm of the energy and a little."""
        return (mel + _FLOOR).log()
