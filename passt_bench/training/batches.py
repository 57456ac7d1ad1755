"""Batches and augmentation as pure functions of (seed, salt, step): exact to resume.

Shapes: B batch, F mels, T frames, C classes.
"""

from __future__ import annotations

import numpy as np
import torch

from passt_bench.spec.recipe import TrainingSpec

ORDER, _AUGMENT = 0x0D3E, 0xA063  # keep the streams of one seed apart


def philox(*entropy: int) -> np.random.Generator:
    """The random stream of a tuple of numbers, the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(entropy)))


def steps_per_epoch(clips: int, batch_size: int) -> int:
    """Whole batches in an epoch, at least one; the rest waits for the next epoch's order."""
    return max(1, clips // batch_size)


def augment(
    x_BFT: np.ndarray,
    targets_BC: np.ndarray,
    training: TrainingSpec,
    step: int,
    seed: int,
    salt: int,
    fill: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Circular time shift, SpecAugment masks, then mixup of spectrograms (paper section 3).

    Args:
        x_BFT: normalised log-mel.
        targets_BC: labels, or (B, 2, C) as `loss.with_known` makes them.
        training: strengths; whatever is 0 is off.
        step: training step.
        seed: of the run.
        salt: of the run.
        fill: what masks are filled with. The reference code writes 0 before the normalisation, see
            `models.frontend.mask_fill`.

    Returns:
        Log-mel (B, 1, F, T) and targets of their shape, float32.
    """
    random = philox(_AUGMENT, seed, salt, step)
    x = np.array(x_BFT, dtype=np.float32)
    frames = x.shape[2]
    if training.roll:
        most = int(training.roll * frames)
        for row, shift in zip(x, random.integers(-most, most + 1, len(x)), strict=True):
            row[:] = np.roll(row, shift, axis=1)
    _mask(x, training.mask_time, 2, fill, random)
    _mask(x, training.mask_frequency, 1, fill, random)
    targets = np.array(targets_BC, dtype=np.float32)
    if training.mixup:
        other = random.permutation(len(x))
        share = random.beta(training.mixup, training.mixup, len(x)).astype(np.float32)
        share = np.maximum(share, 1 - share)
        x = share[:, None, None] * x + (1 - share)[:, None, None] * x[other]
        share = share.reshape(-1, *[1] * (targets.ndim - 1))
        targets = share * targets + (1 - share) * targets[other]
    return torch.from_numpy(x).unsqueeze(1), torch.from_numpy(targets)


def _mask(
    x_BFT: np.ndarray, widest: int, axis: int, fill: float, random: np.random.Generator
) -> None:
    """Fills one stretch a clip along the axis, of a width from 0 to below ``widest``."""
    if not widest:
        return
    length = x_BFT.shape[axis]
    for row in x_BFT:
        width = int(random.integers(0, min(widest, length + 1)))
        start = int(random.integers(0, length - width + 1))
        if axis == 2:
            row[:, start : start + width] = fill
        else:
            row[start : start + width] = fill
