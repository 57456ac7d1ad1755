"""Makes the batches of a training: which clips, their log-mels and their targets.

Batches are a pure function of seed, salt and step, so that a resumed training continues
exactly. The order is that of the reference code: waveforms (see `features`), log-mel with its
jitter, SpecAugment, mixup of spectrograms.

Other processes may make batches ahead of the training, in order: process i of n makes the batches
i, i + n, i + 2n, … and sends each when it is asked for, so every process is one batch ahead.

Shapes: B batch, F mels, T frames, C classes.
"""

from __future__ import annotations

import mmap
import pickle
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch

from passt_bench.data.targets import Targets, class_counts
from passt_bench.errors import InputError
from passt_bench.models.frontend import mask_fill
from passt_bench.models.patchout import philox
from passt_bench.processes import follow_parent, fork_server
from passt_bench.spec.recipe import Recipe, TrainingSpec
from passt_bench.training.features import Features, changes_waves, draw_waves
from passt_bench.training.loss import with_known

_ORDER, _AUGMENT = 0x0D3E, 0xA063  # keep the streams of one seed apart
Arrays = tuple[np.ndarray, ...]
Make = Callable[[int], Arrays]
_EXIT_TIMEOUT = 5.0  # seconds that a process has to end before it is killed


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
        x_BFT: normalized log-mel.
        targets_BC: labels, or (B, 2, C) as `loss.with_known` makes them.
        training: strengths; 0 turns an augmentation off.
        step: training step.
        seed: seed of the run.
        salt: salt of the run.
        fill: value of masked entries. The reference code writes 0 before the normalization, see
            `models.frontend.mask_fill`.

    Returns:
        Log-mel (B, 1, F, T) and targets of their shape, float32.
    """
    random = philox(_AUGMENT, seed, salt, step)
    x = np.array(x_BFT, dtype=np.float32)
    frames = x.shape[2]
    if training.roll:
        limit = int(training.roll * frames)
        for row, shift in zip(x, random.integers(-limit, limit + 1, len(x)), strict=True):
            row[:] = np.roll(row, shift, axis=1)
    _mask(x, training.mask_time, 2, fill, random)
    _mask(x, training.mask_frequency, 1, fill, random)
    targets = np.array(targets_BC, dtype=np.float32)
    if training.mixup:
        other = random.permutation(len(x))
        weight = random.beta(training.mixup, training.mixup, len(x)).astype(np.float32)
        weight = np.maximum(weight, 1 - weight)
        x = weight[:, None, None] * x + (1 - weight)[:, None, None] * x[other]
        weight = weight.reshape(-1, *[1] * (targets.ndim - 1))
        targets = weight * targets + (1 - weight) * targets[other]
    return torch.from_numpy(x).unsqueeze(1), torch.from_numpy(targets)


def _mask(
    x_BFT: np.ndarray, width_limit: int, axis: int, fill: float, random: np.random.Generator
) -> None:
    """Masks one band per clip along the axis, from 0 to below ``width_limit`` entries wide."""
    if not width_limit:
        return
    length = x_BFT.shape[axis]
    for row in x_BFT:
        width = int(random.integers(0, min(width_limit, length + 1)))
        start = int(random.integers(0, length - width + 1))
        if axis == 2:
            row[:, start : start + width] = fill
        else:
            row[start : start + width] = fill


_KEYS = 0x5EED  # keeps this random stream apart from others with the same seed
_ROWS = 1 << 14  # clips whose labels are unpacked at a time
_SCALE, _OFFSET = 1000.0, 100.0  # as published


def epoch_steps(training: TrainingSpec, clips: int) -> int:
    """Steps per epoch over this many training clips: whole batches, at least one.

    An incomplete last batch is dropped.
    """
    return max(1, (training.epoch_clips or clips) // training.batch_size)


def clip_weights(targets: Targets, train: np.ndarray) -> np.ndarray:
    """Sampling weight of each training clip: 1000 / (100 + count), summed over its labels.

    The count of a label is the number of training clips with it. ``audioset/dataset.py`` of the
    reference code; paper, section 3. An unknown label (NaN) adds nothing.

    Args:
        targets: labels of all clips.
        train: indices of the training clips.

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


def check_sampling(training: TrainingSpec, clips: int) -> None:
    """Checks ``epoch_clips``.

    Raises:
        InputError: it exceeds the training clips, or is set without weighted sampling.
    """
    wanted = training.epoch_clips
    if wanted is None:
        return
    if training.sampling != "weighted":
        raise InputError(
            "without weighted sampling an epoch is every clip once",
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
        training: kind of sampling, batch size, clips per epoch.
        targets: labels of all clips.
        train: indices of the training clips.
        seed: seed of the run.
        salt: salt of the run.

    Raises:
        InputError: see `check_sampling` and `clip_weights`.
    """

    def __init__(
        self, training: TrainingSpec, targets: Targets, train: np.ndarray, seed: int, salt: int
    ) -> None:
        check_sampling(training, len(train))
        self.train = train
        self.steps = epoch_steps(training, len(train))  # per epoch
        self._training, self._stream = training, (seed, salt)
        weighted = training.sampling == "weighted"
        self._weights = clip_weights(targets, train) if weighted else None
        self._epoch, self._order = -1, train[:0]

    def clips(self, step: int) -> np.ndarray:
        """Indices of the clips of a step."""
        epoch, position = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        size = self._training.batch_size
        return self.train[self._order[position * size : (position + 1) * size]]

    def _epoch_order(self, epoch: int) -> np.ndarray:
        """Positions in the training clips, in the order of an epoch.

        Weighted sampling without replacement: draws an exponential waiting time at rate w per clip
        and takes the smallest (Efraimidis and Spirakis 2006).
        """
        total = len(self.train)
        if self._weights is None:
            return philox(_ORDER, *self._stream, epoch).permutation(total)
        random = philox(_KEYS, *self._stream, epoch)
        waiting = random.standard_exponential(total) / self._weights
        count = self._training.epoch_clips or total
        clips = np.argpartition(waiting, count - 1)[:count] if count < total else np.arange(total)
        return random.permutation(np.sort(clips))


@dataclass
class Supply:
    """Makes the batch of a training step from the number of the step.

    Attributes:
        features: features of the whole data set.
        targets: labels of the whole data set.
        sampler: chooses the clips of each step.
        recipe: augmentation and loss.
        seed: seed of the run.
    """

    features: Features
    targets: Targets
    sampler: Sampler
    recipe: Recipe
    seed: int

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Augmented log-mels (B, 1, mels, frames) and targets of a step, float32."""
        clips, recipe = self.sampler.clips(step), self.recipe
        x, targets = self._log_mels(clips, step)
        fill = mask_fill(recipe.frontend)
        augmented = augment(x, targets, recipe.training, step, self.seed, recipe.salt, fill)
        return augmented[0].numpy(), augmented[1].numpy()

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
        return features.training_logmels(waves, self.seed, recipe.salt, step), targets

    def _labels(self, clips: np.ndarray) -> np.ndarray:
        """Targets as the loss takes them, see `loss.with_known` for labels that may be unknown."""
        rows = self.targets[clips]
        return with_known(rows) if self.recipe.training.loss == "masked_bce" else rows

    def _labels_of(self, clip: int) -> np.ndarray:
        rows: np.ndarray = self._labels(np.array([clip]))
        return rows[0]


@dataclass
class Slices:
    """Log-mels of clips in batches, in the order of the clips.

    Attributes:
        features: features of the whole data set.
        clips: indices.
        size: clips per batch.
    """

    features: Features
    clips: np.ndarray
    size: int

    def __len__(self) -> int:
        return -(-len(self.clips) // self.size)

    def __call__(self, number: int) -> tuple[np.ndarray]:
        """Log-mels (size or fewer, mels, frames)."""
        return (self.features[self.clips[number * self.size : (number + 1) * self.size]],)


@contextmanager
def loading(make: Make, numbers: Sequence[int], processes: int) -> Generator[Iterator[Arrays]]:
    """Makes the batches with the given numbers, in order.

    Args:
        make: makes the batch with a number; each process gets a pickled copy.
        numbers: numbers of the batches.
        processes: how many processes make them; 0: the training process makes them itself.

    Yields:
        An iterator over the batches. An error in a process is raised at the batch that failed.
    """
    if processes < 1:
        yield map(make, numbers)
        return
    count = min(processes, len(numbers))
    children: list[tuple[BaseProcess, Connection]] = []
    try:
        for first in range(count):
            children.append(_start(make, numbers[first::count]))
        yield _in_turn(children, len(numbers))
    finally:
        for child, reader in children:
            reader.close()
            child.terminate()
        for child, _ in children:
            child.join(_EXIT_TIMEOUT)
            if child.is_alive():
                child.kill()
                child.join()


def _start(make: Make, numbers: Sequence[int]) -> tuple[BaseProcess, Connection]:
    context = fork_server(__name__)
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(make, numbers, writer), daemon=True)
    child.start()
    writer.close()
    return child, reader


def _in_turn(children: Sequence[tuple[BaseProcess, Connection]], total: int) -> Iterator[Arrays]:
    for number in range(total):
        child, reader = children[number % len(children)]
        try:
            shapes = reader.recv()
            if isinstance(shapes, BaseException):
                raise shapes
            arrays = tuple(np.empty(shape, dtype=kind) for shape, kind in shapes)
            for array in arrays:
                reader.recv_bytes_into(array.data.cast("B"))
        except EOFError:
            child.join()
            raise RuntimeError(
                f"a process that makes batches ended with exit status {child.exitcode}"
            ) from None
        yield arrays


def _serve(make: Make, numbers: Sequence[int], writer: Connection) -> None:
    """Main function of a process that makes batches."""
    follow_parent()
    with suppress(BrokenPipeError):  # the reader has gone
        try:
            for number in numbers:
                arrays = [np.ascontiguousarray(array) for array in make(number)]
                writer.send([(array.shape, array.dtype.str) for array in arrays])
                for array in arrays:
                    writer.send_bytes(array.data.cast("B"))
        except BrokenPipeError:
            raise
        except BaseException as error:  # raised again by the process that trains
            writer.send(_portable(error))


def _portable(error: BaseException) -> BaseException:
    """The error with a note of its origin, or one that can be pickled instead."""
    text = traceback.format_exc(limit=-6)
    try:
        copy: BaseException = pickle.loads(pickle.dumps(error))
    except Exception:  # its class may raise anything
        return RuntimeError(text)
    copy.add_note(f"in a process that makes batches:\n{text}")
    return copy


def _reduce_memmap(array: Any) -> Any:
    """Pickles a memory map as the name of its file, without its content."""
    if isinstance(array.base, mmap.mmap):  # not a view of one, whose offset is unknown
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        arguments = (array.filename, array.dtype, "r", array.offset, array.shape, order)
        return np.memmap, arguments
    return np.asarray(array).__reduce__()


ForkingPickler.register(np.memmap, _reduce_memmap)
