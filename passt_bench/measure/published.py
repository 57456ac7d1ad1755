"""The speed test of the reference code, under its own name, beside the suite's protocol.

``model_speed_test`` in ``ex_audioset.py``: a constant input of ones, the network alone, ten warm-up
steps and one hundred timed ones, SGD with a rate of 0.001, binary cross-entropy, automatic mixed
precision with a gradient scaler; gradients are never zeroed, and one mean is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class PublishedProtocol:
    """Sizes of the published speed test.

    Attributes:
        batch: clips a step; 100 until 2023, the paper does not say.
        warmup: steps that are not timed.
        steps: steps that are timed as a whole.
    """

    batch: int = 100
    warmup: int = 10
    steps: int = 100


def published_speed(
    step: Callable[[], object], protocol: PublishedProtocol, device: torch.device
) -> float:
    """Clips a second: steps times batch by the wall seconds of all timed steps together.

    Args:
        step: one training step on ``protocol.batch`` clips.
        protocol: how many steps.
        device: waited for before the clock starts and before it stops, as published.
    """
    for _ in range(protocol.warmup):
        step()
    _wait(device)
    start = time.perf_counter()
    for _ in range(protocol.steps):
        step()
    _wait(device)
    return protocol.batch * protocol.steps / (time.perf_counter() - start)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
