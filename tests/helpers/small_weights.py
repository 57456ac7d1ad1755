"""Weight files of the published formats at the size of a toy: width 64, one or two blocks."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from passt_bench.models import create_model

KEYS = Path(__file__).parent / "official_passt_keys.txt"


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every parameter and buffer random values, none at its default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.5 * torch.rand(tensor.shape, generator=generator) + 0.1)
    return net


def passt(classes: int = 527, *, stride: int = 10, frames: int = 998, depth: int = 1) -> nn.Module:
    """A PaSST on 128 mels with random weights."""
    net = create_model(
        "passt_s", classes, stride=stride, frames=frames, width=64, depth=depth, heads=1
    )
    return randomised(net, stride + frames + depth).eval()


def save(path: Path, net: nn.Module, prefix: str = "") -> Path:
    """Writes a module's tensors as torch.save does, their names under a prefix."""
    torch.save({prefix + name: t for name, t in net.state_dict().items()}, path)
    return path


def deit(
    side: int = 6, *, width: int = 64, depth: int = 1, distilled: bool = True
) -> dict[str, torch.Tensor]:
    """Random weights of a DeiT (or ViT) under timm's names."""
    blocks = {
        name: tensor
        for name, tensor in passt(10, depth=depth).state_dict().items()
        if name.startswith(("blocks.", "norm.", "cls_token"))
    }
    generator = torch.Generator().manual_seed(5)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    out = {
        **blocks,
        "pos_embed": random(1, side * side + (2 if distilled else 1), width),
        "patch_embed.proj.weight": random(width, 3, 16, 16),
        "patch_embed.proj.bias": random(width),
        "head.weight": random(1000, width),
        "head.bias": random(1000),
    }
    if distilled:
        out |= {"dist_token": random(1, 1, width)}
        out |= {"head_dist.weight": random(1000, width), "head_dist.bias": random(1000)}
    return out
