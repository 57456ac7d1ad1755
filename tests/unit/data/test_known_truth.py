"""A model trained on the scenes loses exactly what is hidden from it, and what it cannot know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.data import open_dataset
from passt_bench.data.dataset import Dataset
from passt_bench.models import from_recipe, initialize
from passt_bench.spec.recipe import (
    DataSpec,
    FrontendSpec,
    ModelSpec,
    Patchout,
    Recipe,
    TrainingSpec,
)
from passt_bench.training.evaluate import OCCLUSIONS, evaluate
from passt_bench.training.features import prepare_features
from passt_bench.training.loop import Task, train

CHANCE = 0.157  # mean prevalence: the average precision of a random order
# Patchout makes the training three times as fast; what is told apart by what stays the same.
RECIPE = Recipe(
    model=ModelSpec(name="passt_micro", patch=(8, 8), stride=(8, 8)),
    patchout=Patchout(kind="unstructured", rate=0.75),
    frontend=FrontendSpec(hop=250),
    data=DataSpec(name="synthetic"),
    training=TrainingSpec(epochs=8, batch_size=32, learning_rate=3e-3),
)
Groups = dict[str, float]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, np.ndarray]:
    data = open_dataset(RECIPE.data, RECIPE.frontend.sampling_rate, None)
    path = tmp_path_factory.mktemp("features") / "features.npy"
    return data, np.load(prepare_features(data, RECIPE.frontend, 1.0, path))


def groups_of(
    scenes: tuple[Dataset, np.ndarray], recipe: Recipe, folder: Path, encodings: bool
) -> dict[str, Groups]:
    """Probe → class group → mean average precision, after training."""
    data, features = scenes
    learn, test = data.split(None)
    net = from_recipe(recipe, data.targets.shape[1], features.shape[2])
    initialize(net, 0)
    if not encodings:
        for parameter in (net.freq_new_pos_embed, net.time_new_pos_embed):
            with torch.no_grad():
                parameter.zero_()
            parameter.requires_grad_(False)
    train(net, Task("k", recipe, 0, features, data.targets, learn, folder))
    found = evaluate(net, features, data.targets, test, ("mAP",), data.fingerprint)
    return {
        probe: {name.removeprefix("mAP/"): value for name, value in values.items()}
        for probe, values in found.occlusions.items()
    }


def test_hiding_takes_the_designed_classes(
    scenes: tuple[Dataset, np.ndarray], tmp_path: Path
) -> None:
    found = groups_of(scenes, RECIPE, tmp_path, encodings=True)
    seen, no_frequency, no_time = (found[p] for p in ("none", "hide_frequency", "hide_time"))
    assert min(seen["frequency"], seen["time"], seen["position"]) > 0.6
    assert no_frequency["frequency"] < CHANCE + 0.1
    assert no_frequency["time"] - CHANCE > 0.7 * (seen["time"] - CHANCE)
    assert no_frequency["position"] - CHANCE > 0.7 * (seen["position"] - CHANCE)
    assert no_time["frequency"] - CHANCE > 0.7 * (seen["frequency"] - CHANCE)
    assert no_time["time"] < CHANCE + 0.25 < seen["time"] - 0.3
    assert no_time["position"] < CHANCE + 0.1


def test_nothing_but_encodings_tells_places(
    scenes: tuple[Dataset, np.ndarray], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, training=replace(RECIPE.training, epochs=6))
    seen = groups_of(scenes, recipe, tmp_path, encodings=False)["none"]
    assert seen["time"] > 0.7  # it did learn
    # Which of three bursts, or of five bands, is a guess once it is known that there is one.
    assert seen["position"] < 0.5
    assert seen["frequency"] < 0.5


def test_what_the_probes_leave() -> None:
    x = torch.randn(2, 1, 5, 7)
    hide_frequency, hide_time = OCCLUSIONS.values()
    rows, columns = hide_frequency(x), hide_time(x)
    assert rows.shape == columns.shape == x.shape
    assert torch.allclose(rows[:, :, 0], x.mean(dim=2))
    assert torch.equal(rows[:, :, 0], rows[:, :, 4])
    assert torch.allclose(columns[..., 0], x.mean(dim=3))
    assert torch.equal(columns[..., 0], columns[..., 6])
    # An input that has nothing to hide stays as it is.
    assert torch.allclose(hide_frequency(rows), rows)
    assert torch.allclose(hide_time(columns), columns)
