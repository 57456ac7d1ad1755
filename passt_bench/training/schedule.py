"""What changes over a training: the learning rate, and the amount of patchout.

Pure functions of the step, so that a resumed run continues exactly.
"""

from __future__ import annotations

import math
from dataclasses import replace

from passt_bench.errors import InputError
from passt_bench.models.patchout import scaled
from passt_bench.spec.recipe import Pair, Patchout, TrainingSpec


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """The rate of a step: a linear warm-up, then a cosine to zero.

    Args:
        step: from 0 to steps - 1.
        steps: of the whole training.
        peak: highest rate.
        warmup: share of the steps with a rising rate.
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def rate_at(training: TrainingSpec, step: int, per_epoch: int) -> float:
    """The rate of a training step, by the recipe's schedule.

    Args:
        training: schedule and peak rate.
        step: from 0 on.
        per_epoch: steps of an epoch.
    """
    if training.schedule == "ramp":
        return training.learning_rate * ramp(training, step // per_epoch)
    steps = training.epochs * per_epoch
    return learning_rate(step, steps, training.learning_rate, training.warmup)


def ramp(training: TrainingSpec, epoch: int) -> float:
    """The share of the peak rate in an epoch: exponential warm-up, then linear decay.

    ``helpers/ramp.py`` of the reference code. The warm-up is exp(-5 (1 - e / r)²) with e at least
    0.5: for r = 5 epochs .0174, .0408, .165, .449, .819, and 1 from then on.

    Args:
        training: lengths in epochs, and the share that is left at the end.
        epoch: from 0 on.
    """
    share = 1.0
    if epoch < training.ramp_epochs:
        share = math.exp(-5 * (1 - max(epoch, 0.5) / training.ramp_epochs) ** 2)
    fallen = min(1.0, max(0, epoch - training.decay_start) / training.decay_epochs)
    return share * (1 - fallen * (1 - training.min_lr_ratio))


def stages(setting: Patchout, grid: Pair) -> tuple[Patchout, ...]:
    """The constant settings that a schedule goes through, in order; one where it is constant.

    The shares of the amount are evenly spaced; the least is no patchout at all, and the largest the
    setting itself. Each keeps one number of patches: one shape to compile.

    Args:
        setting: with its full amount.
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
        setting: with its schedule.
        grid: (frequency, time).
        step: from 0 to steps - 1.
        steps: of the whole training.
    """
    settings = stages(setting, grid)
    return settings[step * len(settings) // steps]


def check_steps(setting: Patchout, steps: int) -> None:
    """Refuses a training too short for the stages of its schedule.

    Raises:
        InputError: fewer steps than stages.
    """
    if setting.schedule != "constant" and steps < setting.stages:
        raise InputError(
            f"the training has {steps} steps, fewer than stages",
            field="patchout.stages",
            value=setting.stages,
            remedy="Train for longer, or take fewer stages.",
        )
