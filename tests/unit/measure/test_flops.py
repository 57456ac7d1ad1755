import pytest
import torch
from torch import nn

from passt_bench.measure.flops import count_flops, vit_flops
from passt_bench.models import build_model


def test_a_matrix_product_and_its_backward() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(7, 5), torch.empty(3, 7)
    assert count_flops(lambda: layer(x), backward=False) == 2 * 3 * 7 * 5
    # The input needs no gradient, the weight does.
    assert count_flops(lambda: layer(x), backward=True) == 2 * 2 * 3 * 7 * 5


def test_fused_attention_is_counted_in_full() -> None:
    with torch.device("meta"):
        q = torch.empty(2, 4, 50, 16, requires_grad=True)

    def attend() -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, q, q)

    product = 2 * 2 * 4 * 50 * 50 * 16
    assert count_flops(attend, backward=False) == 2 * product
    assert count_flops(attend, backward=True) == 6 * product


def test_real_tensors_are_refused() -> None:
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
    patches = grid[0] * grid[1]
    assert count_flops(lambda: net(x, indices), backward=backward) == vit_flops(
        tokens=2 + (patches if kept is None else kept),
        width=width,
        depth=depth,
        classes=10,
        patches=patches,
        patch_elements=patch[0] * patch[1],
        backward=backward,
    )
