"""Computes the logits of clips, saves them meanwhile, and resumes where it was interrupted."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from passt_bench.console import Progress
from passt_bench.data import Dataset
from passt_bench.errors import InputError
from passt_bench.models.ensemble import Ensemble
from passt_bench.records.files import write_atomically
from passt_bench.training.engine import Engine

SAVE_SECONDS = 30.0


def score_clips(
    ensemble: Ensemble,
    dataset: Dataset,
    clips: np.ndarray,
    engine: Engine,
    batch: int,
    saved_at: Path,
    progress: Progress,
) -> tuple[np.ndarray, float | None]:
    """Logits (n, classes) of the clips at these indices, float32, and the seconds per clip.

    Logits are saved every half minute and at the end. The patches that the ensemble drops depend on
    a clip's place among ``clips``. The seconds are those of the clips that this call computed, None
    if all were saved before.
    """
    ensemble = ensemble.to(engine.device)
    engine.configure(ensemble)
    scores = np.zeros((len(clips), len(ensemble.classes)), dtype=np.float32)
    done = first = since = _resume(scores, saved_at)
    start = saved = time.monotonic()
    try:
        for waves in _batches(dataset, clips[done:], batch):
            net = partial(ensemble, first=done)
            logits = engine.infer(net, torch.from_numpy(waves)).cpu().numpy()
            wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
            if len(wrong):
                raise InputError(
                    "the model outputs NaN or infinity for this clip",
                    source="model",
                    field="clip",
                    value=dataset.ids[int(clips[done + wrong[0]])],
                    remedy="Check whether its training diverged.",
                )
            scores[done : done + len(logits)] = logits
            done += len(logits)
            progress(done / len(clips), f"{done} of {len(clips)} clips")
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(scores[:done], saved_at)
                saved, since = time.monotonic(), done
        seconds = time.monotonic() - start
    finally:
        if done > since:
            _save(scores[:done], saved_at)
    return scores, seconds / (done - first) if done > first else None


def _batches(dataset: Dataset, clips: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Yields waveforms (B, samples) and reads the next ones meanwhile."""

    def read(start: int) -> list[np.ndarray]:
        return [dataset.waveform(int(clip)) for clip in clips[start : start + batch]]

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(read, 0)
        for start in range(0, len(clips), batch):
            waves = coming.result()
            coming = pool.submit(read, start + batch)
            yield np.stack(waves)


def _save(scores: np.ndarray, path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, scores)
    write_atomically(path, buffer.getvalue())


def _resume(scores: np.ndarray, path: Path) -> int:
    """Loads the logits that an interrupted evaluation saved; returns their number."""
    try:
        known = np.load(path)
    except (OSError, ValueError, EOFError):
        return 0  # there is no file, or a broken one
    fits = known.ndim == 2 and known.shape[1] == scores.shape[1] and len(known) <= len(scores)
    scores[: len(known) if fits else 0] = known if fits else 0.0
    return len(known) if fits else 0
