"""Patchout: which patches are kept, as a pure function of the setting, the grid and the seed.

Indices are flat and frequency-major: patch (f, t) of an (F, T) grid is f * T + t. What the kinds do
stands in `models.patchout_kinds`. Paper section 2.2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from passt_bench.errors import InputError
from passt_bench.models.patchout_kinds import Kind, Resolved
from passt_bench.registry import PATCHOUTS
from passt_bench.spec.recipe import Pair, Patchout

_STREAM = 0x9A7C  # keeps patchout's random stream apart from others with the same seed


def resolve(setting: Patchout, grid: Pair) -> Resolved:
    """A patchout setting on a grid (frequency, time); of a schedule, the full amount.

    Raises:
        InputError: a field that the kind does not use, a rate beside counts, counts larger than
            the grid, a schedule of nothing, or a setting that leaves no patches.
    """
    kind: Kind = PATCHOUTS.get(setting.kind).build
    if setting.schedule != "constant" and not kind.fields:
        raise InputError(
            f"kind {setting.kind!r} drops nothing that could rise or fall",
            field="patchout.schedule",
            value=setting.schedule,
            remedy="Use 'constant', or another kind.",
        )
    for name in ("rate", "time", "frequency", "patches"):
        value = getattr(setting, name)
        if value is not None and name not in kind.fields:
            raise InputError(
                f"kind {setting.kind!r} does not use it",
                field=f"patchout.{name}",
                value=value,
                remedy=f"It takes: {', '.join(kind.fields) or 'nothing'}.",
            )
        if value is not None and name != "rate" and setting.rate is not None:
            raise InputError(
                "a rate and a count exclude each other",
                field=f"patchout.{name}",
                value=value,
                remedy="Give one of them.",
            )
    resolved = kind.resolve(setting, grid)
    if resolved.kept < 1:
        given = {name: getattr(setting, name) for name in kind.fields}
        given = {name: value for name, value in given.items() if value is not None}
        raise InputError(
            f"leaves no patches of the {grid[0]} x {grid[1]} grid",
            field=", ".join(f"patchout.{name}" for name in given),
            value=next(iter(given.values())) if len(given) == 1 else tuple(given.values()),
            remedy="Drop less; one patch at least must be left.",
        )
    return resolved


def twin(setting: Patchout, grid: Pair) -> Patchout:
    """The unstructured setting that keeps exactly as many patches.

    Raises:
        InputError: the setting has a schedule, whose stages the twin's would not equal.
    """
    if setting.schedule != "constant":
        raise InputError(
            "only a constant setting has a twin",
            field="patchout.schedule",
            value=setting.schedule,
            remedy="Compare the twins of its stages.",
        )
    kept = resolve(setting, grid).kept
    return Patchout(kind="unstructured", patches=grid[0] * grid[1] - kept, scope=setting.scope)


def scaled(setting: Patchout, share: float, grid: Pair) -> Patchout:
    """A setting that drops a share of the amount: of the rate, or of each count, rounded."""
    kind: Kind = PATCHOUTS.get(setting.kind).build
    if hasattr(kind, "scale"):
        made: Patchout = kind.scale(setting, share, grid)
        return made
    amounts = {name: getattr(setting, name) for name in ("time", "frequency", "patches")}
    counts = {name: round(share * n) for name, n in amounts.items() if n is not None}
    rate = None if setting.rate is None else share * setting.rate
    return replace(setting, rate=rate, **counts)


def draw(setting: Patchout, grid: Pair, seed: int, step: int, sample: int = 0) -> np.ndarray:
    """The patches kept for one pattern: a pure function of its arguments.

    Args:
        setting: kind, amount and scope.
        grid: (frequency, time).
        seed: seed of the run.
        step: training step.
        sample: position in the batch where the scope is a sample, else 0.

    Returns:
        Flat frequency-major indices, ascending, int64.
    """
    random = np.random.Generator(
        np.random.Philox(np.random.SeedSequence((_STREAM, seed, step, sample)))
    )
    kind: Kind = PATCHOUTS.get(setting.kind).build
    return kind.draw(resolve(setting, grid), random)


def draw_batch(
    setting: Patchout, grid: Pair, seed: int, step: int, batch: int
) -> torch.Tensor | None:
    """Kept indices for a training batch, on the CPU.

    Returns:
        None where every patch is kept, (n,) for one pattern a batch, (batch, n) for one a sample.
    """
    if setting.kind == "none":
        return None
    if setting.scope == "batch":
        return torch.from_numpy(draw(setting, grid, seed, step))
    patterns = [draw(setting, grid, seed, step, sample) for sample in range(batch)]
    return torch.from_numpy(np.stack(patterns))


def draw_plain(setting: Patchout, grid: Pair, batch: int) -> torch.Tensor | None:
    """What a model drops that is called in training without ``kept``: from torch's own generator.

    For people with a loop of their own; the suite always passes what it drew.
    """
    if setting.kind == "none":
        return None
    seed = int(torch.randint(2**62, (1,)))
    return draw_batch(setting, grid, seed, 0, batch)
