"""The features of a data set's clips: waveforms, their augmentation, and log-mels.

Where every epoch sees the same log-mels, they are cached once, as a memory map for all cells of a
study; else, or if they would be too large, waveforms are read from the data set at each use.

Shapes: B batch, S samples per clip.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from passt_bench.console import Progress
from passt_bench.data.dataset import SCALE, Dataset
from passt_bench.models.frontend import draw_edges, frame_count, is_jittered, make_frontend
from passt_bench.models.patchout import random_stream
from passt_bench.records.files import is_sealed, writing
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.recipe import FrontendSpec, Recipe

VERSION = 1  # raise when the features of unchanged settings change
MAX_BYTES = 16 << 30  # largest features that ``auto`` caches
_BATCH = 50
_DEVICE_SHARE = 0.25  # of free memory; the model needs most of it, and other runs may share it
_WAVE_STREAM = 0x3A7E  # keeps this random stream apart from others with the same seed


def changes_waves(recipe: Recipe) -> bool:
    """Whether training changes waveforms, so that log-mels cannot be cached."""
    training = recipe.training
    crops = recipe.data.crop == "random"
    return crops or bool(training.gain or training.shift or training.wavmix)


def draw_waves(
    dataset: Dataset,
    labels: Callable[[np.ndarray], np.ndarray],
    clips: np.ndarray,
    train: np.ndarray,
    recipe: Recipe,
    seed: int,
    epoch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """The waveforms (B, S) of a training step's clips, and their labels (B, …), float32.

    In the order of the reference code (``audioset/dataset.py``, ``fsd50k/dataset.py``; paper,
    section 3): gain, crop of a longer clip, circular shift, mixture with a clip augmented alike.
    The random numbers of a clip are a pure function of seed, salt, epoch and its index.

    ``labels`` returns those of clips, as rows that can be mixed; a mixture's partner is drawn from
    ``train``. Augmentations that are off draw no random numbers.
    """
    training = recipe.training
    sounds, targets = [], []
    for clip, target in zip(clips.tolist(), labels(clips), strict=True):
        random = random_stream(_WAVE_STREAM, seed, recipe.salt, epoch, clip)
        sound = _augment_wave(dataset, clip, recipe, random)
        if training.wavmix and random.random() < training.wavmix:
            other = int(train[random.integers(len(train))])
            beta = random.beta(training.wavmix_alpha, training.wavmix_alpha)
            weight = np.float32(max(beta, 1 - beta))
            sound = mix(sound, _augment_wave(dataset, other, recipe, random), weight)
            target = weight * target + (1 - weight) * labels(np.array([other]))[0]
        sounds.append(sound)
        targets.append(target)
    return np.stack(sounds), np.stack(targets).astype(np.float32)


def _augment_wave(
    dataset: Dataset, clip: int, recipe: Recipe, random: np.random.Generator
) -> np.ndarray:
    """One clip with random gain, crop and circular shift."""
    training = recipe.training
    decibels = random.integers(2 * training.gain) - training.gain if training.gain else 0
    start = 0
    if recipe.data.crop == "random":
        samples = round(recipe.data.seconds * recipe.frontend.sampling_rate)
        start = int(random.integers(max(0, (dataset.length(clip) or 0) - samples) + 1))
    sound = dataset.excerpt(clip, start)
    if decibels:
        sound = sound * np.float32(10 ** (decibels / 20))
    if training.shift:
        sound = np.roll(sound, random.integers(-training.shift, training.shift + 1))
    return sound


def mix(one: np.ndarray, two: np.ndarray, weight: np.float32) -> np.ndarray:
    """Weighted sum of two waveforms, each mean-subtracted, and so is the mixture."""
    mixed = weight * (one - one.mean()) + (1 - weight) * (two - two.mean())
    result: np.ndarray = mixed - mixed.mean()
    return result


class Waveforms:
    """Log-mels of a data set's clips by index, computed from waveforms on access.

    Indexing makes those of evaluation; `Batches` makes those of a training step.
    """

    def __init__(self, dataset: Dataset, frontend: FrontendSpec, seconds: float) -> None:
        self.dataset, self._spec, self._seconds = dataset, frontend, seconds
        self.net = make_frontend(frontend)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(clips, mels, frames)."""
        clips, spec = len(self.dataset.ids), self._spec
        return clips, spec.mels, frame_count(spec, self._seconds)

    def read(self, clips: np.ndarray) -> torch.Tensor:
        """Waveforms (clips, S) from their start, for `logmels`."""
        dataset = self.dataset
        return torch.from_numpy(np.stack([dataset.stored_waveform(int(clip)) for clip in clips]))

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray:
        """Log-mel of one clip (mels, frames), or of several (clips, mels, frames)."""
        batch = logmels(self.net, self.read(np.atleast_1d(index))).squeeze(1).numpy()
        return batch[0] if np.ndim(index) == 0 else batch

    def filters(self, seed: int, salt: int, step: int) -> torch.Tensor:
        """Mel filters of a training step, whose edges may move."""
        edges = draw_edges(self._spec, seed, salt, step)
        return self.net.banks(*edges) if is_jittered(self._spec) else self.net.filters

    def __reduce__(self) -> tuple[Any, ...]:
        return Waveforms, (self.dataset, self._spec, self._seconds)


Features = np.ndarray | Waveforms


def keep_on_device(features: Features, device: str) -> Features | torch.Tensor:
    """Cached log-mels on a CUDA device, if they take a small share of its free memory."""
    if device == "cpu" or isinstance(features, Waveforms):
        return features
    free, total = torch.cuda.mem_get_info()
    allowed = total * torch.cuda.get_per_process_memory_fraction()  # see `share_gpu_memory`
    if features.nbytes > _DEVICE_SHARE * min(free, allowed):
        return features
    kept = torch.empty(features.shape, device=device)
    for at in range(0, len(features), _BATCH):
        kept[at : at + _BATCH].copy_(torch.from_numpy(np.array(features[at : at + _BATCH])))
    return kept


@torch.no_grad()
def logmels(
    net: torch.nn.Module, waves: torch.Tensor, filters: torch.Tensor | None = None
) -> torch.Tensor:
    """Log-mels (B, 1, mels, frames) of waveforms (B, S), float32 or stored as int16."""
    x = waves.float()
    with one_thread():
        batch: torch.Tensor = net(x.div_(SCALE) if waves.dtype == torch.int16 else x, filters)
    return batch


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread: log-mels made by one process equal those of another to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def features_path(cache: Path, recipe: Recipe, data_digest: str) -> Path | None:
    """The file with the log-mels of a recipe's data; None if they cannot or shall not be cached."""
    frontend, seconds = recipe.frontend, recipe.data.seconds
    if recipe.data.storage == "streamed" or is_jittered(frontend) or changes_waves(recipe):
        return None
    name = digest([VERSION, data_digest, key_fields(frontend), seconds])
    return cache / f"features-{name}.npy"


def cache_bytes(recipe: Recipe, clips: int) -> int:
    """Size of the cached log-mels of a number of clips."""
    return 4 * clips * recipe.frontend.mels * frame_count(recipe.frontend, recipe.data.seconds)


def fits_cache(recipe: Recipe, clips: int, cache: Path) -> bool:
    """Whether log-mels of a number of clips may be cached.

    ``data.storage=auto`` caches at most `MAX_BYTES` and leaves half of the disk's free space.
    """
    if recipe.data.storage == "prepared":
        return True
    size = cache_bytes(recipe, clips)
    folder = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    return size <= min(MAX_BYTES, shutil.disk_usage(folder).free // 2)


def open_features(path: Path | None, recipe: Recipe, dataset: Dataset) -> Features:
    """The log-mels that `prepare_features` cached, else those made of the data set at each use."""
    if path is not None and path.is_file():
        cached: np.ndarray = np.load(path, mmap_mode="r")
        return cached
    return Waveforms(dataset, recipe.frontend, recipe.data.seconds)


def prepare_features(
    dataset: Dataset,
    frontend: FrontendSpec,
    seconds: float,
    path: Path,
    progress: Progress = lambda share, text: None,
) -> Path:
    """Writes the log-mel of every clip, float32, unless the file exists and is undamaged.

    Not through a memory map: on a full disk, that kills the process without a message.
    """
    if is_sealed(path):
        return path
    clips, net = len(dataset.ids), make_frontend(frontend).eval()
    shape = clips, frontend.mels, frame_count(frontend, seconds)
    kind = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": kind, "fortran_order": False, "shape": shape}
    with writing(path, sealed=True) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, clips, _BATCH):
            stop = min(start + _BATCH, clips)
            waves = np.stack([dataset.stored_waveform(index) for index in range(start, stop)])
            file.write(logmels(net, torch.from_numpy(waves)).numpy().tobytes())
            progress(stop / clips, "")
    return path
