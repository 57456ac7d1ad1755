"""Log-mels that are cached or made at each use; trainings that draw are exact to resume."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_clips import CLIPS, RATE, SAMPLES, labels, open_noise
from small_training import equal, make_task, stopped, trained

from passt_bench.models import create_model
from passt_bench.models.frontend import draw_edges, make_frontend
from passt_bench.spec import DataSpec, FrontendSpec, Patchout, Recipe, TrainingSpec, override
from passt_bench.training.features import (
    Features,
    Waveforms,
    features_path,
    fits_cache,
    logmels,
    open_features,
    prepare_features,
)
from passt_bench.training.state import Task, copy_of

STILL = FrontendSpec(sampling_rate=RATE, n_fft=256, window=200, hop=80, mels=16, fmax=3500.0)
MOVING = replace(STILL, fmin_jitter=10, fmax_jitter=900)


SECONDS = SAMPLES / RATE


def _recipe(frontend: FrontendSpec = STILL, **changes: Any) -> Recipe:
    base = Recipe(frontend=frontend, data=DataSpec(seconds=SECONDS))
    return override(base, {name.replace("_", ".", 1): value for name, value in changes.items()})


def _opened(folder: Path, recipe: Recipe) -> Features:
    path = features_path(folder, recipe, "noise")
    if path is not None:
        assert prepare_features(open_noise(), recipe.frontend, SECONDS, path) == path
    return open_features(path, recipe, open_noise())


def test_cached_and_streamed_log_mels_are_the_same(tmp_path: Path) -> None:
    cached = _opened(tmp_path, _recipe())
    assert isinstance(cached, np.ndarray)
    some = np.array([3, 20, 3])
    for recipe in (_recipe(data_storage="streamed"), _recipe(MOVING)):
        made = _opened(tmp_path, recipe)  # in evaluation no edges move
        assert isinstance(made, Waveforms)
        assert made.shape == cached.shape == (CLIPS, 16, 50)
        np.testing.assert_array_equal(made[5], cached[5])
        for found in (made, pickle.loads(pickle.dumps(made))):
            np.testing.assert_array_equal(found[some], cached[some])
    assert len(list(tmp_path.iterdir())) == 1
    wave = torch.from_numpy(open_noise().waveform(9)[None])
    expected = make_frontend(STILL).eval()(wave)[0, 0]
    np.testing.assert_allclose(cached[9], expected, atol=1e-5)


def test_training_moves_the_filters_of_a_batch(tmp_path: Path) -> None:
    still, moving = _opened(tmp_path, _recipe()), _opened(tmp_path, _recipe(MOVING))
    fixed = _opened(tmp_path, _recipe(data_storage="streamed"))
    assert isinstance(moving, Waveforms) and isinstance(fixed, Waveforms)
    waves = moving.read(np.array([1, 4]))
    net = make_frontend(MOVING)
    filters = moving.filters(0, 0, 3)
    assert torch.equal(filters, net.banks(*draw_edges(MOVING, 0, 0, 3)))
    assert torch.equal(logmels(moving.net, waves, filters), net(waves, filters))
    assert not torch.equal(filters, moving.filters(0, 0, 4))
    assert torch.equal(fixed.filters(0, 0, 3), make_frontend(STILL).filters)
    np.testing.assert_array_equal(logmels(fixed.net, waves).squeeze(1), still[[1, 4]])


def test_what_can_be_cached_and_is_small_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {
        features_path(tmp_path, recipe, digest)
        for recipe in (
            _recipe(), _recipe(replace(STILL, mels=32)), _recipe(replace(STILL, sampling_rate=9000))
        )
        for digest in ("noise", "other")
    }  # fmt: skip
    assert len(paths) == 6 and None not in paths
    for recipe in (
        _recipe(MOVING), _recipe(training_gain=7), _recipe(training_shift=1),
        _recipe(training_wavmix=0.5), _recipe(data_crop="random"), _recipe(data_storage="streamed"),
    ):  # fmt: skip
        assert features_path(tmp_path, recipe, "noise") is None
    cache = tmp_path / "new" / "cache"
    assert fits_cache(_recipe(), CLIPS, cache)
    monkeypatch.setattr("passt_bench.training.features.MAX_BYTES", 4 * 16 * 50 * CLIPS - 1)
    assert not fits_cache(_recipe(), CLIPS, cache)
    assert fits_cache(_recipe(), CLIPS - 1, cache)
    assert fits_cache(_recipe(data_storage="prepared"), CLIPS, cache)


@pytest.mark.parametrize(
    ("model", "options", "frontend"),
    [("cnn6", {"width": 2}, STILL), ("panns_micro", {"width": 2, "depth": 1}, MOVING)],
    ids=["dropout", "jitter"],
)
def test_a_training_that_draws_resumes_exactly(
    tmp_path: Path, model: str, options: dict[str, int], frontend: FrontendSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    features = _opened(tmp_path / "cache", _recipe(frontend))
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
        prepare_features(open_noise(), STILL, SECONDS, path, stop)
    assert not list(path.parent.iterdir())


def test_damaged_features_are_made_again(tmp_path: Path) -> None:
    path, other = (tmp_path / "cache" / f"features-{name}.npy" for name in "ab")
    prepare_features(open_noise(), replace(STILL, mean=0.0), SECONDS, other)
    whole = prepare_features(open_noise(), STILL, SECONDS, path).read_bytes()
    half = whole[: len(whole) // 2]
    for damaged in (half, half + bytes(len(whole) - len(half)), b"", other.read_bytes()):
        path.write_bytes(damaged)
        assert prepare_features(open_noise(), STILL, SECONDS, path).read_bytes() == whole
