import pytest
import torch
from closed_form import vit_flops
from torch import nn

from passt_bench.measure.flops import VENDOR_PEAKS, count_flops, matmul_peak, vendor_peak
from passt_bench.models import build_model


def test_a_matrix_product_and_its_backward_on_the_meta_device_alone() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(7, 5), torch.empty(3, 7)
    assert count_flops(lambda: layer(x), backward=False) == 2 * 3 * 7 * 5
    # The input needs no gradient, the weight does.
    assert count_flops(lambda: layer(x), backward=True) == 2 * 2 * 3 * 7 * 5
    with pytest.raises(ValueError, match="meta"):
        count_flops(lambda: torch.ones(2, 2) @ torch.ones(2, 2), backward=False)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kept", [None, 1, 10, 48])
@pytest.mark.parametrize(
    ("name", "width", "depth", "patch", "stride", "mels", "frames", "grid"),
    [
        ("passt_micro", 64, 2, (8, 8), (8, 8), 64, 48, (8, 6)),
        ("passt_micro", 64, 3, (8, 8), (6, 6), 64, 50, (10, 8)),
        ("passt_tiny", 192, 12, (16, 16), (10, 10), 128, 998, (12, 99)),
    ],
)
def test_the_closed_form_equals_the_count(
    name: str, width: int, depth: int, patch: tuple[int, int], stride: tuple[int, int],
    mels: int, frames: int, grid: tuple[int, int], kept: int | None, backward: bool,
) -> None:  # fmt: skip
    with torch.device("meta"):
        net = build_model(
            name, 10, depth=depth, patch=patch, stride=stride, mels=mels, frames=frames
        )
        x = torch.empty(1, 1, mels, frames)
        indices = None if kept is None else torch.empty(kept, dtype=torch.long)
    net.train(backward)
    assert count_flops(lambda: net(x, indices), backward=backward) == vit_flops(
        tokens=2 + (grid[0] * grid[1] if kept is None else kept),
        width=width,
        depth=depth,
        classes=10,
        patch_elements=patch[0] * patch[1],
        backward=backward,
    )


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
    found = vendor_peak(gpu, precision)
    assert (found and found[0]) == (tflops and pytest.approx(tflops * 1e12))
    assert found is None or found[1]
    assert all(entry.source and entry.tflops["float32"] > 0 for entry in VENDOR_PEAKS)
