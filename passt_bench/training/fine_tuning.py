"""Chooses which parameters are trained, and each one's multiple of the learning rate."""

from __future__ import annotations

import re
from dataclasses import fields
from itertools import takewhile

from torch import nn

from passt_bench.errors import InputError
from passt_bench.models.base import AudioModel
from passt_bench.registry import MODELS
from passt_bench.spec.recipe import Recipe, TrainingSpec

_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


def check_fine_tuning(recipe: Recipe) -> None:
    """Refuses layer-wise decay for a model without blocks (raises `InputError`)."""
    options = MODELS.get(recipe.model.name).build.Options
    if recipe.training.layer_decay != 1 and "depth" not in {item.name for item in fields(options)}:
        problem = f"{recipe.model.name} has no transformer blocks"
        raise recipe.error("training.layer_decay", problem, "Leave it out.")


def rate_groups(net: nn.Module, training: TrainingSpec) -> list[tuple[float, list[nn.Parameter]]]:
    """Multiples of the learning rate, each with its parameters; others take no gradients any more.

    With ``layer_decay`` d, the last of n blocks, and what is behind it, has 1, block i (from 0)
    d^(n - 1 - i), and the embeddings d^n, as in fine-tuning BEiT (arXiv:2106.08254, appendix).
    The classifier has ``head_rate``.

    Raises:
        InputError: the classifier alone is to be trained, and the model does not name it.
    """
    heads = net.classifiers if isinstance(net, AudioModel) else ()
    named = list(net.named_parameters())
    if training.trained == "head" and not any(name.startswith(heads) for name, _ in named):
        problem = "the model does not say which parameters are its classifier's"
        remedy = "Set classifiers in its class, or train all."
        raise InputError(problem, field="training.trained", value="head", remedy=remedy)
    blocks = {name: int(found[1]) for name, _ in named if (found := _BLOCK.search(name))}
    last = max(blocks.values(), default=-1)
    embedded = {name for name, _ in takewhile(lambda item: item[0] not in blocks, named)}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        if name.startswith(heads):
            scale = training.head_rate
        elif training.trained == "head":
            parameter.requires_grad_(False)
            continue
        elif name in blocks:
            scale = training.layer_decay ** (last - blocks[name])
        else:
            scale = training.layer_decay ** (last + 1) if name in embedded else 1.0
        groups.setdefault(scale, []).append(parameter)
    return list(groups.items())
