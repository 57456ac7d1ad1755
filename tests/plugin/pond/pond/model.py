"""A model: each patch is embedded by itself, and the mean of all is classified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from passt_bench.models import AudioModel
from passt_bench.models.patchout import draw_plain, gather
from passt_bench.registry import MODELS
from passt_bench.spec import FrontendSpec


@MODELS.register(
    "lily", version=2, summary="mean of embedded patches", packages=("passt-bench-pond",)
)
class Lily(AudioModel):
    @dataclass(frozen=True)
    class Options:
        petals: Annotated[int, Field(gt=0, description="Rows and columns of a patch.")] = 8
        width: Annotated[int, Field(gt=0, description="Embedding width.")] = 64

    frontend = FrontendSpec(name="amplitude", mels=32, preemphasis=0.0, mean=0.0, std=1.0)

    def __init__(self, num_classes: int, options: Options, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.patch = self.stride = (options.petals, options.petals)
        self.embed = nn.Conv2d(1, options.width, self.patch, self.stride)
        self.head = nn.Linear(options.width, num_classes)

    def grid(self, frames: int) -> tuple[int, int]:
        return self.mels // self.patch[0], frames // self.patch[1]

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        if kept is None and self.training:
            kept = draw_plain(self.patchout, self.grid(x.shape[3]), len(x))
        patches = gather(self.embed(x).flatten(2).transpose(1, 2), kept)
        return self.head(torch.relu(patches).mean(dim=1))
