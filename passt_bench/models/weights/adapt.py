"""Changes weights to fit a model of other input channels, patch grid or depth.

Shapes: E width, F and T the patch grid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models.ast import PUBLISHED_GRID, resample_positions
from passt_bench.models.passt import SPECIAL_TOKENS
from passt_bench.models.weights.formats import Tensors
from passt_bench.spec.recipe import Pair

ROWS, COLUMNS = "freq_new_pos_embed", "time_new_pos_embed"  # of PaSST, one per axis
GRID = "v.pos_embed"  # of AST, for the whole grid
FRAMES = (998, 2000, 3000, 3200)  # of the published files
BLOCK = re.compile(r"^(?:v\.)?blocks\.(\d+)\.(.+)$")
_STRIDES = (10, 12, 14, 16)  # of the published files


def resample(encoding: torch.Tensor, size: Pair) -> torch.Tensor:
    """Position encodings (1, E, f, t) on a grid of another size, bicubic."""
    return F.interpolate(encoding.float(), size=size, mode="bicubic", align_corners=False)


def _mono(out: Tensors, name: str, adapted: dict[str, str]) -> None:
    """A convolution over RGB, (E, 3, h, w), becomes one over mono with the same output for gray.

    The channels are summed, as ``models/helpers/vit_helpers.py`` of the reference code does.
    """
    if out[name].ndim == 4 and out[name].shape[1] == 3:
        out[name] = out[name].float().sum(dim=1, keepdim=True)
        adapted[name] = "red, green and blue summed to mono"


def _side(encodings: torch.Tensor, special: int, what: str) -> int:
    """The side of the square that an image model's encodings are for.

    Raises:
        InputError: there is no square behind the special tokens.
    """
    places = encodings.shape[1] - special if encodings.ndim == 3 else 0
    side = math.isqrt(max(places, 0))
    if places < 1 or side * side != places:
        raise InputError(
            f"not {what}",
            field="pos_embed",
            value=tuple(encodings.shape),
            remedy="Give e.g. passt_deit_bd_p16_384 of `passt-bench weights list`.",
        )
    return side


def image_model_as_passt(tensors: Tensors, target: Tensors, adapted: dict[str, str]) -> Tensors:
    """A ViT's or DeiT's weights under PaSST's names; without its classifiers.

    The square grid of encodings is resized to (F, T), bicubic; those of frequency are its mean over
    time, those of time its mean over frequency (``adapt_image_pos_embed_to_passt`` of the reference
    code). A ViT has no distillation token. It then gets the class token's position encoding and
    keeps its own initial direction at DeiT's initial scale of 0.02: a copy of the class token would
    always have the same output.
    """
    out = {name: t for name, t in tensors.items() if not name.startswith(("head", "pos_embed"))}
    _mono(out, "patch_embed.proj.weight", adapted)
    encodings = tensors["pos_embed"]
    special = 2 if "dist_token" in tensors else 1
    side = _side(encodings, special, f"a square grid behind {special} special tokens")
    rows, columns = target[ROWS].shape[2], target[COLUMNS].shape[3]
    square = encodings[0, special:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = resample(square, (rows, columns))
    out[ROWS], out[COLUMNS] = resized.mean(dim=3, keepdim=True), resized.mean(dim=2, keepdim=True)
    how = f"pos_embed, {side} x {side}, resized to {rows} x {columns} (bicubic), mean over"
    adapted |= {ROWS: f"{how} time", COLUMNS: f"{how} frequency"}
    out["new_pos_embed"] = encodings[:, :special]
    adapted["new_pos_embed"] = "the special tokens' part of pos_embed"
    if special == 1:
        own = target["dist_token"].detach().float()
        out["dist_token"] = own * (0.02 / own.std().clamp_min(1e-12))
        out["new_pos_embed"] = encodings[:, :1].repeat(1, 2, 1)
        adapted["dist_token"] = "the file has none: initial values at DeiT's scale of 0.02"
        adapted["new_pos_embed"] = "pos_embed of the class token, for both tokens"
    return out


def image_model_as_ast(tensors: Tensors, grid: Pair, adapted: dict[str, str]) -> Tensors:
    """A distilled DeiT's weights under AST's names; without its classifiers.

    As ``src/models/ast_models.py`` of AST's official code does: colors summed, the square of
    position encodings cut from its middle along frequency and interpolated along time.
    """
    encodings = tensors["pos_embed"]
    special = SPECIAL_TOKENS if "dist_token" in tensors else encodings.shape[1]
    what = "a distilled DeiT of square images, with which AST begins"
    side = _side(encodings, special, what)
    out = {f"v.{name}": t for name, t in tensors.items() if not name.startswith("head")}
    _mono(out, "v.patch_embed.proj.weight", adapted)
    out[GRID], adapted[GRID] = on_grid(encodings, (side, side), grid)
    return out


def on_grid(encodings: torch.Tensor, old: Pair, new: Pair) -> tuple[torch.Tensor, str]:
    """AST's position encodings on another grid, and how they were made."""
    how = f"{old[0]} x {old[1]} to {new[0]} x {new[1]}, cut from the middle or interpolated"
    return resample_positions(encodings.float(), old, new), how


def grid_of(places: int, rows: int) -> Pair:
    """The grid of an AST's position encodings: as published, or with that many rows.

    Refuses other numbers of positions (`InputError`).
    """
    if places == math.prod(PUBLISHED_GRID):
        return PUBLISHED_GRID
    if places < 1 or places % rows:
        raise InputError(
            f"{places} positions do not form a grid of {rows} rows",
            field=GRID,
            value=places,
            remedy="Give weights of the same number of mels and frequency stride.",
        )
    return rows, places // rows


def depth_of(names: Iterable[str]) -> int:
    """Number of transformer blocks among parameter names."""
    return max((int(m[1]) for name in names if (m := BLOCK.match(name))), default=-1) + 1


def published_blocks(have: int, want: int) -> tuple[int, ...]:
    """The blocks that remain when a network is made less deep as published.

    The first, every k-th in between, and the last: 7 of 12 are 0, 1, 3, 5, 7, 9, 11
    (PaSST-S-L; ``lighten_model`` in models/passt.py of the reference code).

    Raises:
        InputError: no such cut keeps that many.
    """
    cuts = {have: tuple(range(have))}
    for k in range(1, have if have > 1 else 1):
        blocks = (0, *range(1, have - 1, k), have - 1)
        cuts.setdefault(len(blocks), blocks)
    if want not in cuts:
        problem = f"no evenly spaced cut reduces {have} blocks to that many"
        remedy = f"Choose from {', '.join(map(str, sorted(cuts)))}."
        raise InputError(problem, field="model.depth", value=want, remedy=remedy)
    return cuts[want]


def fit_columns(encoding: torch.Tensor, columns: int, covered: int) -> tuple[torch.Tensor, str]:
    """Time encodings (1, E, 1, T) for another number of columns, and how they were made.

    A column keeps its time: if the model covers no more time than the file (whose span is
    ``covered`` columns at the model's stride), the encodings are resampled to the model's stride
    and cut to its columns. If it covers more, they are interpolated to cover it.
    """
    have, made = encoding.shape[3], max(covered, columns)
    steps = []
    if made != have:
        encoding = resample(encoding, (1, made))
        steps.append(f"resampled from {have} to {made} columns (bicubic)")
    if columns < made:
        steps.append(f"the first {columns} of {made} columns")
    return encoding[..., :columns], ", ".join(steps)


def infer(
    rows: int, columns: int, mels: int, frames: Sequence[int] = ()
) -> tuple[Pair, int] | None:
    """Stride and frames of a PaSST from its encodings: ``mels // stride``, ``frames // stride``.

    Published strides and lengths come first (after ``frames``), equal strides of both axes before
    others; if none explains the columns, as many frames as they need. None if no stride up to 16
    gives the rows.
    """
    lengths = (*frames, *FRAMES)
    strides = dict.fromkeys((*_STRIDES, *range(16, 0, -1)))
    possible = [stride for stride in strides if mels // stride == rows]
    if not possible:
        return None
    first = possible[0]
    tried = [((stride, stride), length) for stride in possible for length in lengths]
    tried += [((first, time), length) for length in lengths for time in strides]
    fits = (one for one in tried if one[1] // one[0][1] == columns)
    return next(fits, ((first, first), columns * first))
