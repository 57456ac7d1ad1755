"""The features of a data set's clips: waveforms, their augmentation, and log-mels.

Where every epoch sees the same log-mels, they are prepared once, shared by all cells of a study as
a memory map. Where training changes the front end (the edges of its filters move) or the waveforms,
waveforms are prepared, and a front end makes log-mels of them batch by batch. Features that would
be too large are not prepared: the data set is read at each use.

Waveforms are augmented in the order of the reference code, before the log-mel: gain, then the crop
of a longer clip, then the circular shift, then the mixture with another clip augmented in the same
way (``audioset/dataset.py`` and ``fsd50k/dataset.py``; paper, section 3). The random numbers of a
clip are a pure function of seed, salt, epoch and its index: the same for any number of processes,
and after a kill.

Shapes: B batch, S samples per clip.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from passt_bench.console import Progress
from passt_bench.data.dataset import Dataset
from passt_bench.data.shared import SharedDataset
from passt_bench.models.frontend import draw_edges, frame_count, is_jittered, make_frontend
from passt_bench.models.patchout import philox
from passt_bench.records.files import writing
from passt_bench.spec.key import digest, key_fields
from passt_bench.spec.recipe import FrontendSpec, Recipe


class Streamed:
    """Waveforms that are read from the data set at each use, indexed like a `numpy.ndarray`.

    Args:
        shared: the data set, which other processes get from a file.
        samples: samples per clip.
    """

    def __init__(self, shared: SharedDataset, samples: int) -> None:
        self._shared, self._samples = shared, samples

    @property
    def dataset(self) -> Dataset:
        """The data set."""
        return self._shared.dataset

    @property
    def shape(self) -> tuple[int, int]:
        """(clips, samples)."""
        return len(self.dataset.ids), self._samples

    def __getitem__(self, clips: np.ndarray) -> np.ndarray:
        """Waveforms (clips, S) from their start, float32."""
        return np.stack([self.dataset.waveform(int(clip)) for clip in clips])


Waves = np.ndarray | Streamed


def length(waves: Waves, clip: int) -> int:
    """Samples of a whole clip."""
    samples: int = waves.shape[1]
    if isinstance(waves, Streamed):
        whole = waves.dataset.length(clip)
        return samples if whole is None else whole
    return samples


def excerpt(waves: Waves, clip: int, start: int) -> np.ndarray:
    """A waveform (S,) that begins at sample ``start`` of the clip."""
    if isinstance(waves, Streamed):
        return waves.dataset.excerpt(clip, start)
    if start:
        raise ValueError("stored waveforms begin at the start of their clips")
    stored: np.ndarray = waves[clip]
    return stored


_WAVE_STREAM = 0x3A7E  # keeps this random stream apart from others with the same seed


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
        waves: waveforms of the whole data set.
        labels: returns the labels of a clip, as an array that can be mixed.
        clips: indices, each at most once per epoch.
        train: indices of the training clips, from which a mixture's partner is drawn.
        recipe: strengths; augmentations that are off draw no random numbers.
        seed: seed of the run.
        epoch: epoch of the training.

    Returns:
        (B, samples) float32, and the labels of the clips, (B, …) float32.
    """
    training = recipe.training
    sounds, targets = [], []
    for clip in clips.tolist():
        random = philox(_WAVE_STREAM, seed, recipe.salt, epoch, clip)
        sound, target = _augment_wave(waves, clip, recipe, random), labels(clip)
        if training.wavmix and random.random() < training.wavmix:
            other = int(train[random.integers(len(train))])
            beta = random.beta(training.wavmix_alpha, training.wavmix_alpha)
            weight = np.float32(max(beta, 1 - beta))
            sound = mix(sound, _augment_wave(waves, other, recipe, random), weight)
            target = weight * target + (1 - weight) * labels(other)
        sounds.append(sound)
        targets.append(target)
    return np.stack(sounds), np.stack(targets).astype(np.float32)


def _augment_wave(
    waves: Waves, clip: int, recipe: Recipe, random: np.random.Generator
) -> np.ndarray:
    """One clip with random gain, crop and circular shift."""
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


def mix(one: np.ndarray, two: np.ndarray, weight: np.float32) -> np.ndarray:
    """Weighted sum of two waveforms, each mean-subtracted, and so is the mixture."""
    mixed = weight * (one - one.mean()) + (1 - weight) * (two - two.mean())
    result: np.ndarray = mixed - mixed.mean()
    return result


VERSION = 1  # raise when the features of unchanged settings change
MAX_BYTES = 16 << 30  # largest features that ``auto`` prepares
_BATCH = 50
_WAVES = "waveforms-"  # prefix of files of waveforms


class Waveforms:
    """Log-mels of clips by index, made at each use.

    Indexing makes those of evaluation, `training_logmels` those of a training step.

    Args:
        waves: (clips, samples), float32, stored or read from the data set.
        frontend: computes the log-mels.
    """

    def __init__(self, waves: Waves, frontend: FrontendSpec) -> None:
        self.waves, self._spec = waves, frontend
        self._net = make_frontend(frontend)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(clips, mels, frames)."""
        clips, samples = self.waves.shape
        spec = self._spec
        return clips, spec.mels, frame_count(spec, samples / spec.sampling_rate)

    def __getitem__(self, index: int | np.ndarray) -> np.ndarray:
        """Log-mel of one clip (mels, frames), or of several (clips, mels, frames)."""
        batch = logmels(self._net, self.waves[np.atleast_1d(index)])
        return batch[0] if np.ndim(index) == 0 else batch

    def training_logmels(self, waves: np.ndarray, seed: int, salt: int, step: int) -> np.ndarray:
        """Log-mels (B, mels, frames) of a training step's waveforms.

        Mel filter edges are drawn from seed, salt and step.
        """
        moving = is_jittered(self._spec)
        edges = draw_edges(self._spec, seed, salt, step) if moving else None
        return logmels(self._net, waves, edges)

    def __getstate__(self) -> dict[str, Any]:
        return {"waves": self.waves, "frontend": self._spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


Features = np.ndarray | Waveforms


@torch.no_grad()
def logmels(
    net: torch.nn.Module, waves: np.ndarray, edges: tuple[float, float] | None = None
) -> np.ndarray:
    """Log-mels (B, mels, frames) of waveforms (B, samples), with one thread.

    Log-mels prepared in one process must equal those made in another to the last bit.
    """
    with _one_thread():
        x = torch.from_numpy(np.array(waves, dtype=np.float32))
        batch: np.ndarray = net(x, edges).squeeze(1).numpy()
    return batch


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def keeps_waves(recipe: Recipe) -> bool:
    """Whether waveforms are prepared, because training changes them or the front end."""
    return is_jittered(recipe.frontend) or changes_waves(recipe)


def features_path(cache: Path, recipe: Recipe, fingerprint: str) -> Path:
    """The file that is prepared for a recipe's data and front end."""
    frontend, seconds = recipe.frontend, recipe.data.seconds
    if keeps_waves(recipe):
        name = digest([VERSION, fingerprint, frontend.sampling_rate, seconds])
        return cache / f"{_WAVES}{name}.npy"
    name = digest([VERSION, fingerprint, key_fields(frontend), seconds])
    return cache / f"features-{name}.npy"


def is_prepared(recipe: Recipe, clips: int, path: Path) -> bool:
    """Whether the features of a recipe are to be written, or the data set is read at each use.

    Args:
        recipe: ``data.storage`` says so; ``auto`` writes what is at most `MAX_BYTES` and leaves
            half of the disk's free space. Random parts of longer clips are always read.
        clips: clips of the data set.
        path: see `features_path`.
    """
    if recipe.data.crop == "random" or recipe.data.storage == "streamed":
        return False
    if recipe.data.storage == "prepared" or path.is_file():
        return True
    size = 4 * clips * int(np.prod(_inner(recipe.frontend, recipe.data.seconds, path)))
    folder = next(folder for folder in path.parents if folder.is_dir())
    return size <= min(MAX_BYTES, shutil.disk_usage(folder).free // 2)


def open_features(path: Path, recipe: Recipe, stream: Streamed) -> Features:
    """The features of a recipe: written by `prepare_features`, or read from the data set.

    Args:
        path: see `features_path`.
        recipe: recipe with the front end.
        stream: waveforms of the data set.
    """
    chosen = recipe.data.storage
    if recipe.data.crop == "random" or chosen == "streamed":
        return Waveforms(stream, recipe.frontend)
    if chosen == "prepared" or path.is_file():
        return load_features(path, recipe.frontend)
    return Waveforms(stream, recipe.frontend)


def load_features(path: Path, frontend: FrontendSpec) -> Features:
    """The features that `prepare_features` wrote."""
    stored: np.ndarray = np.load(path, mmap_mode="r")
    return Waveforms(stored, frontend) if path.name.startswith(_WAVES) else stored


def _inner(frontend: FrontendSpec, seconds: float, path: Path) -> tuple[int, ...]:
    """The shape of one clip's features in the file."""
    if path.name.startswith(_WAVES):
        return (round(seconds * frontend.sampling_rate),)
    return frontend.mels, frame_count(frontend, seconds)


def prepare_features(
    dataset: Dataset,
    frontend: FrontendSpec,
    seconds: float,
    path: Path,
    progress: Progress = lambda share, text: None,
) -> Path:
    """Writes the log-mel or the waveform of every clip, float32, unless the file exists.

    Args:
        dataset: source of the waveforms.
        frontend: computes the log-mels.
        seconds: clip length.
        path: see `features_path`; its name says whether log-mels or waveforms are written.
        progress: called with the share done and an empty text.

    Raises:
        InputError: a clip cannot be read.
        StorageError: the disk is full, or the file cannot be written.
    """
    if path.is_file():
        return path
    with writing(path) as file:
        _write(dataset, frontend, _inner(frontend, seconds, path), file, progress)
    return path


def _write(
    dataset: Dataset,
    frontend: FrontendSpec,
    inner: tuple[int, ...],
    file: BinaryIO,
    progress: Progress,
) -> None:
    """Writes an array in NumPy's format, batch by batch.

    Not through a memory map: on a full disk, that kills the process without a message.
    """
    clips = len(dataset.ids)
    net = make_frontend(frontend).eval()
    kind = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": kind, "fortran_order": False, "shape": (clips, *inner)}
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, clips, _BATCH):
        stop = min(start + _BATCH, clips)
        batch = np.stack([dataset.waveform(index) for index in range(start, stop)])
        if len(inner) == 2:
            batch = logmels(net, batch)
        file.write(np.ascontiguousarray(batch, dtype=np.float32).tobytes())
        progress(stop / clips, "")
