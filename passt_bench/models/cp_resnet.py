"""CP-ResNet: a ResNet with a deliberately small receptive field.

Koutini et al., "Receptive field regularization techniques for audio classification and tagging with
deep convolutional neural networks" (2021, arXiv 2105.12395); it is the CNN of the paper's Table 1.
Computes what ``models/cp_resnet.py`` of github.com/kkoutini/cpjku_dcase20 computes, under the same
parameter names; reimplemented. Of its 26 layers, the first have 3 x 3 filters and the rest 1 x 1;
``rho`` sets how many.

Shapes: B batch, C channels, mels and frames of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.models.base import Cnn, Positive, channels_last
from passt_bench.spec.codec import about

_BLOCKS = 4  # per stage
_POOLED = (1, 2, 4)  # blocks of the first stage that are followed by max pooling
_MAX_RHO = 22  # with it every filter is 3 x 3


def kernels(rho: int) -> list[list[tuple[int, int]]]:
    """Filter sizes, three stages of four blocks of two convolutions.

    The first block always has 3 and 1; of the 22 convolutions that follow, the first
    ``rho`` are 3 x 3.
    """
    sizes = [3, 1] + [3 if number < rho else 1 for number in range(_MAX_RHO)]
    pairs = list(zip(sizes[::2], sizes[1::2], strict=True))
    return [pairs[start : start + _BLOCKS] for start in range(0, len(pairs), _BLOCKS)]


class Block(nn.Module):
    """Two convolutions with batch norm, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, first: int, second: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, first, padding=first // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, second, padding=second // 2, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, bias=False))
            self.shortcut.add_module("bn", nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) → (B, outputs, H, W)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def _stage(inputs: int, outputs: int, pairs: list[tuple[int, int]], *, pooled: bool) -> nn.Module:
    stage = nn.Sequential()
    for number, (first, second) in enumerate(pairs, start=1):
        stage.add_module(f"block{number}", Block(inputs, outputs, first, second))
        if pooled and number in _POOLED:
            stage.add_module(f"maxpool{number}", nn.MaxPool2d(2))
        inputs = outputs
    return stage


class CpResNet(Cnn):
    """The receptive-field-regularized ResNet."""

    @dataclass(frozen=True)
    class Options:
        """Hyper-parameters of CP-ResNet."""

        width: Annotated[
            Positive,
            about("Channels of the first stage; the next have two and four times as many."),
        ] = 128
        rho: Annotated[
            int,
            about("3 x 3 convolutions after the first block.", ge=0, le=_MAX_RHO),
        ] = 7

    min_size = 17

    classifiers = ("feed_forward.",)

    def __init__(self, num_classes: int, options: Options, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        stages, width = kernels(options.rho), options.width
        self.in_c = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.stage1 = _stage(width, width, stages[0], pooled=True)
        self.stage2 = _stage(width, 2 * width, stages[1], pooled=False)
        self.stage3 = _stage(2 * width, 4 * width, stages[2], pooled=False)
        self.feed_forward = nn.Sequential(
            nn.Conv2d(4 * width, num_classes, 1, bias=False),
            nn.BatchNorm2d(num_classes),
            nn.AdaptiveAvgPool2d(1),
        )
        channels_last(self)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """The last feature map, (B, 4 width, about mels / 16, about frames / 16)."""
        return self.stage3(self.stage2(self.stage1(self.in_c(x))))

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Scores per location and class, normalized, then averaged."""
        return self.feed_forward(self.features(x)).flatten(1)
