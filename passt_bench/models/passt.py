"""PaSST: a patch transformer over log-mel spectrograms with separated position encodings.

Shapes: B batch, E width, F and T the patch grid, N patches, L tokens (N + 2).
Computes what ``models/passt.py`` of the reference code computes, under the same parameter names;
written anew. Paper section 2 and figure 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.patchout import draw_plain, gather
from passt_bench.models.vit import (
    SPECIAL_TOKENS,
    Block,
    Blocks,
    PatchEmbed,
    PatchTransformer,
    TransformerOptions,
)
from passt_bench.spec.recipe import Pair


class PaSST(PatchTransformer):
    """The patchout spectrogram transformer.

    Args:
        num_classes: number of classes.
        options: sizes, and what happens to long input.
        mels: rows of the input.
        frames: columns that the time encodings cover; shorter input uses a part of them: in
            training a random one, as published, else the first.

    Raises:
        InputError: heads that do not divide the width, or an input smaller than a patch.
    """

    @dataclass(frozen=True)
    class Options(TransformerOptions):
        """Hyper-parameters of PaSST."""

        overlong: Annotated[
            Literal["cut", "stretch"],
            Field(
                description="Input longer than the time encodings is cut (as published), or the "
                "encodings are interpolated along time to cover it."
            ),
        ] = "cut"

    # In every published checkpoint, and never used: the reference code keeps it too.
    unused = ("head_dist.weight", "head_dist.bias")

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
        rows, columns = self.patch_grid(frames)
        return max(rows, self.mels // self.stride[0]), max(columns, frames // self.stride[1])

    def grid(self, frames: int) -> Pair:
        """The patch grid (frequency, time) of an input with that many frames."""
        rows, columns = self.patch_grid(frames)
        known = self.time_new_pos_embed.shape[3]
        return rows, (min(columns, known) if self.overlong == "cut" else columns)

    def num_offsets(self, frames: int) -> int:
        """Number of positions in the time encodings for an input of that many frames."""
        return max(1, self.time_new_pos_embed.shape[3] - self.grid(frames)[1] + 1)

    def embed(self, x: torch.Tensor, offset: int | torch.Tensor | None = None) -> torch.Tensor:
        """(B, 1, mels, frames) → patches with position encodings, (B, E, F, T).

        Raises:
            InputError: not the number of mels that the model was made for.
        """
        self.check_mels(x)
        x_BEFT = self.patch_embed(x)
        if self.overlong == "cut":  # first, so that patchout draws from the columns that remain
            x_BEFT = x_BEFT[..., : self.time_new_pos_embed.shape[3]]
        x_BEFT = x_BEFT + self._time(x_BEFT.shape[3], offset)
        return x_BEFT + self.freq_new_pos_embed[:, :, : x_BEFT.shape[2]]

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

    def features(
        self,
        x: torch.Tensor,
        kept: torch.Tensor | None = None,
        offset: int | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The mean of class and distillation token after the last norm, (B, E)."""
        x_BEFT = self.embed(x, offset)
        if kept is None and self.training:
            kept = draw_plain(self.patchout, (x_BEFT.shape[2], x_BEFT.shape[3]), x.shape[0])
        x_BNE = gather(x_BEFT.flatten(2).transpose(1, 2), kept)
        B = x_BNE.shape[0]
        cls = (self.cls_token + self.new_pos_embed[:, :1]).expand(B, -1, -1)
        dist = (self.dist_token + self.new_pos_embed[:, 1:]).expand(B, -1, -1)
        x_BLE = torch.cat((cls, dist, x_BNE), dim=1)
        x_BLE = self.blocks(x_BLE)
        x_BLE = self.norm(x_BLE[:, :SPECIAL_TOKENS])
        return x_BLE.mean(dim=1)

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
        return self.head(self.features(x, kept, offset))


def interpolate(encodings: torch.Tensor, columns: int) -> torch.Tensor:
    """Time encodings (1, E, 1, T) interpolated linearly to (1, E, 1, columns)."""
    return F.interpolate(encodings[:, :, 0], size=columns, mode="linear")[:, :, None]


def published_blocks(have: int, want: int) -> tuple[int, ...]:
    """The blocks that remain when a network is made less deep as published.

    The first, every k-th in between, and the last: 7 of 12 are 0, 1, 3, 5, 7, 9, 11
    (PaSST-S-L; ``lighten_model`` in models/passt.py of the reference code).

    Args:
        have: blocks of the deeper network.
        want: blocks to keep.

    Raises:
        InputError: no such cut keeps that many.
    """
    cuts = {2 + len(range(1, have - 1, k)): k for k in range(have - 1, 0, -1)} if have > 1 else {}
    if want == have:
        return tuple(range(have))
    if want not in cuts:
        raise InputError(
            f"no evenly spaced cut reduces {have} blocks to that many",
            field="model.depth",
            value=want,
            remedy=f"Choose from {', '.join(map(str, sorted({*cuts, have})))}.",
        )
    return (0, *range(1, have - 1, cuts[want]), have - 1)
