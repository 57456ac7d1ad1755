"""AST: the Audio Spectrogram Transformer (Gong, Chung and Glass 2021).

Computes what ``src/models/ast_models.py`` of github.com/YuanGongND/ast computes, under the
parameter names of its checkpoints; written anew. Unlike in PaSST each place of the patch grid has a
position encoding of its own. Patchout works as there.

Shapes: B batch, E width, F and T the patch grid, N patches, L tokens (N + 2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.base import fill_normal
from passt_bench.models.passt import PatchEmbed, gather
from passt_bench.models.patchout import draw_plain
from passt_bench.models.vit import Block, Blocks
from passt_bench.spec.recipe import Pair, Patchout

SPECIAL_TOKENS = 2  # class and distillation token
PUBLISHED_GRID = (12, 101)  # of the AudioSet checkpoints: 128 mels, 1024 frames, stride 10

# Names of transformers' ASTForAudioClassification, those of its files first, then today's.
_HUGGING_FACE = (
    (r"^audio_spectrogram_transformer\.", ""),
    (r"^encoder\.layer\.", "layers."),
    (r"\.attention\.attention\.(query|key|value)\.", r".attention.\1."),
    (r"\.attention\.(query|key|value)\.", lambda found: f".attention.{found[1][0]}_proj."),
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
    for old, tensor in state.items():
        name = old
        for pattern, replacement in _HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    out = {
        name: tensor for name, tensor in renamed.items() if not re.search(r"\.[qkv]_proj\.", name)
    }
    for name in renamed:
        if ".q_proj." in name:
            parts = [renamed[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            out[name.replace("q_proj", "qkv")] = torch.cat(parts)
    return out


def resample_positions(positions: torch.Tensor, old: Pair, new: Pair) -> torch.Tensor:
    """Position encodings for another grid, as the official code makes them.

    An axis that becomes shorter is cut from its middle, one that becomes longer is stretched
    (bilinear); time first, then frequency.

    Args:
        positions: (1, 2 + rows * columns, E), class and distillation token first.
        old: their grid (frequency, time).
        new: the grid wanted.
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

    def __init__(
        self, grid: Pair, patch: Pair, stride: Pair, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.dist_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, SPECIAL_TOKENS + grid[0] * grid[1], width))
        self.patch_embed = PatchEmbed(width, patch, stride)
        self.blocks = Blocks(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)


class AST(nn.Module):
    """The audio spectrogram transformer.

    Args:
        num_classes: logits.
        mels: rows of the input.
        frames: columns that the position encodings are made for; for input of another length they
            are resampled, see `resample_positions`.
        patch: patch size (frequency, time).
        stride: patch stride (frequency, time).
        width: embedding width.
        depth: blocks.
        heads: attention heads; must divide the width.
        patchout: what a plain ``net(x)`` in training drops, drawn from torch's own generator.

    Raises:
        InputError: the heads do not divide the width, or the input is shorter than a patch.
    """

    special_tokens = SPECIAL_TOKENS

    def __init__(
        self,
        num_classes: int,
        *,
        mels: int = 128,
        frames: int = 1024,
        patch: Pair = (16, 16),
        stride: Pair = (10, 10),
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        patchout: Patchout | None = None,
    ) -> None:
        super().__init__()
        if width % heads:
            raise InputError(
                f"{heads} heads do not divide it",
                field="model.width",
                value=width,
                remedy="Choose a multiple of model.heads.",
            )
        self.mels, self.patch, self.stride = mels, patch, stride
        self.patchout = patchout or Patchout()
        self.known_grid = self.grid(frames)
        self.v = _Trunk(self.known_grid, patch, stride, width, depth, heads)
        self.mlp_head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))

    def grid(self, frames: int) -> Pair:
        """The patch grid (frequency, time) of an input with that many frames.

        Raises:
            InputError: the input is shorter than a patch.
        """
        counts = []
        for axis, (name, length) in enumerate((("mels", self.mels), ("frames", frames))):
            if length < self.patch[axis]:
                raise InputError(
                    f"shorter than a patch of {self.patch[axis]}",
                    field=name,
                    value=length,
                    remedy="Use longer input or smaller patches.",
                )
            counts.append((length - self.patch[axis]) // self.stride[axis] + 1)
        return counts[0], counts[1]

    def features(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """The mean of class and distillation token after the last norm, (B, E).

        Raises:
            InputError: not the number of mels that the model was made for, or too few frames.
        """
        if x.shape[2] != self.mels:
            raise InputError(
                f"the position encodings are for {self.mels} mels",
                field="mels",
                value=int(x.shape[2]),
                remedy="Build the model with `mels` of the input.",
            )
        grid = self.grid(x.shape[3])
        if kept is None and self.training:
            kept = draw_plain(self.patchout, grid, x.shape[0])
        positions = resample_positions(self.v.pos_embed, self.known_grid, grid)
        x_BNE = self.v.patch_embed(x).flatten(2).transpose(1, 2) + positions[:, SPECIAL_TOKENS:]
        tokens = torch.cat((self.v.cls_token, self.v.dist_token), dim=1)
        special = (tokens + positions[:, :SPECIAL_TOKENS]).expand(x.shape[0], -1, -1)
        x_BLE = torch.cat((special, gather(x_BNE, kept)), dim=1)
        x_BLE = self.v.blocks(x_BLE)
        return self.v.norm(x_BLE[:, :SPECIAL_TOKENS]).mean(dim=1)

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes).

        Args:
            x: normalised log-mel.
            kept: flat frequency-major patch indices, (n,) shared by the batch or (B, n).
        """
        return self.mlp_head(self.features(x, kept))

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        """Initial values of one parameter, at the scales of PaSST's; norms 1, biases 0."""
        if name == "v.patch_embed.proj.weight":
            fill_normal(parameter, 1 / math.sqrt(parameter[0].numel()), generator)
        elif name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name or name == "mlp_head.0.weight":
            parameter.fill_(1.0)
        elif name.endswith(("token", "pos_embed")):
            fill_normal(parameter, 0.5, generator)
        else:
            fill_normal(parameter, 0.02 * math.sqrt(768 / parameter.shape[1]), generator)
