"""Evaluation: logits of clips, metrics, and occlusion tests, which hide a part of the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from passt_bench.data.targets import Targets
from passt_bench.records.run import Fingerprint
from passt_bench.spec.recipe import EngineSpec
from passt_bench.training.batches import Slices, loading
from passt_bench.training.engine import Engine
from passt_bench.training.features import Features
from passt_bench.training.loss import Diverged
from passt_bench.training.metrics import PerClass, score, scored_note


def hide_frequency(x: torch.Tensor) -> torch.Tensor:
    """Replaces every row by the mean over frequency: removes spectral position, keeps timing.

    Args:
        x: log-mel (B, 1, mels, frames).
    """
    return x.mean(dim=2, keepdim=True).expand_as(x)


def hide_time(x: torch.Tensor) -> torch.Tensor:
    """Replaces every column by the mean over time: removes timing, keeps the mean spectrum.

    Args:
        x: log-mel (B, 1, mels, frames).
    """
    return x.mean(dim=3, keepdim=True).expand_as(x)


_BATCH = 50
_CPU = Engine(EngineSpec())
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
    notes: list[str] = field(
        default_factory=list
    )  # of metrics that scored only some of the classes


def predict(
    net: nn.Module,
    features: Features,
    indices: np.ndarray,
    engine: Engine = _CPU,
    change: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> np.ndarray:
    """Logits (n, classes) in float32 of the clips at ``indices``, without patchout.

    Args:
        net: model on the engine's device.
        features: features of the whole data set.
        indices: indices of the clips.
        engine: how the model is computed; its processes make log-mels that are not stored.
        change: applied to the log-mels.

    Raises:
        Diverged: some logits are not finite.
    """
    net.eval()
    engine.configure(net)
    logits = []
    slices = Slices(features, indices, _BATCH)
    stored = isinstance(features, np.ndarray)
    with loading(slices, range(len(slices)), 0 if stored else engine.spec.num_workers) as batches:
        for (logmels,) in batches:
            x = torch.from_numpy(logmels).unsqueeze(1)
            x = change(x) if change else x
            logits.append(engine.infer(net, x).cpu().numpy())
    scores = np.concatenate(logits)
    if not np.isfinite(scores).all():
        raise Diverged("the outputs of the trained model are not finite")
    return scores


def group_means(
    per_class: Mapping[str, float], groups: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """The mean over each class group, of the classes that were scored."""
    means = {}
    for group, classes in groups.items():
        values = [per_class[name] for name in classes if name in per_class]
        if values:
            means[group] = float(np.mean(values))
    return means


def evaluate(
    net: nn.Module,
    features: Features,
    targets: Targets,
    indices: np.ndarray,
    metrics: Sequence[str],
    fingerprint: Fingerprint,
    engine: Engine = _CPU,
) -> Evaluation:
    """Every metric on the clips; if the data define class groups, the occlusion tests as well.

    Args:
        net: model on the engine's device.
        features: features of the whole data set.
        targets: (clips, classes) of the whole data set.
        indices: indices of the clips to evaluate.
        metrics: registered names; occlusion tests use the first.
        fingerprint: fingerprint of the data set, with its classes and their groups.
        engine: how the model is computed.

    Raises:
        Diverged: the logits are not finite.
    """
    result, primary, rows = Evaluation(), metrics[0], targets[indices]

    def named(per_class: PerClass) -> dict[str, float]:
        return {fingerprint.classes[c]: value for c, value in per_class.items()}

    scores = predict(net, features, indices, engine)
    for metric in metrics:
        result.metrics[metric], per_class = score(metric, rows, scores)
        result.per_class[metric] = named(per_class)
        note = scored_note(metric, rows, fingerprint.classes)
        result.notes += [note] if note else []
    if not fingerprint.groups:
        return result
    scored = {"none": (result.metrics[primary], result.per_class[primary])}
    for name, change in OCCLUSIONS.items():
        value, per_class = score(primary, rows, predict(net, features, indices, engine, change))
        scored[name] = value, named(per_class)
    for name, (value, by_name) in scored.items():
        means = group_means(by_name, fingerprint.groups)
        result.occlusions[name] = {f"{primary}/{g}": v for g, v in means.items()}
        result.occlusions[name][primary] = value
    return result
