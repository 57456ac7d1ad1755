"""Augmentation of waveforms, in the order of the reference code, before the log-mel.

Gain, then the part of a longer clip, then the roll, then the mixture with another clip that has
been through the same: ``audioset/dataset.py`` and ``fsd50k/dataset.py`` of the reference code;
paper, section 3. Whatever is drawn for a clip is a pure function of seed, salt, epoch and its
index: the same for any number of processes, and after a kill.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from passt_bench.spec.recipe import Recipe
from passt_bench.training.batches import philox
from passt_bench.training.sources import Waves, excerpt, length

_WAVES = 0x3A7E  # keeps this random stream apart from others with the same seed


def changes_waves(recipe: Recipe) -> bool:
    """Whether training changes waveforms, so that log-mels cannot be kept."""
    training = recipe.training
    crops = recipe.data.crop == "random"
    return crops or bool(training.gain or training.shift or training.wavmix)


def draw_waves(
    waves: Waves,
    labels: Callable[[int], np.ndarray],
    clips: np.ndarray,
    train: np.ndarray,
    recipe: Recipe,
    seed: int,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The waveforms of a training step's clips, with their labels.

    Args:
        waves: of the whole data set.
        labels: of a clip, as an array that can be mixed.
        clips: indices, each at most once an epoch.
        train: indices of the training clips, from which a mixture's partner is drawn.
        recipe: strengths; what is off draws nothing.
        seed: of the run.
        epoch: of the training.

    Returns:
        (B, samples) float32, and the labels of the clips, (B, …) float32.
    """
    training = recipe.training
    sounds, targets = [], []
    for clip in clips.tolist():
        random = philox(_WAVES, seed, recipe.salt, epoch, clip)
        sound, target = _play(waves, clip, recipe, random), labels(clip)
        if training.wavmix and random.random() < training.wavmix:
            other = int(train[random.integers(len(train))])
            drawn = random.beta(training.wavmix_alpha, training.wavmix_alpha)
            share = np.float32(max(drawn, 1 - drawn))
            sound = mix(sound, _play(waves, other, recipe, random), share)
            target = share * target + (1 - share) * labels(other)
        sounds.append(sound)
        targets.append(target)
    return np.stack(sounds), np.stack(targets).astype(np.float32)


def _play(waves: Waves, clip: int, recipe: Recipe, random: np.random.Generator) -> np.ndarray:
    """One clip, louder or softer, from somewhere in it, rolled."""
    training, samples = recipe.training, waves.shape[1]
    decibels = random.integers(2 * training.gain) - training.gain if training.gain else 0
    start = 0
    if recipe.data.crop == "random":
        start = int(random.integers(max(0, length(waves, clip) - samples) + 1))
    sound = excerpt(waves, clip, start)
    if decibels:
        sound = sound * np.float32(10 ** (decibels / 20))
    if training.shift:
        sound = np.roll(sound, random.integers(-training.shift, training.shift + 1))
    return sound


def mix(one: np.ndarray, two: np.ndarray, share: np.float32) -> np.ndarray:
    """A share of one waveform and the rest of another, each without its mean, as is the result."""
    mixed = share * (one - one.mean()) + (1 - share) * (two - two.mean())
    result: np.ndarray = mixed - mixed.mean()
    return result
