"""Counts what a training step does, operator by operator, without computing it.

The step runs on fake or meta tensors, which have shapes and no values: FLOPs by kind, bytes that
other operators read and write, number of kernels, and the bytes alive at each moment. Of a
multiply-add there are two FLOPs; only products, convolutions and attention have any.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import (
    flop_registry,
    sdpa_backward_flop_count,
    sdpa_flop_count,
)

# The C library's heap keeps and reuses smaller blocks; larger ones go back to the system at once.
HEAP_BLOCK = 32 * 1024**2
# Kinds of work: four in FLOPs; exponentials of fused attention; bytes that all other operators read
# and write; bytes of new large blocks, whose pages the system clears; number of kernels.
FLOP_KINDS = ("products", "attention", "convolutions", "depthwise")
KINDS = (*FLOP_KINDS, "exponentials", "moved", "mapped", "kernels")
_EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach"}


@dataclass(frozen=True)
class StepWork:
    """The work of the forward and backward pass of a batch by `KINDS`, and the memory it needs."""

    products: float = 0.0
    attention: float = 0.0
    convolutions: float = 0.0
    depthwise: float = 0.0
    exponentials: float = 0.0
    moved: float = 0.0
    mapped: float = 0.0
    kernels: float = 0.0
    parameters: int = 0  # that are trained
    state: int = 0  # bytes of weights, gradients and AdamW's two averages
    rise: int = 0  # bytes at the highest point of a step beyond those
    heap: int = 0  # the part of them in small blocks

    @property
    def flops(self) -> float:
        """All FLOPs."""
        return sum(getattr(self, kind) for kind in FLOP_KINDS)


def mean_work(works: Sequence[StepWork], chunks: int = 1) -> StepWork:
    """The mean over the stages of a schedule, of steps in chunks; of bytes alive, the maximum."""
    means = {kind: chunks * fmean(getattr(work, kind) for work in works) for kind in KINDS}
    return replace(max(works, key=lambda work: work.rise), **means)  # type: ignore[arg-type]


def count_work(
    net: torch.nn.Module,
    inputs: Mapping[str, Any],
    forward: Callable[[dict[str, Any]], torch.Tensor],
) -> StepWork:
    """Counts the work of a training step.

    Args:
        net: on the meta device; afterwards its parameters are fake tensors.
        inputs: of ``forward``; tensors may be on any device.
        forward: returns the loss.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        for module in net.modules():
            for name, weight in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(_like(weight)))
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, _like(buffer))
        fake = {
            name: _like(value) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        with WorkCounter() as counter:
            loss = forward(fake)
            in_forward = counter.peak
            loss.backward()  # type: ignore[no-untyped-call]
    trained = [p for p in net.parameters() if p.grad is not None]
    gradients = sum(parameter.nbytes for parameter in trained)
    # Those of the step before are alive until the backward pass begins.
    rise = max(in_forward, counter.peak - gradients)
    return StepWork(
        **{kind: counter.work[kind] for kind in KINDS},
        parameters=sum(parameter.numel() for parameter in trained),
        state=sum(p.nbytes for p in net.parameters()) + 3 * gradients,
        rise=rise,
        heap=max(0, rise - counter.large_at_peak),
    )


def _like(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of the same layout on the CPU, fake in a fake mode."""
    return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)


class WorkCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the work of all operators that run in its context.

    On meta tensors attention is not fused: its FLOPs are those of products, six in a training step.
    A fused backward pass computes one of them again.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[int, int] = {}
        self.work: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        self.seen: set[str] = set()  # names of operators
        self.peak = self.large_at_peak = self._bytes = self._large = 0

    @property
    def flops(self) -> int:
        """All FLOPs so far."""
        return int(sum(self.work[kind] for kind in FLOP_KINDS))

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        made = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        known = {_address(tensor) for tensor in given}
        new = [tensor for tensor in made if _address(tensor) not in known]
        for tensor in new:
            self._keep(tensor.untyped_storage())
        name = func.overloadpacket.__name__
        self.seen.add(name)
        if made and (new or func._schema.is_mutable) and name not in _EMPTY:
            self.work["kernels"] += 1
            kind, flops = _flops(func, name, args, kwargs or {}, out)
            if kind:
                self.work[kind] += flops
            if kind == "attention":
                queries, keys = args[1:3] if name.endswith("backward") else args[:2]
                self.work["exponentials"] += queries[..., 0].numel() * keys.shape[2]
            # A materialized attention matrix is read and written. That of attention by heads, which
            # alone writes into memory that it is given, stays in the cache.
            in_cache = func._overloadname == "out"
            if (not kind or "bmm" in name) and not in_cache:
                self.work["moved"] += sum(t.numel() * t.element_size() for t in (*given, *made))
        return out

    def _keep(self, storage: torch.UntypedStorage) -> None:
        """Counts a storage as alive until it is freed."""
        address, size = storage._cdata, storage.nbytes()
        if address in self._alive:
            return
        large = size if size >= HEAP_BLOCK else 0
        self._alive[address] = size
        self._bytes += size
        self._large += large
        self.work["mapped"] += large
        if self._bytes > self.peak:
            self.peak, self.large_at_peak = self._bytes, self._large

        def freed() -> None:
            del self._alive[address]
            self._bytes -= size
            self._large -= large

        weakref.finalize(storage, freed)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _flops(
    func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
) -> tuple[str, float]:
    """The kind of an operator that is counted in FLOPs, and its FLOPs."""
    if name.endswith("flash_attention_for_cpu"):  # unknown to PyTorch's counter
        return "attention", sdpa_flop_count(*(t.shape for t in args[:3]))  # type: ignore[no-untyped-call]
    if name.endswith("flash_attention_for_cpu_backward"):
        return "attention", sdpa_backward_flop_count(*(t.shape for t in args[:4]))  # type: ignore[no-untyped-call]
    if func.overloadpacket not in flop_registry:
        return "", 0.0
    if "convolution" in name and args[8 if name == "convolution" else 9] > 1:
        # PyTorch's counter takes each weight to see all channels in the backward pass.
        weight, output = (args[1], out) if name == "convolution" else (args[2], args[0])
        passes = 1 if name == "convolution" else sum(args[10][:2])
        return "depthwise", 2.0 * passes * output.numel() * weight[0].numel()
    flops = float(flop_registry[func.overloadpacket](*args, **kwargs, out_val=out))
    return ("convolutions" if "convolution" in name else "products"), flops
