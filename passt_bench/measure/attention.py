"""Which attention kernel a model really runs: it decides speed and memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.seen.add(str(func.overloadpacket.__name__))
        return func(*args, **(kwargs or {}))


def attention_kernel(forward: Callable[[], torch.Tensor | object]) -> str:
    """The fused attention operators that a forward pass calls, e.g. ``flash_attention_for_cpu``.

    Returns:
        Names joined by ``+``; ``unfused`` where a softmax runs without any; empty where neither
        does, as in a CNN.
    """
    with _Watch() as watch:
        forward()
    fused = sorted(
        name.removeprefix("_").removeprefix("scaled_dot_product_")
        for name in watch.seen
        if "attention" in name
    )
    if fused:
        return "+".join(fused)
    return "unfused" if watch.seen & {"_softmax", "softmax"} else ""
