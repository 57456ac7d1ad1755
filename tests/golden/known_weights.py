"""Weights and inputs that anybody can draw again: by name, from the raw bits of Philox.

NumPy promises the bits of its bit generators for good, and PyTorch nothing of the kind for its
distributions: so what is drawn here depends on no version of either.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import nn

_SMALL = ("proj.weight", "proj.bias", "mlp.fc2.weight", "mlp.fc2.bias")


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in [-1, 1), float32, from a stream of its own for each name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    count = math.prod(shape)
    bits = np.random.Philox(key=seed).random_raw((count + 1) // 2)
    halves = bits.astype("<u8", copy=False).view("<u4")[:count]
    return ((halves >> 8).astype(np.float32) / 2**23 - 1).reshape(shape)


def permutation(name: str, count: int) -> np.ndarray:
    """A permutation of ``range(count)``, int64."""
    return np.argsort(numbers(name, (count,)), kind="stable")


def spectrogram(name: str, batch: int, mels: int, frames: int) -> torch.Tensor:
    """Input of the size of a normalised log-mel: mean 0, deviation 1, (B, 1, mels, frames)."""
    return torch.from_numpy(numbers(name, (batch, 1, mels, frames)) * np.float32(math.sqrt(3)))


def known(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of a parameter or buffer, never what a fresh model holds.

    Sizes are such that mistakes show. What goes into a LayerNorm has a variance of some hundredths,
    so that a wrong epsilon moves the logits by far more than rounding does; that is why patches,
    encodings and the second layer of each residual branch are small.
    """
    draw = numbers(name, shape)
    if name.endswith("num_batches_tracked"):
        return np.full(shape, 7, dtype=np.int64)
    if name.endswith("running_var"):
        return 1 + draw / 2
    if name.endswith("running_mean"):
        return 0.3 * draw
    if name.endswith(("token", "pos_embed")):
        return 0.1 * draw
    if name.endswith("bias"):
        return (0.02 if name.endswith(_SMALL) else 0.2) * draw
    if len(shape) == 1:
        return (0.1 if name.split(".")[-2] == "norm" else 1.0) * (1 + draw / 2)
    gain = 0.1 if name.endswith(_SMALL) else 1.0
    return gain * math.sqrt(3 / math.prod(shape[1:])) * draw


@torch.no_grad()
def fill(net: nn.Module) -> None:
    """Gives every parameter and every saved buffer its known value."""
    for name, tensor in net.state_dict().items():
        value = torch.from_numpy(known(name, tuple(tensor.shape)))
        assert value.dtype == tensor.dtype, name
        tensor.copy_(value)


def digest(net: nn.Module) -> str:
    """A hash of all parameters and saved buffers, to tell other weights from another model."""
    found = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.contiguous().numpy().tobytes())
    return found.hexdigest()[:16]
