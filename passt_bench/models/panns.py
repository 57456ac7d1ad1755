"""The CNNs of PANNs (Kong et al. 2020), and a small one in their style.

CNN14, CNN10 and CNN6 compute what ``pytorch/models.py`` of
github.com/qiuqiangkong/audioset_tagging_cnn computes behind its front end and before its sigmoid,
under the same parameter names; reimplemented. Published parameter counts exclude the front end,
which is not trained: 80,753,615, 5,219,279 and 4,837,455 at 64 mels and 527 classes.

Shapes: B batch, C channels, mels and frames of the input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.models.base import Cnn, Positive, channels_last
from passt_bench.spec.codec import about
from passt_bench.spec.frontends import panns_frontend


class ConvBlock(nn.Module):
    """Two convolutions with batch norm and ReLU, then 2 x 2 average pooling if ``pooled``."""

    def __init__(self, inputs: int, outputs: int, *, pooled: bool = True) -> None:
        super().__init__()
        self.pooled = pooled
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, outputs, H // 2, W // 2)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, 2) if self.pooled else x


class Panns(Cnn):
    """A CNN in the style of PANNs: blocks that double the channels, mean plus maximum over time."""

    @dataclass(frozen=True)
    class Options:
        """Hyper-parameters of the small CNN."""

        width: Annotated[Positive, about("Channels of the first block.")] = 8
        depth: Annotated[Positive, about("Blocks.")] = 3

    def __init__(self, num_classes: int, options: Options, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        channels = [1] + [options.width * 2**i for i in range(options.depth)]
        self.bn0 = nn.BatchNorm2d(mels)
        self.blocks = nn.ModuleList(ConvBlock(a, b) for a, b in itertools.pairwise(channels))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.head = nn.Linear(channels[-1], num_classes)
        channels_last(self)  # on a CPU core a training step takes 0.6 of the default layout's time

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes)."""
        x = self.bn0(x.transpose(1, 2)).transpose(1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x = block(x)
        x_BCT = x.mean(dim=2)
        pooled = x_BCT.mean(dim=2) + x_BCT.amax(dim=2)
        return self.head(F.relu(self.fc1(pooled)))


class WideBlock(nn.Module):
    """One 5 x 5 convolution with batch norm and ReLU, then 2 x 2 average pooling (CNN6)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 5, padding=2, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, outputs, H // 2, W // 2)."""
        return F.avg_pool2d(F.relu(self.bn1(self.conv1(x))), 2)


class PublishedPanns(Cnn):
    """Blocks that double the channels, mean over mels, mean plus max over time, two linear layers.

    Dropout as published: 0.2 after each block, 0.5 before the first linear layer, drawn from
    torch's generator. The input is not normalized; batch norm over mels comes first.
    """

    @dataclass(frozen=True)
    class Options:
        """Hyper-parameters of PANNs."""

        width: Annotated[Positive, about("Channels of the first block.")] = 64

    frontend = panns_frontend()
    blocks: ClassVar[Sequence[Callable[[int, int], nn.Module]]]

    classifiers = ("fc_audioset.",)

    def __init__(self, num_classes: int, options: Options, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        channels = [1] + [options.width * 2**i for i in range(len(self.blocks))]
        self.bn0 = nn.BatchNorm2d(mels)
        for number, kind in enumerate(self.blocks, start=1):
            self.add_module(f"conv_block{number}", kind(channels[number - 1], channels[number]))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], num_classes)
        channels_last(self)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, mels, frames) → (B, num_classes); inside, (B, C, frames, mels)."""
        x = self.bn0(x.transpose(1, 2)).permute(0, 2, 3, 1)
        for number in range(1, len(self.blocks) + 1):
            x = F.dropout(self.get_submodule(f"conv_block{number}")(x), 0.2, self.training)
        x_BCT = x.mean(dim=3)
        pooled = x_BCT.amax(dim=2) + x_BCT.mean(dim=2)
        pooled = F.dropout(pooled, 0.5, self.training)
        return self.fc_audioset(F.relu(self.fc1(pooled)))


class Cnn6(PublishedPanns):
    """Four blocks of one 5 x 5 convolution."""

    min_size = 16
    blocks = (WideBlock,) * 4


class Cnn10(PublishedPanns):
    """Four blocks of two 3 x 3 convolutions."""

    min_size = 16
    blocks = (ConvBlock,) * 4


class Cnn14(PublishedPanns):
    """Six blocks of two 3 x 3 convolutions, the last without pooling."""

    min_size = 32
    blocks = (*(ConvBlock,) * 5, partial(ConvBlock, pooled=False))
