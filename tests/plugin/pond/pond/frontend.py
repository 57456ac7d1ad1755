"""A front end: the square root of the power in Kaldi's mel filters instead of its logarithm."""

from __future__ import annotations

import torch

from passt_bench.models.frontend import FrontEnd, at_least
from passt_bench.registry import FRONTENDS
from passt_bench.spec import FrontendSpec


@FRONTENDS.register("amplitude", version=3, summary="amplitude in mel filters")
class Amplitude(FrontEnd):
    """Windows without padding; the recipe's mean and std normalize it."""

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        at_least(spec, samples, spec.n_fft, f"an FFT of {spec.n_fft}")
        return (samples - spec.n_fft) // spec.hop + 1

    def power(self, x: torch.Tensor) -> torch.Tensor:
        spec = self.spec
        spectrum = torch.stft(
            x, spec.n_fft, spec.hop, spec.window, self.window, center=False, return_complex=True
        )
        return spectrum.abs().square()

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        return mel.sqrt()
