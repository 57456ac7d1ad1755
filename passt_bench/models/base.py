"""What models have in common: their initial weights, and the base class of the CNNs.

Each parameter gets its initial values from a generator of its own, seeded by seed and name. Two
variants of one seed then share every parameter that both have, whatever else differs: a change of
stride alters the position encodings and nothing else.

Shapes: B batch, mels and frames of the input.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from passt_bench.errors import InputError
from passt_bench.spec.recipe import Pair


def fill_normal(parameter: torch.Tensor, deviation: float, generator: torch.Generator) -> None:
    """Truncated normal at two standard deviations, in place."""
    nn.init.trunc_normal_(
        parameter, std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
    )


def fill_he(name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
    """He's normal for weights, norms 1, biases 0, in place: what convolutional networks take."""
    if name.endswith("bias"):
        parameter.zero_()
    elif parameter.ndim == 1:
        parameter.fill_(1.0)
    else:
        fill_normal(parameter, math.sqrt(2 / parameter[0].numel()), generator)


@torch.no_grad()
def initialise(net: nn.Module, seed: int) -> None:
    """Fills every parameter of a model that has ``fill(name, parameter, generator)``.

    A submodule's buffers (running statistics) are left at their defaults.
    """
    for name, parameter in net.named_parameters():
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        net.fill(name, parameter, generator)  # type: ignore[operator]


class Cnn(nn.Module, ABC):
    """A convolutional model; a subclass gives ``logits`` and ``least``.

    Args:
        mels: rows of the input.
        frames: columns of the input; others may come later.

    Raises:
        InputError: the input is too small for the poolings.
    """

    special_tokens: ClassVar[int] = 0
    least: ClassVar[int] = 1  # mels and frames that the poolings leave something of

    def __init__(self, mels: int, frames: int) -> None:
        super().__init__()
        self._check("frontend.mels", mels)
        self._check("frames", frames)

    def _check(self, field: str, value: int) -> None:
        if value < self.least:
            raise InputError(
                f"too small for the poolings of {type(self).__name__}",
                field=field,
                value=value,
                remedy=f"Give at least {self.least}.",
            )

    def grid(self, frames: int) -> Pair | None:
        """None: a CNN has no patches."""
        return None

    @abstractmethod
    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes)."""

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes); ``kept`` must be None.

        Raises:
            InputError: the input has too few frames for the poolings.
        """
        if kept is not None:
            raise ValueError("a CNN has no patches to keep")
        self._check("frames", x.shape[3])
        return self.logits(x)

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        """Initial values of one parameter, see `fill_he`."""
        fill_he(name, parameter, generator)


def channels_last(net: nn.Module) -> None:
    """Lays out filters with channels last: faster on a CPU, and in half precision on a GPU."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
