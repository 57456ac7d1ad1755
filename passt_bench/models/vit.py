"""What PaSST and AST share: DeiT's blocks under the names of its checkpoints, and the patch grid.

Shapes: B batch, L tokens, E width, F and T the patch grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.base import AudioModel, Positive, PositivePair, fill_normal
from passt_bench.spec.recipe import Pair

SPECIAL_TOKENS = 2  # class and distillation token


class Attention(nn.Module):
    """Multi-head self-attention, (B, L, E) → (B, L, E).

    Attributes:
        fused: whether one kernel computes attention; else its matrix is written to memory, as in
            the reference code of 2021.
    """

    fused = True

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """Scaled dot-product attention over all tokens."""
        B, L, E = x_BLE.shape
        qkv = self.qkv(x_BLE).view(B, L, 3, self.heads, E // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            out = F.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
            out = scores.softmax(dim=-1) @ v
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


class Blocks(nn.ModuleList):
    """Transformer blocks one after the other.

    Attributes:
        compute_residual: whether the residual stream is kept in autocast's precision instead of
            float32, which halves the memory traffic between the products.
    """

    compute_residual = False

    def forward(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """(B, L, E) → (B, L, E)."""
        device = x_BLE.device.type
        if self.compute_residual and torch.is_autocast_enabled(device):
            x_BLE = x_BLE.to(torch.get_autocast_dtype(device))
        for block in self:
            x_BLE = block(x_BLE)
        return x_BLE


class PatchEmbed(nn.Module):
    """Patches by a strided convolution, (B, 1, mels, frames) → (B, E, F, T)."""

    def __init__(self, width: int, patch: Pair, stride: Pair) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Patches overlap if the stride is smaller than the patch."""
        return self.proj(x)


@dataclass(frozen=True)
class TransformerOptions:
    """Hyper-parameters of a patch transformer; the defaults are those of DeiT-B."""

    patch: Annotated[PositivePair, Field(description="Patch size (frequency, time).")] = (16, 16)
    stride: Annotated[PositivePair, Field(description="Patch stride (frequency, time).")] = (10, 10)
    width: Annotated[Positive, Field(description="Embedding width.")] = 768
    depth: Annotated[Positive, Field(description="Blocks.")] = 12
    heads: Annotated[Positive, Field(description="Attention heads; must divide the width.")] = 12


class PatchTransformer(AudioModel):
    """A transformer over patches, with class and distillation token.

    Raises:
        InputError: heads that do not divide the width.
    """

    Options = TransformerOptions
    special_tokens = SPECIAL_TOKENS

    def __init__(
        self, num_classes: int, options: TransformerOptions, *, mels: int, frames: int
    ) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        if options.width % options.heads:
            raise InputError(
                f"{options.heads} heads do not divide it",
                field="model.width",
                value=options.width,
                remedy="Choose a multiple of model.heads.",
            )
        self.patch, self.stride = options.patch, options.stride

    def patch_grid(self, frames: int) -> Pair:
        """Rows and columns of the patches of an input with that many frames.

        Raises:
            InputError: the input is smaller than a patch.
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

    def check_mels(self, x: torch.Tensor) -> None:
        """Refuses input with another number of mels than the position encodings are for.

        Raises:
            InputError: names both numbers of mels.
        """
        if x.shape[2] != self.mels:
            raise InputError(
                f"the position encodings are for {self.mels} mels",
                field="mels",
                value=int(x.shape[2]),
                remedy="Build the model with `mels` of the input.",
            )

    def init_parameter(
        self, name: str, parameter: torch.Tensor, generator: torch.Generator
    ) -> None:
        """Initial values of one parameter, for training from scratch; norms 1, biases 0.

        Weights are truncated normal with DeiT's 0.02 at its width of 768, and with the same gain at
        other widths. Encodings begin at half the scale of the patch tokens instead of at 0.02: in
        the few epochs of a study from scratch they would stay too weak to distinguish positions.
        """
        if name.endswith("patch_embed.proj.weight"):
            fill_normal(parameter, 1 / math.sqrt(parameter[0].numel()), generator)
        elif name.endswith("bias"):
            parameter.zero_()
        elif "norm" in name or name.endswith("head.0.weight"):
            parameter.fill_(1.0)
        elif name.endswith(("token", "pos_embed")):
            fill_normal(parameter, 0.5, generator)
        else:
            fill_normal(parameter, 0.02 * math.sqrt(768 / parameter.shape[1]), generator)
