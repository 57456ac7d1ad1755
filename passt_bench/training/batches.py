"""Makes the batches of a training run: which clips, their log-mels and their targets.

Batches are a pure function of seed, salt and step, so that a resumed training continues
exactly. The order is that of the reference code: waveforms (see `features`), log-mel with its
jitter, SpecAugment, mixup of spectrograms.

Shapes: B batch, F mels, T frames, C classes.
"""

from __future__ import annotations

import mmap
import pickle
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar
from warnings import catch_warnings

import numpy as np
import torch
from torch.utils import data

from passt_bench.data.targets import Targets, class_counts
from passt_bench.errors import InputError
from passt_bench.models.frontend import mask_fill
from passt_bench.models.patchout import random_stream
from passt_bench.processes import follow_parent, fork_server
from passt_bench.spec.recipe import Recipe, TrainingSpec
from passt_bench.training.engine import with_known
from passt_bench.training.features import Features, changes_waves, draw_waves

_ORDER, _AUGMENT, _WEIGHTED = 0x0D3E, 0xA063, 0x5EED  # keep the streams of one seed apart
_ROWS = 1 << 14  # clips whose labels are unpacked at a time
_SCALE, _OFFSET = 1000.0, 100.0  # as published
Item = TypeVar("Item")
Batch = TypeVar("Batch")


def augment(
    x_BFT: np.ndarray,
    targets_BC: np.ndarray,
    training: TrainingSpec,
    step: int,
    seed: int,
    salt: int,
    mask_value: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Circular time shift, SpecAugment masks, then mixup of spectrograms (paper section 3).

    Args:
        x_BFT: normalized log-mel.
        targets_BC: labels, or (B, 2, C) as `engine.with_known` makes them.
        training: strengths; 0 turns an augmentation off.
        step: number of the training step; it decides the draws, with seed and salt of the run.
        seed: see ``step``.
        salt: see ``step``.
        mask_value: value of masked entries, see `models.frontend.mask_fill`.

    Returns:
        Log-mel (B, 1, F, T) and targets of their shape, float32.
    """
    random = random_stream(_AUGMENT, seed, salt, step)
    x = np.array(x_BFT, dtype=np.float32)
    if training.roll:
        limit = int(training.roll * x.shape[2])
        for row, shift in zip(x, random.integers(-limit, limit + 1, len(x)), strict=True):
            row[:] = np.roll(row, shift, axis=1)
    _mask(np.moveaxis(x, 2, 1), training.mask_time, mask_value, random)
    _mask(x, training.mask_frequency, mask_value, random)
    targets = np.array(targets_BC, dtype=np.float32)
    if training.mixup:
        other = random.permutation(len(x))
        weight = random.beta(training.mixup, training.mixup, len(x)).astype(np.float32)
        weight = np.maximum(weight, 1 - weight)
        x = weight[:, None, None] * x + (1 - weight)[:, None, None] * x[other]
        weight = weight.reshape(-1, *[1] * (targets.ndim - 1))
        targets = weight * targets + (1 - weight) * targets[other]
    return torch.from_numpy(x).unsqueeze(1), torch.from_numpy(targets)


def _mask(x: np.ndarray, width_limit: int, mask_value: float, random: np.random.Generator) -> None:
    """Masks one band of rows per clip, of random height in [0, ``width_limit``)."""
    if not width_limit:
        return
    length = x.shape[1]
    for clip in x:
        width = int(random.integers(0, min(width_limit, length + 1)))
        start = int(random.integers(0, length - width + 1))
        clip[start : start + width] = mask_value


def epoch_steps(training: TrainingSpec, clips: int) -> int:
    """Steps per epoch over this many training clips: whole batches, at least one.

    An incomplete last batch is dropped.
    """
    return max(1, (training.epoch_clips or clips) // training.batch_size)


def clip_weights(targets: Targets, train: np.ndarray) -> np.ndarray:
    """Sampling weight of each training clip: 1000 / (100 + count), summed over its labels.

    The count of a label is the number of training clips with it. ``audioset/dataset.py`` of the
    reference code; paper, section 3. An unknown label (NaN) adds nothing.

    Returns:
        (len(train),) float64.

    Raises:
        InputError: some clips have no labels, so they would never be drawn.
    """
    label_weights = _SCALE / (_OFFSET + class_counts(targets, train))
    weights = np.empty(len(train))
    for start in range(0, len(train), _ROWS):
        block = slice(start, start + _ROWS)
        weights[block] = (targets[train[block]] > 0.5) @ label_weights
    unlabeled = int((weights == 0).sum())
    if unlabeled:
        raise InputError(
            f"{unlabeled} of {len(train)} training clips have no label, and would never be drawn",
            field="training.sampling",
            value="weighted",
            remedy="Leave these clips out, or set training.sampling to 'shuffle'.",
        )
    return weights


class Batches:
    """Makes the batch of a training step, from features and labels of the whole data set.

    Raises:
        InputError: see `clip_weights`.
    """

    def __init__(
        self, features: Features, targets: Targets, train: np.ndarray, recipe: Recipe, seed: int
    ) -> None:
        self._features, self._targets, self._train = features, targets, train
        self._recipe, self._seed = recipe, seed
        self.steps = epoch_steps(recipe.training, len(train))  # per epoch
        weighted = recipe.training.sampling == "weighted"
        self._weights = clip_weights(targets, train) if weighted else None
        self._epoch, self._order = -1, train[:0]

    def __call__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Augmented log-mels (B, 1, mels, frames) and targets of a step, float32."""
        x, targets = self._log_mels(self.clips(step), step)
        recipe, mask_value = self._recipe, mask_fill(self._recipe.frontend)
        return augment(x, targets, recipe.training, step, self._seed, recipe.salt, mask_value)

    def clips(self, step: int) -> np.ndarray:
        """Indices of the clips of a step."""
        epoch, position = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        size = self._recipe.training.batch_size
        return self._train[self._order[position * size : (position + 1) * size]]

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """Positions in the training clips, in the order of an epoch.

        Weighted sampling without replacement: draws an exponential waiting time at rate w per clip
        and takes the smallest (Efraimidis and Spirakis 2006).
        """
        total, stream = len(self._train), (self._seed, self._recipe.salt, epoch)
        if self._weights is None:
            return random_stream(_ORDER, *stream).permutation(total)
        random = random_stream(_WEIGHTED, *stream)
        waiting = random.standard_exponential(total) / self._weights
        count = self._recipe.training.epoch_clips or total
        clips = np.argpartition(waiting, count - 1)[:count] if count < total else np.arange(total)
        return random.permutation(np.sort(clips))

    def _log_mels(self, clips: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Log-mels (B, mels, frames) before spectrograms are augmented, and targets."""
        features, recipe = self._features, self._recipe
        if isinstance(features, np.ndarray):
            return features[clips], self._labels(clips)
        if not changes_waves(recipe):
            waves, targets = features.read(clips), self._labels(clips)
        else:
            seed, epoch = self._seed, step // self.steps
            waves, targets = draw_waves(
                features.dataset, self._labels_of, clips, self._train, recipe, seed, epoch
            )
        return features.training_logmels(waves, self._seed, recipe.salt, step), targets

    def _labels(self, clips: np.ndarray) -> np.ndarray:
        """Targets as the loss takes them."""
        rows = self._targets[clips]
        return with_known(rows) if self._recipe.training.loss == "masked_bce" else rows

    def _labels_of(self, clip: int) -> np.ndarray:
        rows: np.ndarray = self._labels(np.array([clip]))
        return rows[0]


def load(
    make: Callable[[Item], Batch], items: Sequence[Item], workers: int, pin: bool = False
) -> Generator[Batch]:
    """Makes a batch of each item, in order; closing the generator ends its processes.

    Without workers, this process makes each batch when it is asked for. Otherwise each worker gets
    a pickled copy of ``make`` and is up to two batches ahead; ``pin`` moves tensors to pinned
    memory. An error of ``make`` is raised at the batch that failed.
    """
    if not workers or not items:
        yield from map(make, items)
        return
    with catch_warnings(action="ignore", category=UserWarning):  # more workers than cores
        loader = data.DataLoader(
            _Caught(make),
            batch_size=None,
            sampler=items,
            num_workers=min(workers, len(items)),
            collate_fn=_unchanged,
            pin_memory=pin,
            worker_init_fn=_follow,
            multiprocessing_context=fork_server(__name__),
            generator=torch.Generator(),  # and not the global one, which training draws from
        )
        batches = iter(loader)
    try:
        for batch in batches:
            if isinstance(batch, BaseException):
                raise batch
            yield batch
    finally:
        batches._shutdown_workers()  # type: ignore[attr-defined]  # now, not at garbage collection


class _Caught(data.Dataset[Any]):
    """Batches, or the errors that they raised; torch keeps only the text of an error."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __getitem__(self, item: Any) -> Any:
        try:
            return self._make(item)
        except Exception as error:
            return _portable(error)


def _portable(error: Exception) -> Exception:
    """The error with a note of its origin, or one that can be pickled instead."""
    text = traceback.format_exc(limit=-6)
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # its class may raise anything
        return RuntimeError(text)
    copy.add_note(f"in a process that makes batches:\n{text}")
    return copy


def _unchanged(batch: Batch) -> Batch:
    return batch


def _follow(worker: int) -> None:
    follow_parent()  # torch's watchdog polls every 5 s, and watches the fork server


def _reduce_memmap(array: Any) -> Any:
    """Pickles a memory map as the name of its file, without its content."""
    # Not a view of one, whose offset is unknown, nor columns first, as features never are.
    if isinstance(array.base, mmap.mmap) and array.flags.c_contiguous:
        return np.memmap, (array.filename, array.dtype, "r", array.offset, array.shape)
    return np.asarray(array).__reduce__()


ForkingPickler.register(np.memmap, _reduce_memmap)
