"""Makes the batches of a training run, a pure function of seed, salt and step.

The order is that of the reference code: waveforms (see `features`), log-mel with its jitter,
SpecAugment, mixup of spectrograms.

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
from passt_bench.models.frontend import make_frontend, mask_fill
from passt_bench.models.patchout import random_stream
from passt_bench.processes import follow_parent, fork_server
from passt_bench.registry import StudyFiles
from passt_bench.spec.recipe import Recipe, TrainingSpec
from passt_bench.training.features import Features, changes_waves, draw_waves, logmels, one_thread

_ORDER, _AUGMENT, _WEIGHTED = 0x0D3E, 0xA063, 0x5EED  # keep the streams of one seed apart
_ROWS = 1 << 14  # clips whose labels are unpacked at a time
_SCALE, _OFFSET = 1000.0, 100.0  # as published
Tensors = dict[str, torch.Tensor]
Item = TypeVar("Item")
Batch = TypeVar("Batch")


def draw_augmentation(
    training: TrainingSpec, shape: tuple[int, ...], step: int, seed: int, salt: int
) -> Tensors:
    """Draws the random numbers of `augment` for a batch of ``shape`` (B, F, T), a pure function.

    What is off in ``training`` draws nothing.

    Returns:
        ``shift`` (B,) in frames; ``time`` and ``frequency`` (B, 2), the begin and end of a mask;
        ``other`` (B,), the clip that each is mixed with, and ``weight`` (B,).
    """
    random = random_stream(_AUGMENT, seed, salt, step)
    (clips, mels, frames), drawn = shape, {}
    if training.roll:
        limit = int(training.roll * frames)
        drawn["shift"] = random.integers(-limit, limit + 1, clips)
    if training.mask_time:
        drawn["time"] = _bands(clips, training.mask_time, frames, random)
    if training.mask_frequency:
        drawn["frequency"] = _bands(clips, training.mask_frequency, mels, random)
    if training.mixup:
        drawn["other"] = random.permutation(clips)
        weight = random.beta(training.mixup, training.mixup, clips).astype(np.float32)
        drawn["weight"] = np.maximum(weight, 1 - weight)
    return {name: torch.from_numpy(values) for name, values in drawn.items()}


def _bands(clips: int, limit: int, length: int, random: np.random.Generator) -> np.ndarray:
    bands = np.empty((clips, 2), dtype=np.int64)
    for band in bands:
        width = random.integers(0, min(limit, length + 1))
        band[:] = random.integers(0, length - width + 1)
        band[1] += width
    return bands


def augment(
    x: torch.Tensor, targets: torch.Tensor, drawn: Tensors, mask_value: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Circular time shift, SpecAugment masks, then mixup of spectrograms (paper section 3).

    Args:
        x: normalized log-mel (B, F, T); overwritten.
        targets: labels (B, C), or (B, 2, C) as `with_known` makes them; overwritten.
        drawn: as `draw_augmentation` returns it, on the same device.
        mask_value: value of masked entries, see `models.frontend.mask_fill`.

    Returns:
        Log-mel (B, 1, F, T) and targets of their shape.
    """
    if "shift" in drawn:
        frames = torch.arange(x.shape[2], device=x.device) - drawn["shift"][:, None]
        x = x.gather(2, frames.remainder(x.shape[2])[:, None].expand_as(x))
    if "time" in drawn:
        x.masked_fill_(_within(drawn["time"], x.shape[2])[:, None], mask_value)
    if "frequency" in drawn:
        x.masked_fill_(_within(drawn["frequency"], x.shape[1])[:, :, None], mask_value)
    if "other" in drawn:
        for part in (x, targets):
            weight = drawn["weight"].reshape(-1, *[1] * (part.ndim - 1))
            others = part.index_select(0, drawn["other"]).mul_(1 - weight)
            part.mul_(weight).add_(others)
    return x.unsqueeze(1), targets


def _within(bands: torch.Tensor, length: int) -> torch.Tensor:
    """Which of that many rows are in the band of each clip, (B, length)."""
    rows = torch.arange(length, device=bands.device)
    return (rows >= bands[:, :1]) & (rows < bands[:, 1:])


class LogMels:
    """Makes log-mels of waveforms and augments them, on the CPU or the engine's device.

    ``stored`` are the log-mels of the whole data set, if they are on the device.
    """

    def __init__(
        self, recipe: Recipe, device: str = "cpu", stored: torch.Tensor | None = None
    ) -> None:
        self._net, self._stored = make_frontend(recipe.frontend).to(device), stored
        self._mask_value = mask_fill(recipe.frontend)

    @torch.no_grad()
    def __call__(self, batch: Tensors) -> Tensors:
        """Makes ``x`` (B, 1, F, T) and mixed ``targets`` of a batch that was only read."""
        with one_thread():  # each operation is too short to be divided
            if "log_mels" in batch:
                x = batch["log_mels"]
            elif self._stored is not None:
                x = self._stored.index_select(0, batch["clips"])
            else:
                x = logmels(self._net, batch["waves"], batch["filters"]).squeeze(1)
            x, targets = augment(x, batch["targets"], batch, self._mask_value)
        return {"x": x, "targets": targets}


def epoch_steps(training: TrainingSpec, clips: int) -> int:
    """Steps per epoch over this many training clips: whole batches, at least one.

    A recipe may ask for more clips than a validation split has left.
    """
    wanted = training.epoch_clips or training.clips or clips
    return max(1, min(wanted, clips) // training.batch_size)


def total_steps(training: TrainingSpec, clips: int) -> int:
    """Steps of the whole training over this many training clips."""
    return training.steps or training.epochs * epoch_steps(training, clips)


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
    none = int((weights == 0).sum())
    if none:
        problem = f"{none} of {len(train)} training clips have no label, and would never be drawn"
        remedy = "Leave these clips out, or set training.sampling to 'shuffle'."
        raise InputError(problem, field="training.sampling", value="weighted", remedy=remedy)
    return weights


def with_known(targets: np.ndarray) -> np.ndarray:
    """Converts targets with NaN for unknown labels to sums and weights, which can be mixed.

    Mixing is then the same weighted sum for both: a mixture of two clips has, for each label, the
    weighted sum of the known targets and the sum of their weights. Its loss is the weighted mean of
    the two clips' losses, whichever of their labels are known.

    Returns:
        (B, 2, C) float32: positive (0 where unknown), and known (1 or 0).
    """
    known = ~np.isnan(targets)
    stacked: np.ndarray = np.stack([np.where(known, targets, 0), known], axis=1).astype(np.float32)
    return stacked


class Batches:
    """Makes the batch of a training step, from features and labels of the whole data set.

    With ``read_only`` it only reads and draws; `LogMels` does the rest, on any device. Features may
    then be a tensor that it has. Refuses labels as `clip_weights` does.
    """

    def __init__(
        self,
        features: Features | torch.Tensor,
        targets: Targets,
        train: np.ndarray,
        recipe: Recipe,
        seed: int,
        *,
        read_only: bool = False,
    ) -> None:
        self._features, self._targets, self._train = features, targets, train
        self._recipe, self._seed = recipe, seed
        training = recipe.training
        self.steps = epoch_steps(training, len(train))  # per epoch
        self.size = min(training.batch_size, training.epoch_clips or len(train))  # clips per step
        weighted = training.sampling == "weighted"
        self._weights = clip_weights(targets, train) if weighted else None
        self._epoch, self._order = -1, train[:0]
        self._log_mels = None if read_only else LogMels(recipe)

    def __call__(self, step: int) -> Tensors:
        """Augmented log-mels ``x`` (B, 1, mels, frames) and ``targets`` of a step, float32."""
        training, salt = self._recipe.training, self._recipe.salt
        shape = self.size, *self._features.shape[1:]
        drawn = draw_augmentation(training, shape, step, self._seed, salt)
        batch = {**self._read(self.clips(step), step), **drawn}
        return self._log_mels(batch) if self._log_mels else batch

    def clips(self, step: int) -> np.ndarray:
        """Indices of the clips of a step."""
        epoch, position = divmod(step, self.steps)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._epoch_order(epoch)
        return self._train[self._order[position * self.size : (position + 1) * self.size]]

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

    def _read(self, clips: np.ndarray, step: int) -> Tensors:
        """Log-mels (B, mels, frames) or waveforms (B, S) with their filters, and targets."""
        features, recipe, seed = self._features, self._recipe, self._seed
        if isinstance(features, np.ndarray | torch.Tensor):
            stored = isinstance(features, torch.Tensor)
            chosen = clips if stored else np.asarray(features[clips], dtype=np.float32)
            x = {"clips" if stored else "log_mels": torch.from_numpy(chosen)}
            return {**x, "targets": torch.from_numpy(self._labels(clips))}
        if changes_waves(recipe):
            dataset, epoch = features.dataset, step // self.steps
            drawn = draw_waves(dataset, self._labels, clips, self._train, recipe, seed, epoch)
            waves, targets = map(torch.from_numpy, drawn)
        else:
            waves, targets = features.read(clips), torch.from_numpy(self._labels(clips))
        filters = features.filters(seed, recipe.salt, step)
        return {"waves": waves, "targets": targets, "filters": filters}

    def _labels(self, clips: np.ndarray) -> np.ndarray:
        """Targets as the loss takes them, float32."""
        rows = np.asarray(self._targets[clips], dtype=np.float32)
        return with_known(rows) if self._recipe.training.loss == "masked_bce" else rows


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
        self._files = StudyFiles()  # first, because unpickling the others may need them
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
