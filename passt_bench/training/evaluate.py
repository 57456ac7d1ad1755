"""Evaluation: logits of clips, metrics, and occlusion tests, which hide a part of the input."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from passt_bench.console import Progress
from passt_bench.data import Dataset
from passt_bench.data.targets import Targets
from passt_bench.errors import InputError
from passt_bench.models.ensemble import Ensemble
from passt_bench.records.files import is_sealed, writing
from passt_bench.records.run import Fingerprint
from passt_bench.training.batches import load
from passt_bench.training.engine import CPU, Diverged, Engine
from passt_bench.training.features import Features, logmels
from passt_bench.training.metrics import score, scored_note

_BATCH = 50
SAVE_SECONDS = 30.0


def hide(axis: int, x: torch.Tensor) -> torch.Tensor:
    """Replaces all rows (axis 2) or columns (axis 3) of log-mels (B, 1, F, T) by their mean."""
    return x.mean(dim=axis, keepdim=True).expand_as(x)


# Tests that leave only timing, or only the mean spectrum.
OCCLUSIONS = {"hide_frequency": partial(hide, 2), "hide_time": partial(hide, 3)}


@dataclass
class Evaluation:
    """Metrics of a set of clips, see `records.run.RunRecord` for the fields."""

    metrics: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    occlusions: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # of metrics that scored only some classes


def predict(
    net: nn.Module,
    features: Features,
    indices: np.ndarray,
    engine: Engine = CPU,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> np.ndarray:
    """Logits (n, classes) in float32 of the clips at ``indices``, without patchout.

    The model is on the engine's device. Features are those of the whole data set; what is not
    stored is made by the engine's processes. ``change`` is applied to log-mels (B, 1, F, T).

    Raises:
        Diverged: some logits are not finite.
    """
    net.eval()
    engine.configure(net)
    logits, late = [], None
    make: Callable[[np.ndarray], Any] = features.__getitem__
    if engine.spec.frontend == "device" and not isinstance(features, np.ndarray):
        late, make = copy.deepcopy(features.net).to(engine.device), features.read
    parts = [indices[at : at + _BATCH] for at in range(0, len(indices), _BATCH)]
    workers = 0 if isinstance(features, np.ndarray) else engine.spec.num_workers
    with closing(load(make, parts, workers)) as batches:
        for batch in batches:
            x = engine.to_device(torch.as_tensor(batch))
            x = logmels(late, x) if late else x.unsqueeze(1)
            x = change(x) if change else x
            logits.append(engine.infer(net, x))
    scores = torch.cat(logits).cpu().numpy()
    if not np.isfinite(scores).all():
        raise Diverged("the outputs of the trained model are not finite")
    return scores


def evaluate(
    net: nn.Module,
    features: Features,
    targets: Targets,
    indices: np.ndarray,
    metrics: Sequence[str],
    fingerprint: Fingerprint,
    engine: Engine = CPU,
) -> Evaluation:
    """Every metric on the clips at ``indices``, see `predict`.

    If the data define class groups, the occlusion tests as well, with the first of the metrics.
    """
    result, primary, rows = Evaluation(), metrics[0], targets[indices]

    def scored(metric: str, scores: np.ndarray) -> tuple[float, dict[str, float]]:
        value, per_class = score(metric, rows, scores)
        return value, {fingerprint.classes[c]: of_class for c, of_class in per_class.items()}

    scores = predict(net, features, indices, engine)
    for metric in metrics:
        result.metrics[metric], result.per_class[metric] = scored(metric, scores)
        note = scored_note(metric, rows, fingerprint.classes)
        result.notes += [note] if note else []
    if not fingerprint.groups:
        return result
    tests = {"none": (result.metrics[primary], result.per_class[primary])}
    for name, change in OCCLUSIONS.items():
        tests[name] = scored(primary, predict(net, features, indices, engine, change))
    for name, (value, by_name) in tests.items():
        means = {}  # over the classes of a group that were scored
        for group, classes in fingerprint.groups.items():
            values = [by_name[label] for label in classes if label in by_name]
            if values:
                means[f"{primary}/{group}"] = float(np.mean(values))
        result.occlusions[name] = {**means, primary: value}
    return result


def score_clips(
    ensembles: Sequence[Ensemble],
    dataset: Dataset,
    clips: np.ndarray,
    engine: Engine,
    batch: int,
    saved_at: Sequence[Path],
    progress: Progress,
    begun: float = 0.0,
    part: float = 1.0,
) -> list[tuple[np.ndarray, float]]:
    """Scores the clips at these indices by each model; a clip is read once for all.

    Logits are saved every half minute, so that an interrupted call can be resumed. Which patches
    a model drops depends on a clip's place in ``clips``. The clips are a ``part`` of the progress,
    of which a share is done when they are ``begun``.

    Returns:
        For each model the logits (n, classes), float32, and the seconds per clip, front end
        included and reading excluded, of the clips that this call computed; 0 if there are none.
    """
    models = [ensemble.to(engine.device) for ensemble in ensembles]
    scores = [np.zeros((len(clips), len(model.classes)), dtype=np.float32) for model in models]
    done = first = since = min(map(_resume, scores, saved_at))
    seconds, saved = [0.0] * len(models), time.monotonic()
    for model in models:
        engine.configure(model)
    order = list(enumerate(models))
    try:
        for waves in _batches(dataset, clips[done:], batch):
            order.reverse()  # the first of a batch is slower, because the next clips are read then
            for number, model in order:
                start = time.perf_counter()
                net = partial(model, first=done)
                logits = engine.infer(net, torch.from_numpy(waves)).cpu().numpy()
                seconds[number] += time.perf_counter() - start
                wrong = np.flatnonzero(~np.isfinite(logits).all(axis=1))
                if len(wrong):
                    problem = "the model outputs NaN or infinity for this clip"
                    clip = dataset.ids[int(clips[done + wrong[0]])]
                    remedy = "Check whether its training diverged."
                    raise InputError(
                        problem, source="model", field="clip", value=clip, remedy=remedy
                    )
                scores[number][done : done + len(logits)] = logits
            done += len(waves)
            progress(begun + part * done / len(clips), f"{done} of {len(clips)} clips")
            if time.monotonic() - saved > SAVE_SECONDS:
                _save(scores, done, saved_at)
                saved, since = time.monotonic(), done
    finally:
        if done > since:
            _save(scores, done, saved_at)
    return [(of, s / max(1, done - first)) for of, s in zip(scores, seconds, strict=True)]


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


def _save(scores: Sequence[np.ndarray], done: int, paths: Sequence[Path]) -> None:
    for each, path in zip(scores, paths, strict=True):
        with writing(path, sealed=True) as file:
            np.save(file, each[:done])


def _resume(scores: np.ndarray, path: Path) -> int:
    """Loads the logits that an interrupted evaluation saved; returns their number."""
    if not is_sealed(path):
        return 0  # there is no file, or a damaged one, or one of another evaluation
    known = np.load(path)
    if known.ndim != 2 or known.shape[1] != scores.shape[1] or len(known) > len(scores):
        return 0
    scores[: len(known)] = known
    return len(known)
