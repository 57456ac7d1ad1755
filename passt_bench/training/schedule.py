"""Schedules of the learning rate and of the amount of patchout over a training.

Pure functions of the step, so that a resumed run continues exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace

from passt_bench.errors import InputError
from passt_bench.models.patchout import scaled
from passt_bench.spec.recipe import Pair, Patchout, TrainingSpec


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """The learning rate of a step: a linear warm-up, then a cosine to zero.

    Args:
        step: number of the step, from 0 to steps - 1.
        steps: steps of the whole training.
        peak: maximum learning rate.
        warmup: share of the steps with a rising learning rate.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def rate_at(training: TrainingSpec, step: int, per_epoch: int) -> float:
    """The learning rate of a training step by the recipe's schedule.

    Args:
        training: schedule and peak learning rate.
        step: counted from 0.
        per_epoch: steps per epoch.
    """
    if training.schedule == "ramp":
        return training.learning_rate * ramp(training, step // per_epoch)
    steps = training.epochs * per_epoch
    return learning_rate(step, steps, training.learning_rate, training.warmup)


def ramp(training: TrainingSpec, epoch: int) -> float:
    """Factor of the peak learning rate in an epoch: exponential warm-up, then linear decay.

    ``helpers/ramp.py`` of the reference code. The warm-up is exp(-5 (1 - e / r)²) with e at least
    0.5: for r = 5 epochs .0174, .0408, .165, .449, .819, and 1 from then on.

    Args:
        training: lengths in epochs, and the factor at the end.
        epoch: counted from 0.
    """
    factor = 1.0
    if epoch < training.ramp_epochs:
        factor = math.exp(-5 * (1 - max(epoch, 0.5) / training.ramp_epochs) ** 2)
    fallen = min(1.0, max(0, epoch - training.decay_start) / training.decay_epochs)
    return factor * (1 - fallen * (1 - training.min_lr_ratio))


def stages(setting: Patchout, grid: Pair) -> tuple[Patchout, ...]:
    """The constant settings of a schedule's stages, in order; one if it is constant.

    The amounts are evenly spaced from no patchout to the setting itself. The number of patches is
    constant within a stage, so each stage is compiled once.

    Args:
        setting: setting with its full amount.
        grid: (frequency, time).
    """
    if setting.schedule == "constant":
        return (setting,)
    full = replace(setting, schedule="constant", stages=Patchout.stages)
    last = setting.stages - 1
    between = (scaled(full, number / last, grid) for number in range(1, last))
    rising = (Patchout(), *between, full)
    return rising if setting.schedule == "rising" else rising[::-1]


def at_stage(setting: Patchout, grid: Pair, step: int, steps: int) -> Patchout:
    """The constant setting of a training step.

    Stages are equal shares of the training, to within a step.

    Args:
        setting: setting with its schedule.
        grid: (frequency, time).
        step: number of the step, from 0 to steps - 1.
        steps: steps of the whole training.
    """
    settings = stages(setting, grid)
    return settings[step * len(settings) // steps]


def check_steps(setting: Patchout, steps: int) -> None:
    """Raises InputError if a training has fewer steps than its schedule has stages."""
    if setting.schedule != "constant" and steps < setting.stages:
        raise InputError(
            f"the training has {steps} steps, fewer than stages",
            field="patchout.stages",
            value=setting.stages,
            remedy="Train for longer, or use fewer stages.",
        )
