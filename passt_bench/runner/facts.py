"""What is known of a recipe's model before it runs, from the meta device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from passt_bench.errors import InputError
from passt_bench.measure.flops import count_flops
from passt_bench.models import from_recipe, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.spec.recipe import Pair, Recipe
from passt_bench.training.loop import loss_of


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of a model on its real input.

    ``flops`` is a training step (forward and backward) per clip with patchout, and
    ``flops_inference`` a forward pass per clip without it.
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
def model_facts(recipe: Recipe, classes: int) -> ModelFacts:
    """Counts parameters, tokens and FLOPs of a recipe's model.

    Raises:
        InputError: the model, its fields or its patchout do not fit the input.
    """
    frames = frame_count(recipe.frontend, recipe.data.seconds)
    with torch.device("meta"):
        net = from_recipe(recipe, classes, frames)
        x = torch.empty(1, 1, recipe.frontend.mels, frames)
        target = torch.empty(1, classes)
    grid: Pair | None = net.grid(frames)  # type: ignore[operator]
    special = int(net.special_tokens)  # type: ignore[arg-type]
    kept: torch.Tensor | None = None
    tokens = tokens_full = 0
    patchout: dict[str, Any] = {}
    if grid is not None:
        resolved = resolve(recipe.patchout, grid)
        patchout = resolved.summary()
        tokens, tokens_full = resolved.kept + special, grid[0] * grid[1] + special
        if recipe.patchout.kind != "none":
            kept = torch.empty(resolved.kept, dtype=torch.long, device="meta")
    elif recipe.patchout.kind != "none":
        raise InputError(
            f"model {recipe.model.name!r} has no patches to drop",
            field="patchout.kind",
            value=recipe.patchout.kind,
            remedy="Use 'none' with this model.",
        )

    def loss() -> torch.Tensor:
        return loss_of(recipe.training.loss, net(x, kept), target)

    flops = count_flops(loss, backward=True)
    net.eval()
    return ModelFacts(
        grid=grid,
        tokens=tokens,
        tokens_full=tokens_full,
        patchout=patchout,
        parameters=sum(parameter.numel() for parameter in net.parameters()),
        flops=flops,
        flops_inference=count_flops(lambda: net(x), backward=False),
        model_shape=(net.patch, net.stride) if grid is not None else None,  # type: ignore[arg-type]
    )
