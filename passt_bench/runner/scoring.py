"""Logits of many clips: read beside the computation, kept on the way, gone on with later."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from passt_bench.data.dataset import Dataset
from passt_bench.errors import InputError
from passt_bench.models.ensemble import Ensemble
from passt_bench.records.files import write_atomically

PARTIAL = "checkpoint.npy"  # logits of the first clips, beside where the record will stand
SAVE_SECONDS = 30.0

Progress = Callable[[float, str], None]


@torch.no_grad()
def score_clips(
    ensemble: Ensemble,
    dataset: Dataset,
    clips: np.ndarray,
    folder: Path,
    batch: int,
    device: str = "cpu",
    progress: Progress = lambda share, text: None,
) -> np.ndarray:
    """Logits of clips, from wherever an interrupted run stopped.

    At most two batches of waveforms are in memory; the next is read while one is computed.

    Args:
        ensemble: one model or several.
        dataset: at the ensemble's sampling rate and clip length.
        clips: indices.
        folder: keeps the logits of the first clips, every half minute and when interrupted.
        batch: clips at a time.
        device: where to compute.
        progress: told the share done.

    Returns:
        (n, classes), float32.

    Raises:
        InputError: a clip cannot be read, or has logits that are not finite.
        StorageError: nothing can be written.
    """
    ensemble = ensemble.to(device)
    scores = np.zeros((len(clips), len(ensemble.classes)), dtype=np.float32)
    done = _resume(scores, folder / PARTIAL)
    saved, since = time.monotonic(), done
    try:
        for waves in _batches(dataset, clips[done:], batch):
            x = torch.from_numpy(waves).to(device)
            logits = ensemble(x).float().cpu().numpy()
            _check(logits, dataset, clips[done : done + len(logits)])
            scores[done : done + len(logits)] = logits
            done += len(logits)
            progress(done / len(clips), f"{done} of {len(clips)} clips")
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(scores[:done], folder / PARTIAL)
                saved, since = time.monotonic(), done
    except BaseException:
        if done > since:
            _save(scores[:done], folder / PARTIAL)
        raise
    return scores


def _batches(dataset: Dataset, clips: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Waveforms (B, samples), the next ones read meanwhile."""

    def read(start: int) -> np.ndarray:
        return np.stack([dataset.waveform(int(i)) for i in clips[start : start + batch]])

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(read, 0) if len(clips) else None
        for start in range(0, len(clips), batch):
            assert coming is not None  # submitted before
            waves = coming.result()
            if start + batch < len(clips):
                coming = pool.submit(read, start + batch)
            yield waves


def _check(logits: np.ndarray, dataset: Dataset, clips: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
    if len(wrong):
        raise InputError(
            "the model answers a clip with numbers that are not finite",
            source="checkpoint",
            field="clip",
            value=dataset.ids[int(clips[wrong[0]])],
            remedy="Give weights that were trained to an end.",
        )


def _save(scores: np.ndarray, path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, scores)
    write_atomically(path, buffer.getvalue())


def _resume(scores: np.ndarray, path: Path) -> int:
    """Takes what an interrupted run has left; how many clips these are."""
    if not path.is_file():
        return 0
    try:
        known = np.load(path)
    except (OSError, ValueError, EOFError):
        return 0  # a broken file is as good as none
    if known.ndim != 2 or known.shape[1] != scores.shape[1] or len(known) > len(scores):
        return 0
    scores[: len(known)] = known
    return len(known)
