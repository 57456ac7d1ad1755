"""Floating-point operations, counted on the meta device and from a closed form.

A multiply-add is two operations. Matrix products, convolutions and attention are counted;
elementwise work, norms, softmax, biases and the optimizer are not (below 2 % in a transformer).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode


def count_flops(forward: Callable[[], torch.Tensor], *, backward: bool) -> int:
    """Counts what a pass over meta tensors would compute.

    On the CPU the counter overlooks fused attention; on the meta device nothing is fused.

    Args:
        forward: runs the model and returns its output or loss, on the meta device.
        backward: whether to count the backward pass as well.

    Raises:
        ValueError: the output is not on the meta device.
    """
    counter = FlopCounterMode(display=False)
    with counter:
        output = forward()
        if output.device.type != "meta":
            raise ValueError(f"FLOPs are counted on the meta device, but got {output.device}")
        if backward:
            output.sum().backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def vit_flops(
    *,
    tokens: int,
    width: int,
    depth: int,
    classes: int,
    patches: int,
    patch_elements: int,
    mlp_ratio: int = 4,
    backward: bool,
) -> int:
    """Operations of a vision transformer for one clip, in closed form.

    The patch embedding is a convolution over the whole grid, before patchout; its input needs no
    gradient, so its backward costs as much as its forward, and everything else twice as much.

    Args:
        tokens: in the blocks, class tokens included, after patchout.
        width: embedding width.
        depth: blocks.
        classes: outputs of the head, which is one linear layer on one vector.
        patches: of the whole grid, before patchout.
        patch_elements: input values of a patch, e.g. 256 for 16 x 16.
        mlp_ratio: hidden width of the MLP over the width.
        backward: whether the backward pass is included.
    """
    embed = 2 * patches * patch_elements * width
    linear = 2 * tokens * width * width * (4 + 2 * mlp_ratio)  # qkv 3, projection 1, MLP 2 ratio
    attention = 2 * 2 * tokens * tokens * width  # scores, and their product with the values
    rest = depth * (linear + attention) + 2 * width * classes
    return (2 * embed + 3 * rest) if backward else (embed + rest)
