"""The features of a whole data set: prepared once, shared by all cells as a memory map.

Where every epoch sees the same log-mels, they are kept. Where training changes the front end (the
edges of its filters move), waveforms are kept, and a front end makes log-mels of them a batch at a
time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from passt_bench.data.dataset import Dataset
from passt_bench.files import storing
from passt_bench.models.frontend import draw_edges, frame_count, is_jittered, make_frontend
from passt_bench.spec.key import decisive, digest
from passt_bench.spec.recipe import FrontendSpec, Recipe

VERSION = 1  # raise when the features of unchanged settings change
_BATCH = 50


class Waveforms:
    """Log-mels of clips by index, made when they are asked for.

    Indexing gives those of evaluation, `drawn` those of a training step.

    Args:
        waves: (clips, samples), float32.
        frontend: made of them.
    """

    def __init__(self, waves: np.ndarray, frontend: FrontendSpec) -> None:
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
        found = self._logmel(self.waves[np.atleast_1d(index)])
        return found[0] if np.ndim(index) == 0 else found

    def drawn(self, clips: np.ndarray, seed: int, salt: int, step: int) -> np.ndarray:
        """Log-mels (B, mels, frames) of a training step: a pure function of its arguments."""
        edges = draw_edges(self._spec, seed, salt, step)
        return self._logmel(self.waves[clips], edges)

    @torch.no_grad()
    def _logmel(self, waves: np.ndarray, edges: tuple[float, float] | None = None) -> np.ndarray:
        x = torch.from_numpy(np.array(waves, dtype=np.float32))
        logmel: np.ndarray = self._net(x, edges).squeeze(1).numpy()
        return logmel


Features = np.ndarray | Waveforms


def training_features(
    features: Features, clips: np.ndarray, seed: int, salt: int, step: int
) -> np.ndarray:
    """Log-mels (B, mels, frames) of a training step's clips."""
    if isinstance(features, Waveforms):
        return features.drawn(clips, seed, salt, step)
    return features[clips]


def features_path(cache: Path, recipe: Recipe, fingerprint: str) -> Path:
    """Where what is prepared for a recipe's data and front end lies."""
    frontend, seconds = recipe.frontend, recipe.data.seconds
    if is_jittered(frontend):
        name = digest([VERSION, fingerprint, frontend.sampling_rate, seconds])
        return cache / f"waveforms-{name}.npy"
    name = digest([VERSION, fingerprint, decisive(frontend), seconds])
    return cache / f"features-{name}.npy"


def load_features(path: Path, frontend: FrontendSpec) -> Features:
    """What `prepare_features` wrote, as features."""
    stored: np.ndarray = np.load(path, mmap_mode="r")
    return Waveforms(stored, frontend) if is_jittered(frontend) else stored


def prepare_features(
    dataset: Dataset,
    frontend: FrontendSpec,
    seconds: float,
    path: Path,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Writes the log-mel or the waveform of every clip, float32, unless it is there.

    Args:
        dataset: where waveforms come from.
        frontend: the log-mel; where it is jittered, waveforms are written.
        seconds: clip length.
        path: see `features_path`.
        progress: called with the share done.

    Raises:
        InputError: a clip cannot be read.
        StorageError: the disk is full, or nothing can be written there.
    """
    if path.is_file():
        return path
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                _write(dataset, frontend, seconds, file, progress)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


def _write(
    dataset: Dataset,
    frontend: FrontendSpec,
    seconds: float,
    file: BinaryIO,
    progress: Callable[[float], None],
) -> None:
    """Writes an array of NumPy's format, batch by batch.

    Not through a memory map: where the disk is full, that kills the process without a word.
    """
    clips = len(dataset.ids)
    net = make_frontend(frontend).eval()
    keep_waves = is_jittered(frontend)
    inner: tuple[int, ...] = (frontend.mels, frame_count(frontend, seconds))
    if keep_waves:
        inner = (round(seconds * frontend.sampling_rate),)
    kind = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    header = {"descr": kind, "fortran_order": False, "shape": (clips, *inner)}
    np.lib.format.write_array_header_1_0(file, header)
    for start in range(0, clips, _BATCH):
        stop = min(start + _BATCH, clips)
        batch = np.stack([dataset.waveform(index) for index in range(start, stop)])
        if not keep_waves:
            with torch.no_grad():
                batch = net(torch.from_numpy(batch)).squeeze(1).numpy()
        file.write(np.ascontiguousarray(batch, dtype=np.float32).tobytes())
        progress(stop / clips)
    file.flush()
    os.fsync(file.fileno())
