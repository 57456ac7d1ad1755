"""Weight files of the published formats at the size of a toy: width 64, one or two blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from passt_bench.models import create_model
from passt_bench.models.frontend import make_frontend
from passt_bench.published_weights import PUBLISHED
from passt_bench.spec.frontends import panns_frontend

WIDTH, HEADS = 64, 1  # that a recipe must give for its model to begin with these files

# Parts of names of our AST, which are the authors', and of transformers': before version 5, since.
_BODY = "audio_spectrogram_transformer."
_HUGGING_FACE = (
    ("v.blocks.", f"{_BODY}encoder.layer.", f"{_BODY}layers."),
    (".norm1.", ".layernorm_before.", ".layernorm_before."),
    (".norm2.", ".layernorm_after.", ".layernorm_after."),
    (".attn.proj.", ".attention.output.dense.", ".attention.o_proj."),
    (".mlp.fc1.", ".intermediate.dense.", ".mlp.fc1."),
    (".mlp.fc2.", ".output.dense.", ".mlp.fc2."),
    ("v.norm.", f"{_BODY}layernorm.", f"{_BODY}layernorm."),
    ("v.cls_token", *2 * (f"{_BODY}embeddings.cls_token",)),
    ("v.dist_token", *2 * (f"{_BODY}embeddings.distillation_token",)),
    ("v.pos_embed", *2 * (f"{_BODY}embeddings.position_embeddings",)),
    ("v.patch_embed.proj.", *2 * (f"{_BODY}embeddings.patch_embeddings.projection.",)),
    ("mlp_head.0.", *2 * ("classifier.layernorm.",)),
    ("mlp_head.1.", *2 * ("classifier.dense.",)),
)


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every parameter and buffer random values, none at its default."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.5 * torch.rand(tensor.shape, generator=generator) + 0.1)
    return net


def passt(classes: int = 527, *, stride: int = 10, frames: int = 998, depth: int = 1) -> nn.Module:
    size = {"stride": stride, "frames": frames, "depth": depth, "width": WIDTH, "heads": HEADS}
    return randomised(create_model("passt_s", classes, **size), stride + frames + depth).eval()


def save(path: Path, net: nn.Module, prefix: str = "") -> Path:
    torch.save({prefix + name: t for name, t in net.state_dict().items()}, path)
    return path


def deit(
    side: int = 6, *, depth: int = 1, distilled: bool = True, width: int = WIDTH
) -> dict[str, torch.Tensor]:
    """Random weights of a DeiT (or ViT) under timm's names."""
    net = create_model("passt_s", 10, depth=depth, width=width, heads=width // 64)
    shared = ("blocks.", "norm.", "cls_token")
    generator = torch.Generator().manual_seed(5)
    shapes = {
        "pos_embed": (1, side * side + (2 if distilled else 1), width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "head.weight": (1000, width),
        "head.bias": (1000,),
    }
    if distilled:
        shapes |= {"dist_token": (1, 1, width)}
        shapes |= {"head_dist.weight": (1000, width), "head_dist.bias": (1000,)}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    blocks = {name: t for name, t in net.state_dict().items() if name.startswith(shared)}
    for name, tensor in blocks.items():  # no bias is 0, no norm 1
        blocks[name] = tensor + 0.02 * torch.randn(tensor.shape, generator=generator)
    return blocks | drawn


def hugging_face(net: nn.Module, *, old: bool = False) -> dict[str, torch.Tensor]:
    """An AST's weights under the names of transformers, before version 5 or since."""
    found = {}
    for name, tensor in net.state_dict().items():
        for ours, before, since in _HUGGING_FACE:
            name = name.replace(ours, before if old else since)
        if ".attn.qkv." not in name:
            found[name] = tensor
            continue
        for word, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            part = f"attention.{word}" if old else f"{word[0]}_proj"
            found[name.replace(".attn.qkv.", f".attention.{part}.")] = third
    return found


def write_published(folder: Path, names: Iterable[str], width: int = WIDTH) -> Path:
    """Writes files as they are released, but narrower; the folder, for ``PASST_BENCH_WEIGHTS``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        entry = PUBLISHED[name]
        if entry.labels == "imagenet":
            torch.save({"model": deit(24, depth=entry.depth, width=width)}, folder / entry.file)
        else:
            size = {"stride": entry.stride or 10, "frames": entry.frames, "depth": entry.depth}
            size |= {"width": width, "heads": width // 64, "seed": len(name)}
            save(folder / entry.file, create_model("passt_s", entry.classes, **size))
    return folder


def panns_buffers(rate: int, n_fft: int, fmax: float) -> dict[str, torch.Tensor]:
    """The front end in the released files: filters, and the DFT by definition times Hann's window.

    torchlibrosa 0.1.0 has the same buffers.
    """
    spec = replace(panns_frontend(), sampling_rate=rate, n_fft=n_fft, window=n_fft, fmax=fmax)
    bins, samples = torch.arange(n_fft // 2 + 1.0), torch.arange(float(n_fft))
    angles = 2 * torch.pi * bins.double().outer(samples.double()) / n_fft
    hann = 0.5 - 0.5 * angles[1].cos()
    return {
        "logmel_extractor.melW": make_frontend(spec).filters.T.contiguous(),
        "spectrogram_extractor.stft.conv_real.weight": (angles.cos() * hann)[:, None].float(),
        "spectrogram_extractor.stft.conv_imag.weight": -(angles.sin() * hann)[:, None].float(),
    }
