import pytest

from passt_bench.measure.flops import VENDOR_PEAKS, stated_peak


@pytest.mark.parametrize(
    ("gpu", "precision", "tflops"),
    [
        ("NVIDIA H200", "bfloat16", 989.5),
        ("NVIDIA H100 80GB HBM3", "float16", 989.5),
        ("NVIDIA H100 PCIe", "float16", 756),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("TITAN RTX", "float16", 130.5),
        ("NVIDIA GeForce RTX 2080 Ti", "float32", 13.4),
        ("Tesla T4", "float16", 65),
    ],
)
def test_stated_peaks(gpu: str, precision: str, tflops: float) -> None:
    found = stated_peak(gpu, precision)
    assert found is not None
    assert found[0] == pytest.approx(tflops * 1e12)
    assert found[1]


@pytest.mark.parametrize(
    ("gpu", "precision"),
    [
        ("NVIDIA GeForce RTX 9999", "float16"),
        ("", "float32"),
        ("Tesla V100-SXM2-16GB", "bfloat16"),  # it has none
        ("NVIDIA H100 NVL", "float16"),  # another board than those listed
        ("NVIDIA L40S", "float16"),  # not an L4
    ],
)
def test_what_is_not_listed_is_none(gpu: str, precision: str) -> None:
    assert stated_peak(gpu, precision) is None


def test_every_entry_has_a_source_and_float32() -> None:
    assert all(entry.source and entry.tflops["float32"] > 0 for entry in VENDOR_PEAKS)
