"""What the convolutional baselines have in common: no patches, a least size, initial weights.

Shapes: B batch, mels and frames of the input.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from passt_bench.errors import InputError
from passt_bench.models.init import fill_he
from passt_bench.spec.recipe import Pair


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
        """Initial values of one parameter, see `init.fill_he`."""
        fill_he(name, parameter, generator)


def channels_last(net: nn.Module) -> None:
    """Lays out filters with channels last: faster on a CPU, and in half precision on a GPU."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
