"""Mistakes that a rewrite of PaSST could make, planted into ours. Each must fail the comparison.

Two slips are no mistakes, and none is planted of them: class and distillation token in the other
order, each with its own encoding, and patches in the other order in evaluation. Attention knows no
order, and the features are the mean of both tokens.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from model_cases import PasstCase
from torch import nn
from torch.nn import functional as F

Mistake = Callable[[nn.Module, PasstCase], contextlib.AbstractContextManager[object]]


def _epsilon(epsilon: float, chosen: Callable[[str], bool]) -> Mistake:
    @contextlib.contextmanager
    def plant(net: nn.Module, case: PasstCase) -> Iterator[None]:
        norms = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.LayerNorm)]
        assert any(chosen(name) for name, _ in norms)
        for name, norm in norms:
            if chosen(name):
                assert norm.eps != epsilon, name
                norm.eps = epsilon
        yield

    return plant


def _gelu(net: nn.Module, case: PasstCase) -> contextlib.AbstractContextManager[object]:
    return mock.patch.object(F, "gelu", functools.partial(F.gelu, approximate="tanh"))


@contextlib.contextmanager
def _time_first(net: nn.Module, case: PasstCase) -> Iterator[None]:
    """Encodings flattened with time first are added to patches flattened with frequency first."""
    right = net.embed

    def embed(x: torch.Tensor, *more: object) -> torch.Tensor:
        x_BEFT = net.patch_embed(x)
        encodings = right(x, *more) - x_BEFT
        return x_BEFT + encodings.transpose(2, 3).reshape(x_BEFT.shape)

    with mock.patch.object(net, "embed", embed):
        yield


@contextlib.contextmanager
def _after_patchout(net: nn.Module, case: PasstCase) -> Iterator[None]:
    """Time encodings are added after patchout: the columns that stay are counted from 0 on."""
    columns = torch.unique(case.kept() % case.grid[1])
    right = net.time_new_pos_embed.detach().clone()
    moved = right.clone()
    moved[..., columns] = right[..., : len(columns)]
    with torch.no_grad():
        net.time_new_pos_embed.copy_(moved)
    yield


@contextlib.contextmanager
def _tokens_behind(net: nn.Module, case: PasstCase) -> Iterator[None]:
    """Class and distillation token stand behind the patches, and the first two are read."""
    hook = net.blocks[0].register_forward_pre_hook(lambda _, inputs: (inputs[0].roll(-2, 1),))
    yield
    hook.remove()


@contextlib.contextmanager
def _encodings_swapped(net: nn.Module, case: PasstCase) -> Iterator[None]:
    """The class token gets the distillation token's encoding, and the other way about."""
    with torch.no_grad():
        net.new_pos_embed.copy_(net.new_pos_embed.flip(1).clone())
    yield


@contextlib.contextmanager
def _patches_time_first(net: nn.Module, case: PasstCase) -> Iterator[None]:
    """Patches are numbered with time first where the kept ones are chosen."""
    embed = net.embed

    def renumbered(x: torch.Tensor, *more: object) -> torch.Tensor:
        x_BEFT = embed(x, *more)
        return x_BEFT.transpose(2, 3).reshape(x_BEFT.shape)

    with mock.patch.object(net, "embed", renumbered):
        yield


@contextlib.contextmanager
def _no_head_norm(net: nn.Module, case: PasstCase) -> Iterator[None]:
    with mock.patch.object(net.head[0], "forward", lambda x: x):
        yield


# What the mistake is: how it is planted, and whether it shows in training alone.
MISTAKES: dict[str, tuple[Mistake, bool]] = {
    "LayerNorm epsilon 1e-5 in the blocks and after them": (
        _epsilon(1e-5, lambda name: not name.startswith("head")),
        False,
    ),
    "LayerNorm epsilon 1e-5 after the blocks alone": (
        _epsilon(1e-5, lambda name: name == "norm"),
        False,
    ),
    "LayerNorm epsilon 1e-6 in the head": (
        _epsilon(1e-6, lambda name: name.startswith("head")),
        False,
    ),
    "GELU in its tanh form": (_gelu, False),
    "position encodings flattened time first": (_time_first, False),
    "time encodings added after patchout": (_after_patchout, True),
    "class and distillation token behind the patches": (_tokens_behind, False),
    "encodings of class and distillation token swapped": (_encodings_swapped, False),
    "patches numbered time first in patchout": (_patches_time_first, True),
    "head norm left out": (_no_head_norm, False),
}
