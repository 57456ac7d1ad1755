"""Changes weights to fit a model of other input channels, patch grid or depth.

Shapes: E width, F and T the patch grid, G the side of an image model's grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.ast import PUBLISHED_GRID, resample_positions
from passt_bench.models.vit import SPECIAL_TOKENS
from passt_bench.spec.recipe import Pair

Tensors = dict[str, torch.Tensor]
_BLOCK = re.compile(r"^(?:v\.)?blocks\.(\d+)\.(.+)$")


def resample_axis(encoding: torch.Tensor, size: Pair) -> torch.Tensor:
    """Position encodings (1, E, f, t) on a grid of another size, bicubic."""
    return F.interpolate(encoding.float(), size=size, mode="bicubic", align_corners=False)


def split_grid(grid_GGE: torch.Tensor, size: Pair) -> tuple[torch.Tensor, torch.Tensor]:
    """An image model's position encodings as separate ones for frequency and time.

    The square grid is resized to (F, T), bicubic; frequency is its mean over time, time its mean
    over frequency (``adapt_image_pos_embed_to_passt`` of the reference code).

    Args:
        grid_GGE: encodings of G * G positions, shape (G * G, E).
        size: (F, T).

    Returns:
        Frequency (1, E, F, 1) and time (1, E, 1, T).
    """
    side = math.isqrt(len(grid_GGE))
    square = grid_GGE.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = resample_axis(square, size)
    return resized.mean(dim=3, keepdim=True), resized.mean(dim=2, keepdim=True)


def _mono(out: Tensors, name: str, adapted: dict[str, str]) -> None:
    """A convolution over RGB, (E, 3, h, w), becomes one over mono with the same output for gray.

    The channels are summed, as ``models/helpers/vit_helpers.py`` of the reference code does.
    """
    if out[name].ndim == 4 and out[name].shape[1] == 3:
        out[name] = out[name].float().sum(dim=1, keepdim=True)
        adapted[name] = "red, green and blue summed to mono"


def _side(encodings: torch.Tensor, special: int, source: object, what: str) -> int:
    """The side of the square that an image model's encodings are for.

    Raises:
        InputError: there is no square behind the special tokens.
    """
    places = encodings.shape[1] - special if encodings.ndim == 3 else 0
    side = math.isqrt(max(places, 0))
    if places < 1 or side * side != places:
        raise InputError(
            f"not {what}",
            source=source,
            field="pos_embed",
            value=tuple(encodings.shape),
            remedy="Give e.g. passt_deit_bd_p16_384 of `passt-bench weights list`.",
        )
    return side


def from_image_model(
    tensors: Tensors, target: Tensors, source: object
) -> tuple[Tensors, dict[str, str], list[str]]:
    """A ViT's or DeiT's weights under PaSST's names; without its classifiers.

    A ViT has no distillation token. It then gets the class token's position encoding and keeps
    its own initial direction at DeiT's initial scale of 0.02: a copy of the class token would
    always have the same output.

    Args:
        tensors: as timm names them.
        target: tensors of the PaSST.
        source: the file, for messages.

    Returns:
        Tensors, what was adapted (name → how), and notes.

    Raises:
        InputError: the position encodings are not those of a square grid.
    """
    out = {name: t for name, t in tensors.items() if not name.startswith(("head", "pos_embed"))}
    adapted: dict[str, str] = {}
    notes: list[str] = []
    _mono(out, "patch_embed.proj.weight", adapted)
    encodings = tensors["pos_embed"]
    special = 2 if "dist_token" in tensors else 1
    side = _side(encodings, special, source, f"a square grid behind {special} special tokens")
    rows, columns = target["freq_new_pos_embed"].shape[2], target["time_new_pos_embed"].shape[3]
    frequency, time = split_grid(encodings[0, special:], (rows, columns))
    out["freq_new_pos_embed"], out["time_new_pos_embed"] = frequency, time
    how = f"pos_embed, {side} x {side}, resized to {rows} x {columns} (bicubic), mean over"
    adapted["freq_new_pos_embed"] = f"{how} time"
    adapted["time_new_pos_embed"] = f"{how} frequency"
    out["new_pos_embed"] = encodings[:, :special]
    adapted["new_pos_embed"] = "the special tokens' part of pos_embed"
    if special == 1:
        own = target["dist_token"].detach().float()
        out["dist_token"] = own * (0.02 / own.std().clamp_min(1e-12))
        out["new_pos_embed"] = encodings[:, :1].repeat(1, 2, 1)
        adapted["dist_token"] = "the file has none: initial values at DeiT's scale of 0.02"
        adapted["new_pos_embed"] = "pos_embed of the class token, for both tokens"
        notes.append("the file has no distillation token; it is a ViT, not a distilled DeiT")
    return out, adapted, notes


def image_model_as_ast(
    tensors: Tensors, grid: Pair, source: object
) -> tuple[Tensors, dict[str, str]]:
    """A distilled DeiT's weights under AST's names; without its classifiers.

    As ``src/models/ast_models.py`` of AST's official code does: colors summed, the square of
    position encodings cut from its middle along frequency and interpolated along time.

    Args:
        tensors: as timm names them.
        grid: the AST's (frequency, time).
        source: the file, for messages.

    Returns:
        Tensors, and what was adapted (name → how).

    Raises:
        InputError: no distillation token, or no square grid behind the two.
    """
    encodings = tensors["pos_embed"]
    special = SPECIAL_TOKENS if "dist_token" in tensors else encodings.shape[1]
    what = "a distilled DeiT of square images, with which AST begins"
    side = _side(encodings, special, source, what)
    out = {f"v.{name}": t for name, t in tensors.items() if not name.startswith("head")}
    adapted: dict[str, str] = {}
    _mono(out, "v.patch_embed.proj.weight", adapted)
    out["v.pos_embed"], adapted["v.pos_embed"] = _on_grid(encodings, (side, side), grid)
    return out, adapted


def _on_grid(encodings: torch.Tensor, old: Pair, new: Pair) -> tuple[torch.Tensor, str]:
    """AST's position encodings on another grid, and how they were made."""
    how = f"{old[0]} x {old[1]} to {new[0]} x {new[1]}, cut from the middle or interpolated"
    return resample_positions(encodings.float(), old, new), how


def depth_of(names: Iterable[str]) -> int:
    """Number of transformer blocks among parameter names."""
    return max((int(m[1]) for name in names if (m := _BLOCK.match(name))), default=-1) + 1


def choose_blocks(tensors: Tensors, blocks: tuple[int, ...]) -> tuple[Tensors, dict[str, str]]:
    """Keeps some blocks and renumbers them.

    Returns:
        The tensors, and what was dropped (name → why).
    """
    out: Tensors = {}
    dropped: dict[str, str] = {}
    why = "the model takes blocks " + ", ".join(map(str, blocks)) + " (depth cut as published)"
    for name, tensor in tensors.items():
        match = _BLOCK.match(name)
        if match is None:
            out[name] = tensor
        elif int(match.group(1)) in blocks:
            out[f"blocks.{blocks.index(int(match.group(1)))}.{match.group(2)}"] = tensor
        else:
            dropped[name] = why
    return out, dropped


def fit_rows(encoding: torch.Tensor, rows: int) -> tuple[torch.Tensor, str]:
    """Frequency encodings (1, E, F, 1) for another number of rows, and how they were made."""
    how = f"resampled from {encoding.shape[2]} to {rows} rows (bicubic)"
    return resample_axis(encoding, (rows, 1)), how


def fit_columns(encoding: torch.Tensor, columns: int, covered: int) -> tuple[torch.Tensor, str]:
    """Time encodings (1, E, 1, T) for another number of columns.

    A column keeps its time: if the model covers no more time than the file, the encodings are
    resampled to the model's stride and cut to its columns. If it covers more, they are
    interpolated to cover it.

    Args:
        encoding: time encodings of the file.
        columns: columns of the model.
        covered: columns that the file's time span covers at the model's stride.

    Returns:
        The encodings, and how they were made.
    """
    have, made = encoding.shape[3], max(covered, columns)
    steps = []
    if made != have:
        encoding = resample_axis(encoding, (1, made))
        steps.append(f"resampled from {have} to {made} columns (bicubic)")
    if columns < made:
        steps.append(f"the first {columns} of {made} columns")
    return encoding[..., :columns], ", ".join(steps)


def grid_of(places: int, rows: int, source: object) -> Pair:
    """The grid of an AST's position encodings: as published, or with that many rows.

    Raises:
        InputError: the number of positions is neither.
    """
    if places == math.prod(PUBLISHED_GRID):
        return PUBLISHED_GRID
    if places < 1 or places % rows:
        raise InputError(
            f"{places} positions do not form a grid of {rows} rows",
            source=source,
            field="v.pos_embed",
            value=places,
            remedy="Give weights of the same number of mels and frequency stride.",
        )
    return rows, places // rows


def fit_grid(tensor: torch.Tensor, grid: Pair, source: object) -> tuple[torch.Tensor, str]:
    """AST's position encodings (1, 2 + positions, E) on another grid, and how they were made."""
    old = grid_of(tensor.shape[1] - SPECIAL_TOKENS, grid[0], source)
    return _on_grid(tensor, old, grid)


FRAMES = (998, 2000, 3000, 3200)  # of the published files
_STRIDES = (10, 12, 14, 16)  # of the published files


def infer(
    rows: int, columns: int, mels: int, frames: Sequence[int] = ()
) -> tuple[Pair, int] | None:
    """Stride and frames of a PaSST from its encodings: ``mels // stride``, ``frames // stride``.

    Published strides and lengths come first, equal strides of both axes before others; if none
    explains the columns, as many frames as they need.

    Args:
        rows: rows of the frequency encodings.
        columns: columns of the time encodings.
        mels: mels of the input.
        frames: lengths to try before the published ones.

    Returns:
        Stride (frequency, time) and frames; None if no stride up to 16 gives the rows.
    """
    lengths = (*frames, *FRAMES)
    strides = dict.fromkeys((*_STRIDES, *range(16, 0, -1)))
    possible = [stride for stride in strides if mels // stride == rows]
    for stride in possible:
        for length in lengths:
            if length // stride == columns:
                return (stride, stride), length
    for length in lengths:
        for time in strides:
            if possible and length // time == columns:
                return (possible[0], time), length
    return ((possible[0], possible[0]), columns * possible[0]) if possible else None
