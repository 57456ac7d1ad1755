"""Log-mel features of a whole data set, computed once, shared by all cells as a memory map."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from passt_bench.data.dataset import Dataset
from passt_bench.models.frontend import LogMel, frame_count
from passt_bench.spec.key import decisive, digest
from passt_bench.spec.recipe import FrontendSpec, Recipe

VERSION = 1  # raise when the features of unchanged settings change
_BATCH = 50


def features_path(cache: Path, recipe: Recipe, fingerprint: str) -> Path:
    """Where the features of a recipe's data and front end lie."""
    name = digest([VERSION, fingerprint, decisive(recipe.frontend), recipe.data.seconds])
    return cache / f"features-{name}.npy"


def prepare_features(
    dataset: Dataset,
    frontend: FrontendSpec,
    seconds: float,
    path: Path,
    progress: Callable[[float], None] = lambda share: None,
) -> Path:
    """Writes the log-mel of every clip, shape (clips, mels, frames), float32, unless it is there.

    Args:
        dataset: where waveforms come from.
        frontend: the log-mel.
        seconds: clip length.
        path: see `features_path`.
        progress: called with the share done.
    """
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        _write(dataset, frontend, seconds, temporary, progress)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path


def _write(
    dataset: Dataset,
    frontend: FrontendSpec,
    seconds: float,
    path: Path,
    progress: Callable[[float], None],
) -> None:
    clips = len(dataset.ids)
    shape = (clips, frontend.mels, frame_count(frontend, seconds))
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    net = LogMel(frontend).eval()
    for start in range(0, clips, _BATCH):
        stop = min(start + _BATCH, clips)
        waves = np.stack([dataset.waveform(index) for index in range(start, stop)])
        with torch.no_grad():
            out[start:stop] = net(torch.from_numpy(waves)).squeeze(1).numpy()
        progress(stop / clips)
    out.flush()
