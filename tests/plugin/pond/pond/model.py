"""A model: each patch is embedded by itself, and the mean of all is classified."""

from __future__ import annotations

import math

import torch
from torch import nn

from passt_bench.models.base import fill_normal
from passt_bench.models.passt import gather
from passt_bench.models.patchout import draw_plain
from passt_bench.registry import MODELS
from passt_bench.spec import FrontendSpec, Patchout

FRONTEND = FrontendSpec(name="amplitude", mels=32, preemphasis=0.0, mean=0.0, std=1.0)


@MODELS.register(
    "lily",
    version=2,
    summary="mean of embedded patches",
    packages=("passt-bench-pond",),
    frontend=FRONTEND,
)
class Lily(nn.Module):
    """Takes the fields ``patch`` and ``width`` of a recipe's model."""

    special_tokens = 0

    def __init__(
        self,
        num_classes: int,
        *,
        mels: int,
        frames: int,
        patch: tuple[int, int] = (8, 8),
        width: int = 64,
        patchout: Patchout | None = None,
    ) -> None:
        super().__init__()
        self.mels, self.patch, self.stride = mels, patch, patch
        self.patchout = patchout or Patchout()
        self.embed = nn.Conv2d(1, width, patch, patch)
        self.head = nn.Linear(width, num_classes)

    def grid(self, frames: int) -> tuple[int, int]:
        return self.mels // self.patch[0], frames // self.patch[1]

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        if kept is None and self.training:
            kept = draw_plain(self.patchout, self.grid(x.shape[3]), len(x))
        patches = gather(self.embed(x).flatten(2).transpose(1, 2), kept)
        return self.head(torch.relu(patches).mean(dim=1))

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        if name.endswith("bias"):
            parameter.zero_()
        else:
            fill_normal(parameter, 1 / math.sqrt(parameter[0].numel()), generator)
