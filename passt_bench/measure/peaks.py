"""Peak rates of devices: of matrix products as measured, and of GPUs by their data sheets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from passt_bench.measure.target import Clock

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
    """The maximum rate of (m, k) x (k, n) products over the sizes, in FLOP/s.

    Uses the threads of the calling process. Each size gets its share of the wall ``seconds`` and at
    least three products after one warm-up; its rate is that of its fastest product.
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


_A100 = "NVIDIA A100 Tensor Core GPU data sheet, 2021"
_H100 = "NVIDIA H100 Tensor Core GPU data sheet, 2023 (halved: stated with sparsity)"
_H200 = "NVIDIA H200 Tensor Core GPU data sheet, 2024 (halved: stated with sparsity)"
_TURING = "NVIDIA Turing GPU architecture white paper, 2018"
_V100 = "NVIDIA V100 Tensor Core GPU data sheet, 2020"
_T4 = "NVIDIA T4 data sheet, 2019"
_L4 = "NVIDIA L4 Tensor Core GPU data sheet, 2023 (halved: stated with sparsity)"


@dataclass(frozen=True)
class VendorPeak:
    """Peaks of a GPU in TFLOP/s by precision, as its vendor states them: dense, without sparsity.

    ``float32`` is without tensor cores, which PyTorch uses for float32 only if TF32 is allowed.
    Of cards in several sizes, bandwidth and memory are the smallest.
    """

    name_parts: tuple[str, ...]  # all of them occur in the driver's name of the GPU
    tflops: dict[str, float]
    bandwidth: float  # TB/s
    memory: float  # GB
    source: str


# The more specific names first.
VENDOR_PEAKS: tuple[VendorPeak, ...] = (
    VendorPeak(("H200",), {"float32": 67, "bfloat16": 989.5, "float16": 989.5}, 4.8, 141, _H200),
    VendorPeak(
        ("H100", "HBM3"), {"float32": 67, "bfloat16": 989.5, "float16": 989.5}, 3.35, 80, _H100
    ),
    VendorPeak(("H100", "PCIe"), {"float32": 51, "bfloat16": 756, "float16": 756}, 2.0, 80, _H100),
    VendorPeak(("A100",), {"float32": 19.5, "bfloat16": 312, "float16": 312}, 1.555, 40, _A100),
    VendorPeak(("V100", "SXM2"), {"float32": 15.7, "float16": 125}, 0.9, 16, _V100),
    VendorPeak(("TITAN RTX",), {"float32": 16.3, "float16": 130.5}, 0.672, 24, _TURING),
    # Its rate in half precision depends on the accumulator.
    VendorPeak(("RTX 2080 Ti",), {"float32": 13.4}, 0.616, 11, _TURING),
    VendorPeak(("T4",), {"float32": 8.1, "float16": 65}, 0.32, 16, _T4),
    VendorPeak(("L4",), {"float32": 30.3, "bfloat16": 121, "float16": 121}, 0.3, 24, _L4),
)


def data_sheet(gpu: str) -> VendorPeak | None:
    """The data sheet of a GPU by its driver's name or a part of its name, e.g. ``H100``.

    None if it is not listed: a guess would look like a fact.
    """
    words = set(gpu.upper().replace("-", " ").split())
    for entry in VENDOR_PEAKS:
        known = set(" ".join(entry.name_parts).upper().split())
        if words and (words <= known or known <= words):
            return entry
    return None
