"""AST's front end: Kaldi's filter bank for a batch, without dither.

What ``torchaudio.compliance.kaldi.fbank`` computes for one clip with a Hanning window, as it is
called in ``src/dataloader.py`` of github.com/YuanGongND/ast; written anew for batches. That code
also subtracts the clip's mean, which the mean of each frame, subtracted here and there, makes
superfluous.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from passt_bench.models.frontend.base import FrontEnd, at_least
from passt_bench.registry import FRONTENDS
from passt_bench.spec.recipe import FrontendSpec

_LEAST = torch.finfo(torch.float32).eps


@FRONTENDS.register("kaldi", version=1, summary="AST: Kaldi's filter bank")
class KaldiFbank(FrontEnd):
    """Frames without mean, pre-emphasis in each frame, Kaldi mel filters, natural logarithm."""

    @staticmethod
    def frames(spec: FrontendSpec, samples: int) -> int:
        """Whole windows within the clip: 998 for 10 s of 25 ms windows every 10 ms."""
        at_least(spec, samples, spec.window, f"a window of {spec.window}")
        return (samples - spec.window) // spec.hop + 1

    def power(self, x: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, bins, T)."""
        spec = self.spec
        x_BTW = x.unfold(1, spec.window, spec.hop)
        x_BTW = x_BTW - x_BTW.mean(dim=2, keepdim=True)
        before = F.pad(x_BTW, (1, 0), mode="replicate")[..., :-1]
        x_BTW = (x_BTW - spec.preemphasis * before) * self.window
        spectrum = torch.fft.rfft(x_BTW, spec.n_fft)
        return spectrum.abs().square().transpose(1, 2)

    def compress(self, mel: torch.Tensor) -> torch.Tensor:
        """Natural logarithm, floored at the precision of float32."""
        return mel.clamp(min=_LEAST).log()
