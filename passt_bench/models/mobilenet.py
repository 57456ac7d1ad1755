"""MobileNetV3-Large over log-mel, with a width multiplier.

Howard et al., "Searching for MobileNetV3" (2019), Table 1. Computes what ``mobilenet_v3_large`` of
torchvision computes, under the same parameter names, with one input channel in place of three;
reimplemented. Weights of torchvision fit with ``features.0.0.weight`` summed over colors.

Shapes: B batch, C channels, mels and frames of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import nn

from passt_bench.models.base import Cnn, channels_last
from passt_bench.spec.codec import about


class Row(NamedTuple):
    """A row of the architecture's table, before the multiplier."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    hard: bool  # hard swish, else ReLU
    stride: int


_ROWS = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)


def scaled(channels: float) -> int:
    """The multiple of 8 nearest to a number of channels, at least 8 and at least 90 % of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _convolution(
    inputs: int, outputs: int, kernel: int, *activation: nn.Module, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    padding = (kernel - 1) // 2
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=0.001, momentum=0.01)
    return nn.Sequential(convolution, norm, *activation)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: scales each channel by a gate computed from the channel means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = scaled(channels // 4)
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        scale = torch.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))
        return x * nn.functional.hardsigmoid(self.fc2(scale))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, gate, project; a shortcut if the shape is unchanged."""

    def __init__(self, inputs: int, row: Row, multiplier: float) -> None:
        super().__init__()
        expanded, outputs = scaled(row.expanded * multiplier), scaled(row.outputs * multiplier)
        self.shortcut = row.stride == 1 and inputs == outputs
        activation = nn.Hardswish() if row.hard else nn.ReLU()
        parts: list[nn.Module] = []
        if expanded != inputs:
            parts.append(_convolution(inputs, expanded, 1, activation))
        stride, groups = row.stride, expanded
        parts.append(
            _convolution(expanded, expanded, row.kernel, activation, stride=stride, groups=groups)
        )
        if row.squeeze:
            parts.append(SqueezeExcite(expanded))
        parts.append(_convolution(expanded, outputs, 1))
        self.block = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        y = self.block(x)
        return x + y if self.shortcut else y


class MobileNetV3(Cnn):
    """MobileNetV3-Large."""

    @dataclass(frozen=True)
    class Options:
        """Hyper-parameters of MobileNetV3."""

        width_mult: Annotated[
            float,
            about("Multiplier of all layer widths; rounded to multiples of 8.", gt=0),
        ] = 1.0

    classifiers = ("classifier.",)

    def __init__(self, num_classes: int, options: Options, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        multiplier = options.width_mult
        channels = scaled(16 * multiplier)
        parts: list[nn.Module] = [_convolution(1, channels, 3, nn.Hardswish(), stride=2)]
        for row in _ROWS:
            parts.append(InvertedResidual(channels, row, multiplier))
            channels = scaled(row.outputs * multiplier)
        parts.append(_convolution(channels, 6 * channels, 1, nn.Hardswish()))
        self.features = nn.Sequential(*parts)
        last = scaled(1280 * multiplier)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, last),
            nn.Hardswish(),
            nn.Dropout(0.2),
            nn.Linear(last, num_classes),
        )
        channels_last(self)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The mean over locations, then two linear layers."""
        return self.classifier(self.features(x).mean(dim=(2, 3)))
