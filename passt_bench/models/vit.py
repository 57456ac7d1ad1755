"""Transformer blocks as in DeiT: pre-norm attention and MLP, under the names of its checkpoints.

Shapes: B batch, L tokens, E width.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head self-attention, (B, L, E) → (B, L, E).

    Attributes:
        fused: whether one kernel computes it; else the attention matrix is written to memory, as
            in the reference code of 2021.
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
            float32, which halves what is read and written between the products.
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
