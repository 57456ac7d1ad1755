"""Operations of a vision transformer and of a depthwise convolution in closed form."""

from __future__ import annotations


def vit_flops(
    *,
    tokens: int,
    width: int,
    depth: int,
    classes: int,
    patch_elements: int,
    special: int = 2,
    mlp_ratio: int = 4,
    backward: bool,
) -> int:
    """Operations of a vision transformer for one clip, in closed form.

    Only kept patches are embedded; the input of the embedding needs no gradient, so its backward
    costs as much as its forward, and everything else twice as much. Tokens are those in the blocks:
    kept patches and special tokens. The last block has only the special tokens' queries and
    outputs.
    """
    embed = 2 * (tokens - special) * patch_elements * width
    rest = 2 * width * classes
    for read in (tokens,) * (depth - 1) + (special,):
        rest += (
            2 * width * width * (3 * tokens + (1 + 2 * mlp_ratio) * read)
        )  # qkv; projection, MLP
        rest += 2 * 2 * read * tokens * width  # scores, and their product with the values
    return (2 * embed + 3 * rest) if backward else (embed + rest)


def depthwise_flops(*, outputs: int, kernel: int, backward: bool) -> int:
    """Operations of a depthwise convolution with a square kernel, whose input needs a gradient."""
    return 2 * outputs * kernel**2 * (3 if backward else 1)
