import pytest
import torch

from passt_bench.measure.peaks import VENDOR_PEAKS, data_sheet, matmul_peak


def test_the_matmul_peak_is_the_best_of_its_sizes() -> None:
    torch.set_num_threads(1)
    rate = matmul_peak(torch.device("cpu"), "bfloat16", ((8, 8, 8), (256, 256, 256)), 0.05)
    assert 1e8 < rate < 1e14


@pytest.mark.parametrize(
    ("gpu", "precision", "tflops"),
    [
        ("NVIDIA H200", "bfloat16", 989.5),
        ("NVIDIA H100 PCIe", "float16", 756),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("NVIDIA GeForce RTX 2080 Ti", "float32", 13.4),
        ("NVIDIA GeForce RTX 9999", "float16", None),
        ("", "float32", None),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),  # it has none
        ("NVIDIA H100 NVL", "float16", None),  # another board than those listed
        ("NVIDIA L40S", "float16", None),  # not an L4
    ],
)
def test_vendor_peaks(gpu: str, precision: str, tflops: float | None) -> None:
    found = data_sheet(gpu)
    assert (found and found.tflops.get(precision)) == tflops
    assert all(entry.source and entry.tflops["float32"] > 0 for entry in VENDOR_PEAKS)
