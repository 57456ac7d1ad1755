"""Which clips a training step sees: every clip once an epoch, or drawn by the rarity of its labels.

Pure functions of seed, salt and epoch, so that a resumed training goes on as it would have.
"""

from __future__ import annotations

import numpy as np

from passt_bench.data.targets import Targets, class_counts
from passt_bench.errors import InputError
from passt_bench.spec.recipe import TrainingSpec
from passt_bench.training.batches import ORDER, philox, steps_per_epoch

_KEYS = 0x5EED  # keeps this random stream apart from others with the same seed
_ROWS = 1 << 14  # unpacked at a time
_SCALE, _OFFSET = 1000.0, 100.0  # as published


def epoch_steps(training: TrainingSpec, clips: int) -> int:
    """Steps of an epoch over so many training clips."""
    return steps_per_epoch(training.epoch_clips or clips, training.batch_size)


def clip_weights(targets: Targets, train: np.ndarray) -> np.ndarray:
    """How likely each training clip is drawn: 1000 / (100 + count), summed over its labels.

    The count of a label is that of the training clips with it. ``audioset/dataset.py`` of the
    reference code; paper, section 3. A label that nobody knows (NaN) adds nothing.

    Args:
        targets: of all clips.
        train: indices of the training clips.

    Returns:
        (len(train),) float64.

    Raises:
        InputError: a clip without labels, which could never be drawn.
    """
    label_weights = _SCALE / (_OFFSET + class_counts(targets, train))
    weights = np.empty(len(train))
    for start in range(0, len(train), _ROWS):
        block = slice(start, start + _ROWS)
        weights[block] = (targets[train[block]] > 0.5) @ label_weights
    without = int((weights == 0).sum())
    if without:
        raise InputError(
            f"{without} of {len(train)} training clips have no label, and would never be drawn",
            field="training.sampling",
            value="weighted",
            remedy="Leave these clips out, or set training.sampling to 'shuffle'.",
        )
    return weights


def check_sampling(training: TrainingSpec, clips: int) -> None:
    """Refuses an epoch of more clips than there are.

    Raises:
        InputError: so many clips, or a number without weighted sampling.
    """
    wanted = training.epoch_clips
    if wanted is None:
        return
    if training.sampling != "weighted":
        raise InputError(
            "an epoch is every clip once where clips are shuffled",
            field="training.epoch_clips",
            value=wanted,
            remedy="Leave it out, or set training.sampling to 'weighted'.",
        )
    if wanted > clips:
        raise InputError(
            f"more clips than the {clips} to train on; none is drawn twice in an epoch",
            field="training.epoch_clips",
            value=wanted,
            remedy=f"Give at most {clips}, or leave it out for all.",
        )


class Sampler:
    """The clips of each training step.

    Args:
        training: kind of sampling, batch size, clips an epoch.
        targets: of all clips.
        train: indices of the training clips.
        seed: of the run.
        salt: of the run.

    Raises:
        InputError: more clips an epoch than there are, or clips that could never be drawn.
    """

    def __init__(
        self, training: TrainingSpec, targets: Targets, train: np.ndarray, seed: int, salt: int
    ) -> None:
        check_sampling(training, len(train))
        self.train = train
        self.steps = epoch_steps(training, len(train))  # an epoch
        self._training, self._stream = training, (seed, salt)
        weighted = training.sampling == "weighted"
        self._weights = clip_weights(targets, train) if weighted else None
        self._epoch, self._order = -1, train[:0]

    def clips(self, step: int) -> np.ndarray:
        """Indices of the clips of a step."""
        epoch, position = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._draw(epoch)
        size = self._training.batch_size
        return self.train[self._order[position * size : (position + 1) * size]]

    def _draw(self, epoch: int) -> np.ndarray:
        """Places among the training clips, in the order of an epoch.

        Weighted: those with the smallest of exponential waiting times at rates as the weights,
        which is drawing one after the other without replacement (Efraimidis and Spirakis 2006).
        """
        total = len(self.train)
        if self._weights is None:
            return philox(ORDER, *self._stream, epoch).permutation(total)
        random = philox(_KEYS, *self._stream, epoch)
        waiting = random.standard_exponential(total) / self._weights
        count = self._training.epoch_clips or total
        drawn = np.argpartition(waiting, count - 1)[:count] if count < total else np.arange(total)
        return random.permutation(np.sort(drawn))
