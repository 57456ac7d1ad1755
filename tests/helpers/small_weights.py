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


def hugging_face(net: torch.nn.Module, *, old: bool) -> dict[str, torch.Tensor]:
    """An AST's weights under the names of transformers, before version 5 or from then on."""
    state = net.state_dict()
    body = "audio_spectrogram_transformer."
    out = {
        f"{body}embeddings.cls_token": state["v.cls_token"],
        f"{body}embeddings.distillation_token": state["v.dist_token"],
        f"{body}embeddings.position_embeddings": state["v.pos_embed"],
    }
    for part in ("weight", "bias"):
        out[f"{body}embeddings.patch_embeddings.projection.{part}"] = state[
            f"v.patch_embed.proj.{part}"
        ]
        out[f"{body}layernorm.{part}"] = state[f"v.norm.{part}"]
        out[f"classifier.layernorm.{part}"] = state[f"mlp_head.0.{part}"]
        out[f"classifier.dense.{part}"] = state[f"mlp_head.1.{part}"]
        for i in range(len(net.v.blocks)):
            block = f"{body}{'encoder.layer' if old else 'layers'}.{i}"
            names = {
                "norm1": "layernorm_before",
                "norm2": "layernorm_after",
                "attn.proj": "attention.output.dense" if old else "attention.o_proj",
                "mlp.fc1": "intermediate.dense" if old else "mlp.fc1",
                "mlp.fc2": "output.dense" if old else "mlp.fc2",
            }
            for ours, theirs in names.items():
                out[f"{block}.{theirs}.{part}"] = state[f"v.blocks.{i}.{ours}.{part}"]
            thirds = state[f"v.blocks.{i}.attn.qkv.{part}"].chunk(3)
            for third, word in zip(thirds, ("query", "key", "value"), strict=True):
                name = f"attention.{word}" if old else f"{word[0]}_proj"
                out[f"{block}.attention.{name}.{part}"] = third
    return out
