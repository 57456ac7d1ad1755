"""Mistakes that a rewrite of PaSST could make, planted into ours. Each must fail the comparison.

Two slips are no mistakes, and none is planted of them: class and distillation token in the other
order, each with its own encoding, and patches in the other order in evaluation. Attention knows no
order, and the features are the mean of both tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import torch
from model_cases import PasstCase
from torch import nn
from torch.nn import functional as F

from passt_bench.models.patchout import gather
from passt_bench.spec.recipe import Pair

Mistake = Callable[[nn.Module, PasstCase], object]  # changes the network


def _epsilon(epsilon: float, chosen: str, net: nn.Module, case: PasstCase) -> None:
    norms = [
        module
        for name, module in net.named_modules()
        if isinstance(module, nn.LayerNorm) and re.match(chosen, name)
    ]
    assert norms and all(norm.eps != epsilon for norm in norms)
    for norm in norms:
        norm.eps = epsilon


def _gelu(net: nn.Module, case: PasstCase) -> None:
    for block in net.blocks:
        block.mlp.forward = lambda x, norm, mlp=block.mlp: mlp.fc2(
            F.gelu(mlp.fc1(norm(x)), approximate="tanh")
        )


def _time_first(net: nn.Module, case: PasstCase) -> None:
    """Encodings flattened with time first are added to patches flattened with frequency first."""
    right = net.embed

    def embed(
        x: torch.Tensor, grid: Pair, kept: torch.Tensor | None, offset: object
    ) -> torch.Tensor:
        patches = net.patch_embed(x, grid)
        encodings = (right(x, grid, None, offset) - patches).unflatten(1, grid)
        return gather(patches + encodings.transpose(1, 2).flatten(1, 2), kept)

    net.embed = embed


@torch.no_grad()
def _after_patchout(net: nn.Module, case: PasstCase) -> None:
    """Time encodings are added after patchout: the columns that stay are counted from 0 on."""
    columns = torch.unique(case.kept() % case.grid[1])
    right = net.time_new_pos_embed.clone()
    net.time_new_pos_embed[..., columns] = right[..., : len(columns)]


def _tokens_behind(net: nn.Module, case: PasstCase) -> None:
    """Class and distillation token follow the patches, and the first two are read."""
    net.blocks[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].roll(-2, 1),))


@torch.no_grad()
def _encodings_swapped(net: nn.Module, case: PasstCase) -> None:
    """The class token gets the distillation token's encoding, and the other way about."""
    net.new_pos_embed.copy_(net.new_pos_embed.flip(1).clone())


def _patches_time_first(net: nn.Module, case: PasstCase) -> None:
    """Patches are numbered with time first where the kept ones are chosen."""
    right = net.embed

    def embed(x: torch.Tensor, grid: Pair, kept: torch.Tensor, offset: object) -> torch.Tensor:
        return right(x, grid, kept % grid[0] * grid[1] + kept // grid[0], offset)

    net.embed = embed


def _no_head_norm(net: nn.Module, case: PasstCase) -> None:
    net.head[0].forward = lambda x: x


MISTAKES: dict[str, Mistake] = {
    "LayerNorm epsilon 1e-5 in the blocks and after them": partial(_epsilon, 1e-5, "(?!head)"),
    "LayerNorm epsilon 1e-5 after the blocks alone": partial(_epsilon, 1e-5, "norm"),
    "LayerNorm epsilon 1e-6 in the head": partial(_epsilon, 1e-6, "head"),
    "GELU in its tanh form": _gelu,
    "position encodings flattened time first": _time_first,
    "time encodings added after patchout": _after_patchout,
    "class and distillation token behind the patches": _tokens_behind,
    "encodings of class and distillation token swapped": _encodings_swapped,
    "patches numbered time first in patchout": _patches_time_first,
    "head norm left out": _no_head_norm,
}
IN_TRAINING = (_after_patchout, _patches_time_first)  # show there alone
