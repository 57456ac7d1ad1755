"""The matrix-product peak of a device: what a model's FLOP rate is a share of."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch

from passt_bench.measure.clock import Clock

Size = tuple[int, int, int]
# Large enough to reach the peak, small enough to take milliseconds; by device type.
SQUARES: dict[str, tuple[Size, ...]] = {
    "cpu": ((512, 512, 512), (1024, 1024, 1024)),
    "cuda": ((4096, 4096, 4096), (8192, 8192, 8192)),
}


def matmul_peak(
    device: torch.device,
    precision: Literal["float32", "bfloat16", "float16"],
    sizes: Sequence[Size],
    seconds: float = 0.3,
) -> float:
    """The highest rate of (m, k) x (k, n) products over the sizes, in FLOP/s.

    Uses the threads of the calling process. Each size gets its share of the seconds and at least
    three products after one to warm up; its rate is that of its fastest product.

    Args:
        device: where to compute.
        precision: of both factors and the product.
        sizes: (m, k, n), e.g. `SQUARES` and the sizes of the model's own layers.
        seconds: wall seconds in all, about.
    """
    dtype: torch.dtype = getattr(torch, precision)
    best = 0.0
    for m, k, n in sizes:
        a, b = torch.rand(m, k, device=device).to(dtype), torch.rand(k, n, device=device).to(dtype)
        a @ b
        clock, end, done = Clock(device), time.perf_counter() + seconds / len(sizes), 0
        fastest = float("inf")
        while done < 3 or time.perf_counter() < end:
            clock.run({"product": partial(torch.matmul, a, b)})
            fastest = min(fastest, *clock.read()["product"])
            done += 1
        best = max(best, 2 * m * k * n / fastest)
    return best
