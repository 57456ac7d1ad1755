"""What a training step gets: log-mels and targets, a pure function of the step's number.

The order is that of the reference code: waveforms (see `waves`), log-mel with its jitter,
SpecAugment, mixup of spectrograms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from passt_bench.data.targets import Targets
from passt_bench.models.frontend import mask_fill
from passt_bench.spec.recipe import Recipe
from passt_bench.training.batches import augment
from passt_bench.training.features import Features
from passt_bench.training.loss import with_known
from passt_bench.training.sampling import Sampler
from passt_bench.training.waves import changes_waves, draw_waves


@dataclass
class Supply:
    """Batches of a training by the number of the step.

    Attributes:
        features: of the whole data set.
        targets: of the whole data set.
        sampler: which clips a step sees.
        recipe: augmentation and loss.
        seed: of the run.
    """

    features: Features
    targets: Targets
    sampler: Sampler
    recipe: Recipe
    seed: int

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Augmented log-mels (B, 1, mels, frames) and targets of a step, float32."""
        clips = self.sampler.clips(step)
        x, targets = self._log_mels(clips, step)
        fill = mask_fill(self.recipe.frontend)
        drawn = augment(x, targets, self.recipe.training, step, self.seed, self.recipe.salt, fill)
        return drawn[0].numpy(), drawn[1].numpy()

    def _log_mels(self, clips: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-mels (B, mels, frames) before spectrograms are augmented, and targets."""
        features, recipe = self.features, self.recipe
        if isinstance(features, np.ndarray):
            return features[clips], self._labels(clips)
        if not changes_waves(recipe):
            waves, targets = features.waves[clips], self._labels(clips)
        else:
            epoch, train = step // self.sampler.steps, self.sampler.train
            waves, targets = draw_waves(
                features.waves, self._labels_of, clips, train, recipe, self.seed, epoch
            )
        return features.drawn(waves, self.seed, recipe.salt, step), targets

    def _labels(self, clips: np.ndarray) -> np.ndarray:
        """Targets as the loss takes them: where labels may be unknown, with what is known."""
        rows = self.targets[clips]
        return with_known(rows) if self.recipe.training.loss == "masked_bce" else rows

    def _labels_of(self, clip: int) -> np.ndarray:
        rows: np.ndarray = self._labels(np.array([clip]))
        return rows[0]


@dataclass
class Slices:
    """Log-mels of clips, some at a time, in their order.

    Attributes:
        features: of the whole data set.
        clips: indices.
        size: clips at a time.
    """

    features: Features
    clips: np.ndarray
    size: int

    def __len__(self) -> int:
        return -(-len(self.clips) // self.size)

    def __call__(self, number: int) -> tuple[np.ndarray]:
        """Log-mels (size or fewer, mels, frames)."""
        return (self.features[self.clips[number * self.size : (number + 1) * self.size]],)
