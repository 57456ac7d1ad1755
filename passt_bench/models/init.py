"""Initial weights: each parameter from a generator of its own, seeded by seed and name.

Two variants of one seed then share every parameter that both have, whatever else differs: a change
of stride alters the position encodings and nothing else.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import nn


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
