"""Random weights under the names of published files, small enough to train with in a test."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from passt_bench.models import create_model
from passt_bench.published_weights import PUBLISHED

WIDTH, HEADS = 64, 1  # what recipes have to say of their model to begin with these files
SIDE = 24  # of DeiT's grid of patches


def write_published(folder: Path, names: Iterable[str], width: int = WIDTH) -> Path:
    """Writes files as they are released, but narrower; the folder, for ``PASST_BENCH_WEIGHTS``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        entry = PUBLISHED[name]
        net = create_model(
            "passt_s",
            entry.classes,
            stride=entry.stride or 10,
            frames=entry.frames,
            width=width,
            depth=entry.depth,
            heads=width // 64,
            seed=len(name),
        )
        state: dict[str, torch.Tensor] = dict(net.state_dict())
        image = entry.labels == "imagenet"
        torch.save({"model": _deit(state, width)} if image else state, folder / entry.file)
    return folder


def _deit(state: dict[str, torch.Tensor], width: int) -> dict[str, torch.Tensor]:
    """A PaSST's tensors as a distilled DeiT's of images, under timm's names."""
    generator = torch.Generator().manual_seed(7)
    shared = ("blocks.", "norm.", "cls_token", "dist_token", "patch_embed.proj.bias")
    taken = {name: tensor for name, tensor in state.items() if name.startswith(shared)}
    wide = state["patch_embed.proj.weight"].repeat(1, 3, 1, 1)
    return {
        **taken,
        "patch_embed.proj.weight": wide,
        "pos_embed": 0.02 * torch.randn(1, SIDE * SIDE + 2, width, generator=generator),
        "head.weight": torch.zeros(1000, width),
        "head.bias": torch.zeros(1000),
        "head_dist.weight": torch.zeros(1000, width),
        "head_dist.bias": torch.zeros(1000),
    }
