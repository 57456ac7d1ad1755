"""Features kept as log-mels or as waveforms, and trainings that draw: exact to resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from noise_clips import CLIPS, RATE, SAMPLES, labels, open_noise
from small_training import equal, make_task, stopped, trained

from passt_bench.models import create_model
from passt_bench.models.frontend import draw_edges, make_frontend
from passt_bench.spec import DataSpec, FrontendSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.features import (
    Features,
    Waveforms,
    features_path,
    load_features,
    prepare_features,
)
from passt_bench.training.state import Task, copy_of

STILL = FrontendSpec(sampling_rate=RATE, n_fft=256, window=200, hop=80, mels=16, fmax=3500.0)
MOVING = replace(STILL, fmin_jitter=10, fmax_jitter=900)


def _prepared(folder: Path, frontend: FrontendSpec) -> Features:
    recipe = Recipe(frontend=frontend, data=DataSpec(seconds=SAMPLES / RATE))
    path = features_path(folder, recipe, "noise")
    assert prepare_features(open_noise(), frontend, SAMPLES / RATE, path) == path
    return load_features(path, frontend)


def test_waveforms_are_kept_where_filters_move(tmp_path: Path) -> None:
    still, moving = _prepared(tmp_path, STILL), _prepared(tmp_path, MOVING)
    assert isinstance(still, np.ndarray)
    assert isinstance(moving, Waveforms)
    assert moving.shape == still.shape == (CLIPS, 16, 50)
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"features", "waveforms"}
    some = np.array([3, 20, 3])
    np.testing.assert_array_equal(moving[some], still[some])  # evaluation: nothing moves
    np.testing.assert_array_equal(moving[5], still[5])


def test_another_jitter_shares_the_waveforms(tmp_path: Path) -> None:
    def name(frontend: FrontendSpec) -> str:
        return features_path(tmp_path, Recipe(frontend=frontend), "noise").name

    assert name(MOVING) == name(replace(MOVING, fmax_jitter=100, mels=32))
    assert name(MOVING) != name(replace(MOVING, sampling_rate=16000))
    assert name(STILL) != name(replace(STILL, mels=32))


def test_training_moves_the_filters_of_a_batch(tmp_path: Path) -> None:
    still, moving = _prepared(tmp_path, STILL), _prepared(tmp_path, MOVING)
    assert isinstance(moving, Waveforms)
    waves = moving.waves[np.array([1, 4])]
    found = moving.training_logmels(waves, 0, 0, 3)
    edges = draw_edges(MOVING, 0, 0, 3)
    wanted = make_frontend(MOVING)(torch.from_numpy(waves), edges)
    np.testing.assert_array_equal(found, wanted.squeeze(1).numpy())
    np.testing.assert_array_equal(moving.training_logmels(waves, 0, 0, 3), found)
    assert (moving.training_logmels(waves, 0, 0, 4) != found).any()
    np.testing.assert_array_equal(
        Waveforms(waves, STILL).training_logmels(waves, 0, 0, 3), still[[1, 4]]
    )


@pytest.mark.parametrize(
    ("model", "options", "frontend"),
    [("cnn6", {"width": 2}, STILL), ("panns_micro", {"width": 2, "depth": 1}, MOVING)],
    ids=["dropout", "jitter"],
)
def test_a_training_that_draws_resumes_exactly(
    tmp_path: Path, model: str, options: dict[str, int], frontend: FrontendSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    features = _prepared(tmp_path / "cache", frontend)
    training = TrainingSpec(epochs=3, batch_size=8, mask_time=4, mixup=0.3)

    def fresh() -> torch.nn.Module:
        return create_model(model, labels().shape[1], mels=16, frames=50, **options)

    def task(folder: str) -> Task:
        data = {"features": features, "targets": labels(), "train": np.arange(16)}
        made = make_task(tmp_path / folder, training, Patchout(), **data)
        made.recipe = replace(made.recipe, frontend=frontend)
        return made

    torch.manual_seed(1)
    whole = trained(task("a"), fresh())
    stopped(monkeypatch, 5, task("b"), fresh())
    torch.manual_seed(2)  # another process
    resumed = trained(task("b"), fresh())
    assert resumed.progress.train_loss == whole.progress.train_loss
    assert equal(copy_of(whole.net), copy_of(resumed.net))


def test_features_of_an_interrupted_preparation_are_not_kept(tmp_path: Path) -> None:
    def stop(share: float, text: str) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "cache" / "features.npy"
    with pytest.raises(KeyboardInterrupt):
        prepare_features(open_noise(), STILL, SAMPLES / RATE, path, stop)
    assert not list(path.parent.iterdir())
    data = open_noise()
    prepare_features(data, STILL, SAMPLES / RATE, path)
    wave = torch.from_numpy(data.waveform(9)[None])
    expected = make_frontend(STILL).eval()(wave)[0, 0]
    np.testing.assert_allclose(np.load(path)[9], expected, atol=1e-5)
