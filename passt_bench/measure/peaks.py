"""Peak rates that vendors state for their GPUs, beside what is measured in a session.

Dense matrix products, without sparsity, from the vendors' data sheets. What is not listed is None:
a guess would look like a fact.
"""

from __future__ import annotations

from dataclasses import dataclass

_A100 = "NVIDIA A100 Tensor Core GPU data sheet, 2021"
_H100 = "NVIDIA H100 Tensor Core GPU data sheet, 2023 (halved: stated with sparsity)"
_H200 = "NVIDIA H200 Tensor Core GPU data sheet, 2024 (halved: stated with sparsity)"
_TURING = "NVIDIA Turing GPU architecture white paper, 2018"
_V100 = "NVIDIA V100 Tensor Core GPU data sheet, 2020"
_T4 = "NVIDIA T4 data sheet, 2019"
_L4 = "NVIDIA L4 Tensor Core GPU data sheet, 2023 (halved: stated with sparsity)"


@dataclass(frozen=True)
class Stated:
    """A GPU's stated peaks in TFLOP/s by precision.

    ``float32`` is without tensor cores, which PyTorch uses for float32 only where TF32 is allowed.
    """

    words: tuple[str, ...]  # all of them occur in the name that the driver gives
    tflops: dict[str, float]
    source: str


# The more specific names first.
STATED: tuple[Stated, ...] = (
    Stated(("H200",), {"float32": 67, "bfloat16": 989.5, "float16": 989.5}, _H200),
    Stated(("H100", "PCIe"), {"float32": 51, "bfloat16": 756, "float16": 756}, _H100),
    Stated(("H100", "HBM3"), {"float32": 67, "bfloat16": 989.5, "float16": 989.5}, _H100),
    Stated(("A100",), {"float32": 19.5, "bfloat16": 312, "float16": 312}, _A100),
    Stated(("V100", "SXM2"), {"float32": 15.7, "float16": 125}, _V100),
    Stated(("TITAN RTX",), {"float32": 16.3, "float16": 130.5}, _TURING),
    Stated(("RTX 2080 Ti",), {"float32": 13.4}, _TURING),  # half depends on the accumulator
    Stated(("T4",), {"float32": 8.1, "float16": 65}, _T4),
    Stated(("L4",), {"float32": 30.3, "bfloat16": 121, "float16": 121}, _L4),
)


def stated_peak(gpu: str, precision: str) -> tuple[float, str] | None:
    """FLOP/s that the vendor states, and the source; None for what is not listed.

    Args:
        gpu: the driver's name, e.g. ``NVIDIA H200``.
        precision: ``float32``, ``bfloat16`` or ``float16``.
    """
    known = gpu.replace("-", " ").split()
    for stated in STATED:
        if all(set(word.split()) <= set(known) for word in stated.words):
            peak = stated.tflops.get(precision)
            return None if peak is None else (peak * 1e12, stated.source)
    return None
