"""What a training step draws for the model: pure functions of seed and step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from passt_bench.models.patchout import draw_batch
from passt_bench.spec.recipe import Pair, Patchout

_OFFSET, _TORCH = 0x0FF5, 0x70C4  # keep the streams of one seed apart


def philox(*entropy: int) -> np.random.Generator:
    """The random stream of a tuple of numbers, the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def draw_offset(places: int, seed: int, step: int) -> torch.Tensor:
    """Where a batch of short input lies in the time encodings, uniform over the places.

    One for the whole batch, as published. A tensor without dimensions: of a plain number
    `torch.compile` would make a graph a value.
    """
    return torch.tensor(int(philox(_OFFSET, seed, step).integers(places)))


def seed_torch(device: str, seed: int, step: int) -> None:
    """Seeds torch's own generators for a training step: what dropout draws from.

    Whatever a module draws is then a function of seed and step, as all else, and a resumed training
    goes on exactly.
    """
    value = int(philox(_TORCH, seed, step).integers(2**63))
    torch.default_generator.manual_seed(value)
    if device == "cuda":
        torch.cuda.manual_seed(value)


def draw_step(
    net: nn.Module, setting: Patchout, frames: int, seed: int, step: int, batch: int
) -> dict[str, Any]:
    """The arguments that a model takes beside its input in a training step.

    Args:
        net: the model. Where its ``offsets(frames)`` is more than one it takes an ``offset`` as
            well; where it has ``step_inputs`` it says itself what it takes.
        setting: patchout of the step, see `schedule.at_stage`.
        frames: columns of the input.
        seed: of the run.
        step: of the training.
        batch: clips.

    Returns:
        ``kept``, the indices of the patches that stay or None, and maybe ``offset``.
    """
    own = getattr(net, "step_inputs", None)
    if own is not None:
        given: dict[str, Any] = own(setting, frames, seed, step, batch)
        return given
    grid: Pair | None = net.grid(frames)  # type: ignore[operator]
    drawn: dict[str, Any] = {"kept": draw_batch(setting, grid, seed, step, batch) if grid else None}
    offsets = getattr(net, "offsets", None)
    places = offsets(frames) if offsets is not None else 1
    if places > 1:
        drawn["offset"] = draw_offset(places, seed, step)
    return drawn
