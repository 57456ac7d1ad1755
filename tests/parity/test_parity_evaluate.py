"""`evaluate` against scikit-learn on what the authors' package answers to the same files."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import peers
import pytest
import soundfile
import torch
from frontend_cases import FrontendCase
from sklearn.metrics import average_precision_score, roc_auc_score

from passt_bench.published_weights import PUBLISHED
from passt_bench.runner.evaluation import evaluate_checkpoints

SECONDS, CLIPS = 10, 12


def official(stride: int, seed: int) -> Any:
    net = peers.official_passt(527, stride=stride, depth=2)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=random)
    return net


def answers(net: Any, waves: np.ndarray) -> np.ndarray:
    """Logits (clips, classes) by the authors' front end and model, a clip at a time."""
    mel = peers.official_frontend(FrontendCase("passt", "files")).eval()
    with torch.no_grad(), peers.quiet():
        rows = [net(mel(torch.from_numpy(wave)[None])[:, None])[0][0].numpy() for wave in waves]
    return np.stack(rows)


@pytest.mark.parametrize(
    ("names", "published"),
    [
        (["passt_s_swa_p16_128_ap476"], 0.476),
        (["passt_s_swa_p16_s14_128_ap471", "passt_s_swa_p16_s16_128_ap473"], 0.486),
    ],
)
def test_the_metric_is_scikit_learns_on_the_authors_answers(
    names: list[str], published: float, tmp_path: Path
) -> None:
    counts = {"balanced_train": 2, "unbalanced_train": 2, "eval": CLIPS}
    data = layouts.write_audioset_folder(tmp_path / "data", counts, ending="wav", seconds=SECONDS)
    clips = data.of("eval")
    waves = [soundfile.read(clip.path, dtype="float32")[0] for clip in clips]
    files, logits = [], []
    for seed, name in enumerate(names):
        entry = PUBLISHED[name]
        assert entry.stride is not None
        net = official(entry.stride, seed)
        files.append(tmp_path / entry.file)
        torch.save(net.state_dict(), files[-1])
        logits.append(answers(net, np.stack(waves)))
    mean, targets = np.mean(logits, axis=0), data.targets("eval")

    record, _ = evaluate_checkpoints(
        [str(path) for path in files],
        f"audioset={data.root}",
        tmp_path / "runs",
        metrics=("mAP_official", "mAP", "AUC", "dprime"),
        batch=5,
    )

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without positives
        official_mean = average_precision_score(targets, mean, average=None).mean()
    mixed = [c for c in range(527) if targets[:, c].any() and not targets[:, c].all()]
    area = np.mean([roc_auc_score(targets[:, c], mean[:, c]) for c in mixed])
    gaps = np.diff(np.sort(mean[:, mixed], axis=0), axis=0)
    assert gaps.min() > 1e-6, "answers too close together to rank: give other weights"
    assert 0.1 < area < 0.9
    assert record.clips == CLIPS
    assert record.metrics["mAP_official"] == pytest.approx(official_mean, abs=1e-6)
    assert record.metrics["mAP"] == pytest.approx(official_mean * 527 / len(mixed), abs=1e-6)
    assert record.metrics["AUC"] == pytest.approx(area, abs=1e-6)
    normal = math.sqrt(2) * torch.special.ndtri(torch.tensor(area, dtype=torch.float64)).item()
    assert record.metrics["dprime"] == pytest.approx(normal, abs=1e-6)
    stated = record.published_of("mAP_official")
    assert stated is not None
    assert stated.value == published
