"""What computes a step: precision, what keeps small gradients from vanishing, compilation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from passt_bench.spec.recipe import EngineSpec

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(engine: EngineSpec) -> torch.autocast:
    """The context of a forward pass; it changes nothing in float32."""
    half = engine.precision != "float32"
    dtype = DTYPES[engine.precision] if half else None
    return torch.autocast(engine.device, dtype=dtype, enabled=half)


def make_scaler(engine: EngineSpec) -> torch.amp.GradScaler:
    """Scales the loss in float16, where gradients would underflow; else it passes all through."""
    return torch.amp.GradScaler(engine.device, enabled=engine.precision == "float16")


def callable_of(net: nn.Module, engine: EngineSpec) -> Callable[..., torch.Tensor]:
    """The model as a step calls it: itself, or compiled; both have the same parameters."""
    if not engine.compiled:
        return net
    if engine.device == "cpu":  # a pool of compilers would outlive the process of a killed cell
        from torch._inductor import config  # takes two seconds, which only compiling is worth

        config.compile_threads = 1
    return torch.compile(net)
