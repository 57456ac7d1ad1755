"""PaSST: a patch transformer over log-mel spectrograms with disentangled position encodings.

Computes what ``models/passt.py`` of the reference code computes, under the same parameter names;
reimplemented. Paper section 2 and figure 2. AST shares the blocks (of DeiT) and the patch grid.

Shapes: B batch, E width, F and T the patch grid, N patches, L tokens (N + 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from passt_bench.errors import InputError
from passt_bench.models.attention import attend_by_heads
from passt_bench.models.base import AudioModel, Positive, PositivePair, fill_normal, frames_of
from passt_bench.models.patchout import draw_plain
from passt_bench.spec.codec import about
from passt_bench.spec.recipe import Pair

SPECIAL_TOKENS = 2  # class and distillation token


Layer = Callable[[torch.Tensor], torch.Tensor]


class _LinearOf(torch.autograd.Function):
    """A linear layer of ``y = again(x)`` that keeps x, and computes y again in backward.

    Not by hooks on saved tensors: autograd applies one pair of them at a time, so that nobody
    around could count what is kept.
    """

    @staticmethod
    def forward(ctx: Any, again: Layer, x: torch.Tensor, *given: torch.Tensor) -> torch.Tensor:
        ctx.again = again
        ctx.save_for_backward(x, given[1])
        return F.linear(*given)  # y (…, N), weight (M, N) and bias (M,)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        rows, y = grad.flatten(0, -2), ctx.again(x).flatten(0, -2)
        return None, None, grad @ weight, rows.T @ y, rows.sum(0)


def linear_after(
    linear: nn.Linear, before: Layer, x: torch.Tensor, recompute: bool
) -> torch.Tensor:
    """``linear(before(x))``; with ``recompute``, backward computes ``before(x)`` anew.

    Else autograd keeps it, for the gradient of the weights.
    """
    if not recompute:
        return linear(before(x))
    device = x.device.type
    enabled, dtype = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def cast(tensor: torch.Tensor) -> torch.Tensor:  # as autocast does before a product
        return tensor.to(dtype) if enabled else tensor

    def first(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, dtype, enabled):  # which is off in backward
            return cast(before(x))

    given = first(x), cast(linear.weight), cast(linear.bias)
    out: torch.Tensor = _LinearOf.apply(first, x, *given)  # type: ignore[no-untyped-call]
    return out


class Attention(nn.Module):
    """Multi-head self-attention of normalized tokens."""

    # One kernel, a few heads at a time, or the matrix in memory as in the reference code of 2021.
    how: Literal["fused", "by_heads", "materialised"] = "fused"
    recompute = False  # the normalized tokens in backward, instead of keeping them

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BLE: torch.Tensor, norm: Layer, read: int | None = None) -> torch.Tensor:
        """(B, L, E) → (B, ``read`` or L, E), the outputs of the first tokens or of all."""
        B, L, E = x_BLE.shape
        qkv = linear_after(self.qkv, norm, x_BLE, self.recompute)
        qkv = qkv.view(B, L, 3, self.heads, E // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        q = q[:, :, :read]
        if self.how == "fused":
            out = F.scaled_dot_product_attention(q, k, v)
        elif self.how == "by_heads":
            out = attend_by_heads(q, k, v)
        else:
            scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
            out = scores.softmax(dim=-1) @ v
        return self.proj(out.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with a GELU between, of normalized tokens."""

    recompute = False  # the normalized tokens and the GELU in backward, instead of keeping them

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor, norm: Layer) -> torch.Tensor:
        """(…, E) → (…, E)."""
        x = linear_after(self.fc1, norm, x, self.recompute)
        return linear_after(self.fc2, F.gelu, x, self.recompute)


class Block(nn.Module):
    """Pre-norm transformer block; LayerNorm epsilon 1e-6 as in DeiT."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, mlp_ratio * width)

    def forward(self, x_BLE: torch.Tensor, read: int | None = None) -> torch.Tensor:
        """(B, L, E) → (B, ``read`` or L, E), the outputs of the first tokens or of all."""
        x_BLE = x_BLE[:, :read] + self.attn(x_BLE, self.norm1, read)
        return x_BLE + self.mlp(x_BLE, self.norm2)


class Blocks(nn.ModuleList):
    """Transformer blocks one after the other, for a head that reads the first tokens alone.

    The last block computes no other outputs, which saves up to three quarters of it; values and
    gradients stay the same.
    """

    # Whether the residual stream is kept in autocast's precision instead of float32, which halves
    # the memory traffic between the products.
    compute_residual = False
    recompute = False  # each block's activations in backward, instead of keeping them

    def forward(self, x_BLE: torch.Tensor) -> torch.Tensor:
        """(B, L, E) → (B, SPECIAL_TOKENS, E)."""
        device = x_BLE.device.type
        if self.compute_residual and torch.is_autocast_enabled(device):
            x_BLE = x_BLE.to(torch.get_autocast_dtype(device))
        for block in self:
            read = SPECIAL_TOKENS if block is self[-1] else None
            if self.recompute and torch.is_grad_enabled():
                x_BLE = checkpoint(
                    block, x_BLE, read, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x_BLE = block(x_BLE, read)
        return x_BLE


class PatchEmbed(nn.Module):
    """Embeds patches; they overlap if the stride is smaller than the patch.

    The weights have a convolution's name and shape, as published. Only kept patches are embedded,
    in one matrix product: a convolution computes all of them, and keeps all for backward.
    """

    def __init__(self, width: int, patch: Pair, stride: Pair) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, stride)

    def forward(
        self, x: torch.Tensor, grid: Pair, kept: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, 1, mels, frames) → (B, n, E).

        Args:
            x: the input; what its patch grid has beyond ``grid`` is left out.
            grid: rows and columns of the patch grid.
            kept: flat, frequency-major indices in the grid, (n,) or (B, n). None embeds all.
        """
        (rows, columns), (height, width) = self.proj.stride, self.proj.kernel_size
        x_BFTpq = x[:, 0].unfold(1, height, rows).unfold(2, width, columns)
        x_BFTpq = x_BFTpq[:, : grid[0], : grid[1]]
        if kept is None:
            x_Bnpq = x_BFTpq.flatten(1, 2)
        else:
            row, column = kept // grid[1], kept % grid[1]
            batch = torch.arange(len(x), device=x.device)[:, None]
            x_Bnpq = x_BFTpq[batch, row, column]
        return F.linear(x_Bnpq.flatten(2), self.proj.weight.flatten(1), self.proj.bias)


@dataclass(frozen=True)
class TransformerOptions:
    """Hyper-parameters of a patch transformer; the defaults are those of DeiT-B."""

    patch: Annotated[PositivePair, about("Patch size (frequency, time).")] = (16, 16)
    stride: Annotated[PositivePair, about("Patch stride (frequency, time).")] = (10, 10)
    width: Annotated[Positive, about("Embedding width.")] = 768
    depth: Annotated[Positive, about("Blocks.")] = 12
    heads: Annotated[Positive, about("Attention heads; must divide the width.")] = 12


class PatchTransformer(AudioModel):
    """A transformer over patches, with class and distillation token."""

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

    def grid(self, frames: int) -> Pair:
        """The patch grid (frequency, time) of an input with that many frames."""
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
        """Refuses input with another number of mels than the position encodings are for."""
        frames_of(x)
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


class PaSST(PatchTransformer):
    """The patchout spectrogram transformer; ``frames`` is what the time encodings cover.

    Shorter input uses a part of them: in training a random one, as published, else the first.
    """

    @dataclass(frozen=True)
    class Options(TransformerOptions):
        """Hyper-parameters of PaSST."""

        overlong: Annotated[
            Literal["cut", "stretch"],
            about(
                "Input longer than the time encodings is cut (as published), or the encodings are "
                "interpolated along time to cover it."
            ),
        ] = "cut"

    # In every published checkpoint, and never used: the reference code keeps it too.
    unused = ("head_dist.weight", "head_dist.bias")
    classifiers = ("head.", "head_dist.")

    def __init__(self, num_classes: int, options: Options, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.overlong, width = options.overlong, options.width
        rows, columns = self._encoded(frames)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.dist_token = nn.Parameter(torch.empty(1, 1, width))
        self.new_pos_embed = nn.Parameter(torch.empty(1, 2, width))
        self.freq_new_pos_embed = nn.Parameter(torch.empty(1, width, rows, 1))
        self.time_new_pos_embed = nn.Parameter(torch.empty(1, width, 1, columns))
        self.patch_embed = PatchEmbed(width, self.patch, self.stride)
        self.blocks = Blocks(Block(width, options.heads) for _ in range(options.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_classes))
        self.head_dist = nn.Linear(width, num_classes)

    def _encoded(self, frames: int) -> Pair:
        """Rows and columns of the position encodings.

        As published, length // stride, which can exceed the number of patches. With a stride longer
        than the patch there can be one patch more, which gets an encoding too.
        """
        rows, columns = super().grid(frames)
        return max(rows, self.mels // self.stride[0]), max(columns, frames // self.stride[1])

    def grid(self, frames: int) -> Pair:
        """The patch grid (frequency, time) of an input with that many frames, after cutting."""
        rows, columns = super().grid(frames)
        known = self.time_new_pos_embed.shape[3]
        return rows, (min(columns, known) if self.overlong == "cut" else columns)

    def num_offsets(self, frames: int) -> int:
        """Number of positions in the time encodings for an input of that many frames."""
        return max(1, self.time_new_pos_embed.shape[3] - self.grid(frames)[1] + 1)

    def embed(
        self,
        x: torch.Tensor,
        grid: Pair,
        kept: torch.Tensor | None,
        offset: int | torch.Tensor | None,
    ) -> torch.Tensor:
        """(B, 1, mels, frames) → patches of the grid with position encodings, (B, n, E)."""
        x_BnE = self.patch_embed(x, grid, kept)
        time_TE = self._time(grid[1], offset)[0, :, 0].T
        freq_FE = self.freq_new_pos_embed[0, :, :, 0].T
        if kept is None:
            kept = torch.arange(grid[0] * grid[1], device=x.device)
        return x_BnE + take(time_TE, kept % grid[1]) + take(freq_FE, kept // grid[1])

    def _time(self, columns: int, offset: int | torch.Tensor | None) -> torch.Tensor:
        """The time encodings of that many columns, (1, E, 1, columns)."""
        known = self.time_new_pos_embed.shape[3]
        if columns == known:
            return self.time_new_pos_embed
        if columns > known:
            return interpolate(self.time_new_pos_embed, columns)
        if offset is None:
            if not self.training:
                return self.time_new_pos_embed[..., :columns]
            offset = torch.randint(known - columns + 1, (1,)).to(self.time_new_pos_embed.device)
        places = torch.arange(columns, device=self.time_new_pos_embed.device) + offset
        return self.time_new_pos_embed.index_select(3, places)

    def forward(
        self,
        x: torch.Tensor,
        kept: torch.Tensor | None = None,
        offset: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-mel (B, 1, mels, frames) → logits (B, num_classes).

        Args:
            x: normalized log-mel, at least one patch long.
            kept: flat frequency-major patch indices, (n,) shared by the batch or (B, n).
            offset: first column of the time encodings that shorter input uses, one for the batch,
                below `num_offsets`. None draws it in training, and is 0 in evaluation.
        """
        self.check_mels(x)
        B, grid = x.shape[0], self.grid(x.shape[3])
        if kept is None and self.training:
            kept = draw_plain(self.patchout, grid, B)
        x_BnE = self.embed(x, grid, kept if kept is None else kept.to(x.device), offset)
        cls = (self.cls_token + self.new_pos_embed[:, :1]).expand(B, -1, -1)
        dist = (self.dist_token + self.new_pos_embed[:, 1:]).expand(B, -1, -1)
        x_BLE = torch.cat((cls, dist, x_BnE), dim=1)
        return self.head(self.norm(self.blocks(x_BLE)).mean(dim=1))


def take(encodings_NE: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows of encodings, (N, E), at places of any shape, (…) → (…, E)."""
    return encodings_NE.index_select(0, places.flatten()).view(*places.shape, -1)


def interpolate(encodings: torch.Tensor, columns: int) -> torch.Tensor:
    """Time encodings (1, E, 1, T) interpolated linearly to (1, E, 1, columns)."""
    return F.interpolate(encodings[:, :, 0], size=columns, mode="linear")[:, :, None]
