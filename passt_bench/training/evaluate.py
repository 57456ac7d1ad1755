"""Evaluation: logits of clips, metrics, and occlusion tests, which hide a part of the input."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from passt_bench.data.targets import Targets
from passt_bench.records.run import Fingerprint
from passt_bench.training.batches import load
from passt_bench.training.engine import CPU, Diverged, Engine
from passt_bench.training.features import Features, logmels
from passt_bench.training.metrics import score, scored_note


def hide_frequency(x: torch.Tensor) -> torch.Tensor:
    """Replaces every row of log-mels by the mean over frequency: keeps only timing."""
    return x.mean(dim=2, keepdim=True).expand_as(x)


def hide_time(x: torch.Tensor) -> torch.Tensor:
    """Replaces every column of log-mels by the mean over time: keeps only the mean spectrum."""
    return x.mean(dim=3, keepdim=True).expand_as(x)


_BATCH = 50
OCCLUSIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "hide_frequency": hide_frequency,
    "hide_time": hide_time,
}


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

    Args:
        net: model on the engine's device.
        features: features of the whole data set; those that are not stored are made by the
            engine's processes.
        indices: indices of the clips.
        engine: how the model is computed.
        change: applied to the log-mels (B, 1, mels, frames).

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
