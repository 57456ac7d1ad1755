"""PaSST: a patch transformer over log-mel spectrograms with separated position encodings.

Shapes: B batch, E width, F and T the patch grid, N patches, L tokens (N + 2).
Computes what ``models/passt.py`` of the reference code computes, under the same parameter names;
written anew. Paper section 2 and figure 2.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.init import fill_normal
from passt_bench.models.patchout import draw_batch
from passt_bench.spec.recipe import Pair, Patchout

SPECIAL_TOKENS = 2  # class and distillation token


class Attention(nn.Module):
    """Multi-head self-attention, (B, L, E) → (B, L, E)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """Fused scaled dot-product attention over all tokens."""
        B, L, E = x_BLE.shape
        qkv = self.qkv(x_BLE).view(B, L, 3, self.heads, E // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(B, L, E))


class Mlp(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, E) → (…, E)."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block; LayerNorm epsilon 1e-6 as in DeiT."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """(B, L, E) → (B, L, E)."""
        x_BLE = x_BLE + self.attn(self.norm1(x_BLE))
        return x_BLE + self.mlp(self.norm2(x_BLE))


class PatchEmbed(nn.Module):
    """Patches by a strided convolution, (B, 1, mels, frames) → (B, E, F, T)."""

    def __init__(self, width: int, patch: Pair, stride: Pair) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Overlaps where the stride is smaller than the patch."""
        return self.proj(x)


class PaSST(nn.Module):
    """The patchout spectrogram transformer.

    Args:
        num_classes: logits.
        mels: rows of the input.
        frames: columns that the time encodings cover; shorter input takes a part of them (a random
            part in training, as published), longer input is cut.
        patch: patch size (frequency, time).
        stride: patch stride (frequency, time).
        width: embedding width.
        depth: blocks.
        heads: attention heads; must divide the width.
        patchout: what a plain ``net(x)`` in training drops, drawn from torch's own generator.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        mels: int = 128,
        frames: int = 998,
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
        self.patch, self.stride, self.mels = patch, stride, mels
        self.patchout = patchout or Patchout()
        self._frames = frames
        rows, columns = self._grid_of(frames)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.dist_token = nn.Parameter(torch.empty(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.empty(1, 2, width))
        self.freq_new_pos_embed = nn.Parameter(torch.empty(1, width, rows, 1))
        self.time_new_pos_embed = nn.Parameter(torch.empty(1, width, 1, columns))
        self.patch_embed = PatchEmbed(width, patch, stride)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
        # Never used, and in every published checkpoint: the reference code keeps it too.
        self.head_dist = nn.Linear(width, num_classes)

    @property
    def special_tokens(self) -> int:
        """Tokens beside the patches."""
        return SPECIAL_TOKENS

    def _grid_of(self, frames: int) -> Pair:
        sizes = zip(("mels", "frames"), (self.mels, frames), self.patch, self.stride, strict=True)
        counts = []
        for name, length, patch, stride in sizes:
            if length < patch:
                raise InputError(
                    f"shorter than a patch of {patch}",
                    field=name,
                    value=length,
                    remedy="Use longer input or smaller patches.",
                )
            counts.append((length - patch) // stride + 1)
        return counts[0], counts[1]

    def grid(self, frames: int) -> Pair:
        """The patch grid (frequency, time) of an input with that many frames."""
        rows, columns = self._grid_of(frames)
        return rows, min(columns, self.time_new_pos_embed.shape[3])

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, mels, frames) → patches with position encodings, (B, E, F, T)."""
        x_BEFT = self.patch_embed(x)
        known = self.time_new_pos_embed.shape[3]
        columns = x_BEFT.shape[3]
        start = 0
        if columns < known and self.training:
            start = int(torch.randint(known - columns + 1, (1,)))
        x_BEFT = x_BEFT[..., :known]
        time = self.time_new_pos_embed[..., start : start + x_BEFT.shape[3]]
        return x_BEFT + time + self.freq_new_pos_embed

    def features(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """The mean of class and distillation token after the last norm, (B, E)."""
        x_BEFT = self.embed(x)
        if kept is None and self.training and self.patchout.kind != "none":
            grid = (x_BEFT.shape[2], x_BEFT.shape[3])
            seed = int(torch.randint(2**62, (1,)))
            kept = draw_batch(self.patchout, grid, seed, 0, x.shape[0])
        x_BNE = gather(x_BEFT.flatten(2).transpose(1, 2), kept)
        B = x_BNE.shape[0]
        cls = (self.cls_token + self.new_pos_embed[:, :1]).expand(B, -1, -1)
        dist = (self.dist_token + self.new_pos_embed[:, 1:]).expand(B, -1, -1)
        x_BLE = torch.cat((cls, dist, x_BNE), dim=1)
        for block in self.blocks:
            x_BLE = block(x_BLE)
        x_BLE = self.norm(x_BLE[:, :SPECIAL_TOKENS])
        return x_BLE.mean(dim=1)

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes).

        Args:
            x: normalised log-mel.
            kept: flat frequency-major patch indices, (n,) shared by the batch or (B, n).
        """
        return self.head(self.features(x, kept))

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        """Initial values of one parameter, for training from scratch; norms 1, biases 0.

        Weights are truncated normal with DeiT's 0.02 at its width of 768, and with the same gain at
        other widths. Encodings begin at half the scale of the patch tokens instead of at 0.02: in
        the few epochs of a study from scratch they would stay too faint to tell places apart.
        """
        if name == "patch_embed.proj.weight":
            fill_normal(parameter, 1 / math.sqrt(parameter[0].numel()), generator)
        elif name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name or name == "head.0.weight":
            parameter.fill_(1.0)
        elif name.endswith(("token", "pos_embed")):
            fill_normal(parameter, 0.5, generator)
        else:
            fill_normal(parameter, 0.02 * math.sqrt(768 / parameter.shape[1]), generator)


def gather(x_BNE: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
    """Keeps patches, (B, N, E) → (B, n, E)."""
    if kept is None:
        return x_BNE
    kept = kept.to(x_BNE.device)
    if kept.ndim == 1:
        return x_BNE.index_select(1, kept)
    return x_BNE.gather(1, kept.unsqueeze(-1).expand(-1, -1, x_BNE.shape[2]))
