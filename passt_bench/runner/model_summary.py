"""Sizes of a recipe's model before it runs: tokens, parameters and FLOPs, from the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import mean
from typing import Any

import torch

from passt_bench.measure.flops import count_flops
from passt_bench.models import from_recipe, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.spec.recipe import DataSpec, FrontendSpec, ModelSpec, Pair, Patchout, Recipe
from passt_bench.training.loss import loss_of
from passt_bench.training.schedule import stages


@dataclass(frozen=True)
class ModelSummary:
    """Sizes of a model on its real input.

    ``flops`` is a training step (forward and backward) per clip with patchout, and
    ``flops_inference`` a forward pass per clip without it. With a schedule ``tokens`` and ``flops``
    are means over its stages, which are of equal length; ``patchout`` tells the full amount, and
    under ``stages`` the patches kept in each.
    """

    grid: Pair | None
    tokens: int
    tokens_full: int
    patchout: dict[str, Any]
    parameters: int
    flops: float
    flops_inference: float
    model_shape: tuple[Pair, Pair] | None  # patch and stride, (frequency, time) each


@lru_cache(maxsize=512)
def summarise_model(recipe: Recipe, classes: int) -> ModelSummary:
    """Counts parameters, tokens and FLOPs of a recipe's model.

    Raises:
        InputError: the model, its fields or its patchout do not fit the input.
    """
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames)
        x = torch.empty(1, 1, recipe.frontend.mels, frames)
        target = torch.empty(1, classes)
    grid = net.grid(frames)
    tokens = tokens_full = 0
    patchout: dict[str, Any] = {}
    settings = stages(recipe.patchout, grid) if grid else (recipe.patchout,)
    if grid is not None:
        patchout = resolve(recipe.patchout, grid).summary()
        kept = [resolve(setting, grid).kept for setting in settings]
        if len(kept) > 1:
            patchout["stages"] = kept
        tokens = round(mean(kept)) + net.special_tokens
        tokens_full = grid[0] * grid[1] + net.special_tokens

    def flops_of(setting: Patchout) -> int:
        drawn = net.step_inputs(setting, frames, 0, 0, 1)
        return count_flops(
            lambda: loss_of(recipe.training.loss, net(x, **drawn), target), backward=True
        )

    flops = mean(flops_of(setting) for setting in settings)
    return ModelSummary(
        grid=grid,
        tokens=tokens,
        tokens_full=tokens_full,
        patchout=patchout,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        flops=flops,
        flops_inference=_inference_flops(recipe.model, recipe.frontend, recipe.data, classes),
        model_shape=(net.patch, net.stride) if grid is not None else None,
    )


@lru_cache(maxsize=512)
def _inference_flops(
    model: ModelSpec, frontend: FrontendSpec, data: DataSpec, classes: int
) -> float:
    """FLOPs of a forward pass per clip; whatever patchout is, for nothing is dropped there."""
    frames = frame_count(frontend, data.seconds)
    recipe = Recipe(model=model, frontend=frontend, data=data)
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames).eval()
        x = torch.empty(1, 1, frontend.mels, frames)
    return count_flops(lambda: net(x), backward=False)
