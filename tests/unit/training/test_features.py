"""Features kept as log-mels or as waveforms, and trainings that draw: exact to resume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.data.dataset import Dataset
from passt_bench.models import create_model
from passt_bench.models.frontend import draw_edges, make_frontend
from passt_bench.records.run import Fingerprint
from passt_bench.spec import FrontendSpec, ModelSpec, Recipe, TrainingSpec
from passt_bench.spec.recipe import DataSpec
from passt_bench.training.batches import augment
from passt_bench.training.evaluate import predict
from passt_bench.training.features import (
    Features,
    Waveforms,
    features_path,
    load_features,
    prepare_features,
)
from passt_bench.training.loop import train
from passt_bench.training.state import Progress, Task

STILL = FrontendSpec(sampling_rate=8000, n_fft=256, window=200, hop=80, mels=16, fmax=3500.0)
MOVING = replace(STILL, fmin_jitter=10, fmax_jitter=900)
CLIPS = 24


@dataclass(frozen=True)
class Noise(Dataset):
    """Noise, one seed a clip."""

    def split(self, fold: int | None) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(16), np.arange(16, CLIPS)

    def waveform(self, index: int) -> np.ndarray:
        return 0.1 * np.random.default_rng(index).standard_normal(4000).astype("f4")


def _prepared(folder: Path, frontend: FrontendSpec) -> Features:
    ids = tuple(str(number) for number in range(CLIPS))
    fingerprint = Fingerprint("noise", "noise", None, CLIPS, ("a", "b"), multi_label=False)
    dataset = Noise(fingerprint, ids, np.eye(2, dtype="f4")[np.arange(CLIPS) % 2], ids, ())
    recipe = Recipe(frontend=frontend, data=DataSpec(seconds=0.5))
    path = features_path(folder, recipe, "noise")
    assert prepare_features(dataset, frontend, 0.5, path) == path
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
    found = moving.drawn(waves, 0, 0, 3)
    edges = draw_edges(MOVING, 0, 0, 3)
    wanted = make_frontend(MOVING)(torch.from_numpy(waves), edges)
    np.testing.assert_array_equal(found, wanted.squeeze(1).numpy())
    np.testing.assert_array_equal(moving.drawn(waves, 0, 0, 3), found)
    assert (moving.drawn(waves, 0, 0, 4) != found).any()
    np.testing.assert_array_equal(Waveforms(waves, STILL).drawn(waves, 0, 0, 3), still[[1, 4]])


def test_masks_are_filled_and_narrower_than_asked_for() -> None:
    x = np.ones((200, 8, 30), dtype="f4")
    training = TrainingSpec(mask_time=5, mask_frequency=3)
    out, _ = augment(x, np.ones((200, 1)), training, 0, 0, 0, fill=0.25)
    masked = out[:, 0].numpy() == 0.25
    assert set(masked.all(axis=1).sum(axis=1)) == {0, 1, 2, 3, 4}
    assert set(masked.all(axis=2).sum(axis=1)) == {0, 1, 2}
    assert (out[:, 0].numpy()[~masked] == 1).all()


def _task(folder: Path, features: Features, model: str, frontend: FrontendSpec) -> Task:
    recipe = Recipe(
        model=ModelSpec(model),
        frontend=frontend,
        training=TrainingSpec(epochs=3, batch_size=8, mask_time=4, mixup=0.3),
    )
    targets = np.eye(2, dtype="f4")[np.arange(CLIPS) % 2]
    return Task("key", recipe, 5, features, targets, np.arange(16), folder)


class _Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("model", "options", "frontend"),
    [("cnn6", {"width": 2}, STILL), ("panns_micro", {"width": 2, "depth": 1}, MOVING)],
    ids=["dropout", "jitter"],
)
def test_a_training_that_draws_resumes_exactly(
    tmp_path: Path, model: str, options: dict[str, int], frontend: FrontendSpec
) -> None:
    torch.set_num_threads(1)
    features = _prepared(tmp_path / "cache", frontend)

    def fresh() -> torch.nn.Module:
        return create_model(model, 2, mels=16, frames=50, **options)

    torch.manual_seed(1)
    whole = fresh()
    expected = train(whole, _task(tmp_path / "a", features, model, frontend))

    def stop(progress: Progress) -> None:
        if progress.epoch == 2:
            raise _Stop

    task = replace(_task(tmp_path / "b", features, model, frontend), checkpoint_seconds=0.0)
    with pytest.raises(_Stop):
        train(fresh(), task, stop)
    torch.manual_seed(2)  # another process
    resumed = fresh()
    done = train(resumed, task)
    assert done.train_loss == expected.train_loss
    pairs = zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    scores = predict(resumed, features, np.arange(16, CLIPS))
    np.testing.assert_array_equal(scores, predict(whole, features, np.arange(16, CLIPS)))
