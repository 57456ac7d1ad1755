"""Weights, inputs and targets that anybody can draw again, and what a network computes with them.

They are drawn by name, from the raw bits of Philox. NumPy promises the bits of its bit generators
for good, and PyTorch nothing of the kind for its distributions: so what is drawn here depends on no
version of either.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from golden_store import Outputs
from torch import nn
from torch.nn import functional as F

_SMALL = ("proj.weight", "proj.bias", "mlp.fc2.weight", "mlp.fc2.bias")


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform in [-1, 1), float32, from a stream of its own for each name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    count = math.prod(shape)
    bits = np.random.Philox(key=seed).random_raw((count + 1) // 2)
    halves = bits.astype("<u8", copy=False).view("<u4")[:count]
    return ((halves >> 8).astype(np.float32) / 2**23 - 1).reshape(shape)


def permutation(name: str, count: int) -> np.ndarray:
    return np.argsort(numbers(name, (count,)), kind="stable")


def spectrogram(name: str, batch: int, mels: int, frames: int) -> torch.Tensor:
    """Input of the size of a normalized log-mel: mean 0, deviation 1, (B, 1, mels, frames)."""
    return torch.from_numpy(numbers(name, (batch, 1, mels, frames)) * np.float32(math.sqrt(3)))


def targets(name: str, batch: int, classes: int) -> torch.Tensor:
    draw = numbers(f"{name}/targets", (batch, classes))
    return torch.from_numpy((draw > 0.8).astype(np.float32))


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


def compute(
    net: nn.Module,
    head: nn.Module,
    arguments: tuple[Any, ...],
    targets: torch.Tensor | None = None,
    public: Callable[[Any], torch.Tensor] = lambda result: result,
    link: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits,
) -> Outputs:
    """Logits and features; with targets in training mode, gradients and running statistics too.

    Dropout takes known masks: its n-th call of a shape drops the same on every side.

    Args:
        net: the whole network, ours or a peer's.
        head: its classifier, whose input are the features and whose output the logits.
        arguments: of the call.
        targets: zeros and ones (B, classes) for a loss, or None for evaluation.
        public: the part of the network's answer that is ``link`` of the logits; that is checked.
        link: see there.
    """
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = head.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    net.train(targets is not None)
    with mock.patch.object(F, "dropout", _KnownDropout()), torch.set_grad_enabled(net.training):
        result = net(*arguments)
    hook.remove()
    ((features, logits),) = seen
    assert torch.equal(public(result), link(logits))
    found = {"logits": logits.detach().numpy(), "features": features.detach().numpy()}
    if targets is not None:
        F.binary_cross_entropy_with_logits(logits, targets).backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                found[f"gradient/{name}"] = parameter.grad.numpy()
        for name, buffer in net.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                found[f"statistics/{name}"] = buffer.numpy()
    return found


class _KnownDropout:
    """``torch.nn.functional.dropout`` with masks that can be drawn again."""

    calls = 0

    def __call__(
        self, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0:
            return x
        self.calls += 1
        draw = numbers(f"dropout {self.calls}", tuple(x.shape))
        return x * torch.from_numpy(draw > 2 * p - 1) / (1 - p)


def thinned(outputs: Outputs) -> Outputs:
    """In float32; of each gradient at most 48 values and its largest magnitude."""
    found = {}
    for part, value in outputs.items():
        if part.startswith("gradient/"):
            flat = value.ravel()
            places = np.linspace(0, flat.size - 1, min(48, flat.size)).astype(int)
            value = np.append(flat[places], np.abs(flat).max())
        found[part] = value.astype(np.float32)
    return found
