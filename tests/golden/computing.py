"""Running a network, ours or a peer's, so that all that can be compared comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import known_weights
import numpy as np
import torch
from golden_store import Outputs
from torch import nn
from torch.nn import functional as F


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
        net: the whole network.
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

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, x: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0:
            return x
        self.calls += 1
        draw = known_weights.numbers(f"dropout {self.calls}", tuple(x.shape))
        return x * torch.from_numpy(draw > 2 * p - 1) / (1 - p)


def targets(name: str, batch: int, classes: int) -> torch.Tensor:
    """Known zeros and ones, (B, classes)."""
    draw = known_weights.numbers(f"{name}/targets", (batch, classes))
    return torch.from_numpy((draw > 0.8).astype(np.float32))


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
