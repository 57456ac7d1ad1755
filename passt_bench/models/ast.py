"""AST: the Audio Spectrogram Transformer (Gong, Chung and Glass 2021).

Computes what ``src/models/ast_models.py`` of github.com/YuanGongND/ast computes, under the
parameter names of its checkpoints; reimplemented. Unlike in PaSST, each position of the patch grid
has its own position encoding. Patchout works the same.

Shapes: B batch, E width, F and T the patch grid, N patches, L tokens (N + 2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.models.passt import (
    SPECIAL_TOKENS,
    Block,
    Blocks,
    PatchEmbed,
    PatchTransformer,
    TransformerOptions,
    take,
)
from passt_bench.models.patchout import draw_plain
from passt_bench.spec.frontends import ast_frontend
from passt_bench.spec.recipe import Pair

PUBLISHED_GRID = (12, 101)  # of the AudioSet checkpoints: 128 mels, 1024 frames, stride 10

# Names of transformers' ASTForAudioClassification, those of its files first, then today's.
_HUGGING_FACE = (
    (r"^audio_spectrogram_transformer\.", ""),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layers\.", "v.blocks."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.attention\.", ".attn."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"^layernorm\.", "v.norm."),
    (r"^classifier\.layernorm\.", "mlp_head.0."),
    (r"^classifier\.dense\.", "mlp_head.1."),
    (r"^embeddings\.distillation_token$", "v.dist_token"),
    (r"^embeddings\.position_embeddings$", "v.pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "v.patch_embed.proj."),
    (r"^embeddings\.", "v."),
)


def from_hugging_face(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of transformers' ASTForAudioClassification under the official names.

    Takes the names in its files and those of its modules; query, key and value become one matrix.
    """
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in _HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    for name in [name for name in renamed if ".q_proj." in name]:
        parts = [renamed.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        renamed[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return renamed


def resample_positions(positions: torch.Tensor, old: Pair, new: Pair) -> torch.Tensor:
    """Position encodings for another grid, as the official code makes them.

    They are (1, 2 + rows * columns, E), class and distillation token first; grids are (frequency,
    time). An axis that becomes shorter is cut from its middle, one that becomes longer is
    interpolated (bilinear); time first, then frequency.
    """
    special, places = positions[:, :SPECIAL_TOKENS], positions[:, SPECIAL_TOKENS:]
    x_1EFT = places.transpose(1, 2).reshape(1, -1, *old)
    for axis in (1, 0):
        size = [x_1EFT.shape[2], x_1EFT.shape[3]]
        start = size[axis] // 2 - new[axis] // 2
        if new[axis] < size[axis]:
            x_1EFT = x_1EFT.narrow(axis + 2, start, new[axis])
        elif new[axis] > size[axis]:
            size[axis] = new[axis]
            x_1EFT = F.interpolate(x_1EFT, size=size, mode="bilinear")
    return torch.cat((special, x_1EFT.flatten(2).transpose(1, 2)), dim=1)


class _Trunk(nn.Module):
    """Tokens, encodings and blocks, named as in DeiT."""

    def __init__(self, grid: Pair, options: TransformerOptions) -> None:
        super().__init__()
        width = options.width
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.dist_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, SPECIAL_TOKENS + grid[0] * grid[1], width))
        self.patch_embed = PatchEmbed(width, options.patch, options.stride)
        self.blocks = Blocks(Block(width, options.heads) for _ in range(options.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)


class AST(PatchTransformer):
    """The audio spectrogram transformer; ``frames`` is what the position encodings are for.

    For input of another length they are resampled, see `resample_positions`.
    """

    frontend = ast_frontend()
    classifiers = ("mlp_head.",)

    def __init__(
        self, num_classes: int, options: TransformerOptions, *, mels: int, frames: int
    ) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.known_grid = self.grid(frames)
        self.v = _Trunk(self.known_grid, options)
        self.mlp_head = nn.Sequential(
            nn.LayerNorm(options.width), nn.Linear(options.width, num_classes)
        )

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes)."""
        self.check_mels(x)
        grid = self.grid(x.shape[3])
        if kept is None and self.training:
            kept = draw_plain(self.patchout, grid, x.shape[0])
        positions = resample_positions(self.v.pos_embed, self.known_grid, grid)
        if kept is not None:
            kept = kept.to(x.device)
        x_BnE = self.v.patch_embed(x, grid, kept)
        if kept is None:
            x_BnE = x_BnE + positions[:, SPECIAL_TOKENS:]
        else:
            x_BnE = x_BnE + take(positions[0, SPECIAL_TOKENS:], kept)
        tokens = torch.cat((self.v.cls_token, self.v.dist_token), dim=1)
        special = (tokens + positions[:, :SPECIAL_TOKENS]).expand(x.shape[0], -1, -1)
        x_BLE = torch.cat((special, x_BnE), dim=1)
        return self.mlp_head(self.v.norm(self.v.blocks(x_BLE)).mean(dim=1))
