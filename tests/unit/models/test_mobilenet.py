"""MobileNetV3-Large: published size, the multiplier, names that torchvision's checkpoints have."""

from __future__ import annotations

import pytest
import torch

from passt_bench.models import build_model, create_model
from passt_bench.models.mobilenet import scaled


def _parameters(classes: int, width_mult: float | None = None) -> int:
    with torch.device("meta"):
        net = build_model("mobilenetv3", classes, width_mult=width_mult)
    return sum(parameter.numel() for parameter in net.parameters())


def test_published_size() -> None:
    colors = 2 * 9 * 16  # the first filters see one channel in place of three
    assert _parameters(1000) + colors == 5_483_032  # of torchvision's weights
    assert _parameters(527) == 5_483_032 - colors - 473 * 1281


@pytest.mark.parametrize(
    ("channels", "found"),
    [(16, 16), (4, 8), (12, 16), (11, 16), (18, 24), (28, 32), (1280.4, 1280)],
)
def test_channels_are_multiples_of_eight(channels: float, found: int) -> None:
    assert scaled(channels) == found
    assert found >= 0.9 * channels


def test_the_multiplier_scales_all_channels() -> None:
    counts = [_parameters(10, factor) for factor in (0.25, 0.5, 1.0, 2.0)]
    assert counts == sorted(counts)
    assert counts[2] == _parameters(10)
    assert 3 < counts[3] / counts[2] < 4.5
    with torch.device("meta"):
        net = build_model("mobilenetv3", 10, width_mult=0.5)
    shapes = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    assert shapes["features.0.0.weight"] == (8, 1, 3, 3)
    assert shapes["features.4.block.2.fc1.weight"] == (
        16,
        40,
        1,
        1,
    )  # 8 would be less than 0.9 x 10
    assert shapes["features.16.0.weight"] == (480, 80, 1, 1)
    assert shapes["classifier.0.weight"] == (640, 480)
    assert shapes["classifier.3.weight"] == (10, 640)


@pytest.mark.parametrize("frames", [1, 33, 100])
def test_any_length_works(frames: int) -> None:
    net = create_model("mobilenetv3", 4, width_mult=0.25, mels=64, frames=frames).eval()
    assert net(torch.randn(2, 1, 64, frames)).shape == (2, 4)
