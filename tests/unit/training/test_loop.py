"""Schedules of learning rate and patchout, what a step draws, and refused recipes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from passt_bench.errors import InputError
from passt_bench.models import create_model, draw_batch, resolve
from passt_bench.spec import Patchout, Recipe, TrainingSpec, override
from passt_bench.training.loop import (
    at_stage,
    check_labels,
    check_settings,
    learning_rate_at,
    ramp,
    stages,
    train,
)
from passt_bench.training.state import Task, copy_of

PUBLISHED = TrainingSpec(epochs=130, learning_rate=2e-5, schedule="ramp")
GRID = (8, 8)
MOST = Patchout("unstructured", rate=0.75, schedule="rising")
WEIGHTED = {"training.sampling": "weighted"}


def test_the_published_ramp() -> None:
    """Exponential warm-up, constant, linear decay, constant."""
    first = [ramp(PUBLISHED, epoch) for epoch in range(7)]
    assert first == pytest.approx([0.0174, 0.0408, 0.165, 0.449, 0.819, 1, 1], abs=5e-4)
    assert [ramp(PUBLISHED, epoch) for epoch in range(5, 51)] == [1] * 46
    assert ramp(PUBLISHED, 51) == pytest.approx(1 - 0.99 / 50)
    assert ramp(PUBLISHED, 75) == pytest.approx(0.01 + 0.99 / 2)
    assert [ramp(PUBLISHED, epoch) for epoch in (100, 101, 129)] == pytest.approx([0.01] * 3)
    other = replace(PUBLISHED, ramp_epochs=0, decay_start=0, decay_epochs=1, min_lr_ratio=0.5)
    assert [ramp(other, epoch) for epoch in range(3)] == [1, 0.5, 0.5]
    rates = [
        learning_rate_at(PUBLISHED, step, 390, 3) for step in range(9)
    ]  # constant within an epoch
    assert rates == [2e-5 * ramp(PUBLISHED, epoch) for epoch in (0, 0, 0, 1, 1, 1, 2, 2, 2)]


def test_the_cosine_rises_and_falls() -> None:
    training = TrainingSpec(epochs=10, learning_rate=1.0, warmup=0.1)
    rates = [learning_rate_at(training, step, 100, 10) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert learning_rate_at(replace(training, warmup=0.0), 0, 1, 1) == 1.0
    # With another number of steps the whole schedule stretches, whatever the epochs.
    longer = [learning_rate_at(training, step, 250, 10) for step in range(250)]
    assert longer.index(max(longer)) == 25 and longer[137] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("setting", "grid", "counts"),
    [
        (MOST, GRID, [64, 48, 32, 16]),
        (Patchout("block", patches=25, schedule="rising", stages=2), GRID, [64, 39]),
        # PaSST-S: 40 columns and 4 rows of 12 x 99, a third and two thirds of each.
        (
            Patchout("structured", time=40, frequency=4, schedule="rising"),
            (12, 99),
            [1188, (99 - 13) * (12 - 1), (99 - 27) * (12 - 3), 59 * 8],
        ),
        (
            Patchout("unstructured", patches=400, schedule="falling", stages=6),
            (12, 99),
            [788, 868, 948, 1028, 1108, 1188],
        ),
    ],
)
def test_every_stage_keeps_exactly(
    setting: Patchout, grid: tuple[int, int], counts: list[int]
) -> None:
    assert [resolve(stage, grid).kept for stage in stages(setting, grid)] == counts


@pytest.mark.parametrize("kind", ["unstructured", "time", "frequency", "structured", "block"])
def test_stages_go_from_no_patchout_to_the_setting(kind: str) -> None:
    full = Patchout(kind, rate=0.6, scope="sample")
    for number in range(2, 7):
        rising = stages(replace(full, schedule="rising", stages=number), GRID)
        assert len(rising) == number
        assert stages(replace(full, schedule="falling", stages=number), GRID) == rising[::-1]
        assert (rising[0], rising[-1]) == (Patchout(), full)
        assert draw_batch(rising[0], GRID, 0, 0, 2) is None  # bit for bit no patchout
        assert {stage.schedule for stage in rising} == {"constant"}


def test_stages_are_equal_shares_of_the_steps() -> None:
    settings = stages(MOST, GRID)
    for steps, shares in ((100, [25, 25, 25, 25]), (4, [1, 1, 1, 1]), (10, None)):
        seen = [settings.index(at_stage(MOST, GRID, step, steps)) for step in range(steps)]
        assert seen == sorted(seen)
        counts = np.bincount(seen).tolist()
        assert counts == shares if shares else set(counts) == {2, 3}
    constant = Patchout("time", rate=0.5)
    assert {at_stage(constant, GRID, step, 9) for step in range(9)} == {constant}


def test_a_step_draws_what_the_model_takes() -> None:
    """Offsets are uniform, and pure."""
    size = {"mels": 32, "frames": 64}
    net = create_model("passt_micro", 3, patch=8, stride=8, **size)

    def offsets(seed: int) -> list[int]:
        return [int(net.step_inputs(Patchout(), 40, seed, n, 2)["offset"]) for n in range(2000)]

    drawn = offsets(0)
    torch.manual_seed(3)
    assert drawn == offsets(0) != offsets(1)
    assert chisquare(np.bincount(drawn, minlength=4)).pvalue > 0.01
    setting = Patchout("time", time=2)
    short = net.step_inputs(setting, 40, 0, 0, 2)
    assert short["kept"].shape == (4 * 3,)  # of the 5 columns that the input has
    assert net.step_inputs(setting, 64, 0, 0, 2).keys() == {"kept"}
    cnn = create_model("panns_micro", 3, **size)
    assert cnn.step_inputs(Patchout(), 40, 0, 0, 2) == {"kept": None}
    with pytest.raises(InputError):
        cnn.step_inputs(setting, 40, 0, 0, 2)


def test_the_loop_goes_through_the_stages_and_passes_the_offset(tmp_path: Path) -> None:
    setting = replace(MOST, scope="sample")
    recipe = Recipe(patchout=setting, training=TrainingSpec(epochs=4, batch_size=8))
    random = np.random.default_rng(0)
    features = random.normal(size=(16, 32, 40)).astype("f4")
    targets = (random.random((16, 3)) < 0.3).astype("f4")
    runs = []
    for seed in (1, 2):  # of torch, which must not matter
        size = {"patch": 8, "stride": 8, "width": 16, "depth": 1, "heads": 2}
        net = create_model("passt_micro", 3, mels=32, frames=64, **size)
        seen: list[Mapping[str, Any]] = []
        net.register_forward_pre_hook(
            lambda net, words, more, seen=seen: seen.append(more), with_kwargs=True
        )
        torch.manual_seed(seed)
        task = Task("key", recipe, 5, features, targets, np.arange(16), tmp_path / str(seed))
        runs.append((train(net, task).progress.train_loss, copy_of(net), seen))
    (losses, weights, seen), (same, again, _) = runs
    shapes = [None if step["kept"] is None else tuple(step["kept"].shape) for step in seen]
    assert shapes == [None] * 2 + [(8, 15)] * 2 + [(8, 10)] * 2 + [(8, 5)] * 2
    offsets = {int(step["offset"]) for step in seen}
    assert offsets <= set(range(4)) and len(offsets) > 1
    assert losses == same
    assert all(torch.equal(weights[name], again[name]) for name in weights)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"engine.graph": True}, "engine.graph"),
        ({"engine.accumulate": 3}, "engine.accumulate"),  # batches of 32
        ({"engine.accumulate": 8, "training.batch_size": 120}, "engine.accumulate"),  # of 100
        ({"training.epochs": 6, "training.swa_start": 6}, "training.swa_start"),
        ({"training.eval_weights": "swa"}, "training.eval_weights"),
        ({"training.epoch_clips": 20}, "training.epoch_clips"),
        ({"training.epoch_clips": 101, **WEIGHTED}, "training.epoch_clips"),
        ({"patchout": MOST, "training.epochs": 3, "training.batch_size": 100}, "patchout.stages"),
        ({"training.steps": 99}, "training.steps"),
        ({"training.steps": 100, "training.schedule": "ramp"}, "training.steps"),
        ({"training.steps": 100, "training.swa_start": 1}, "training.steps"),
        ({"data.crop": "random", "data.storage": "prepared"}, "data.storage"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_trained_are_refused(changes: dict[str, Any], field: str) -> None:
    recipe = override(Recipe(), changes)
    with pytest.raises(InputError) as caught:
        check_settings(recipe, 100)
    value = operator.attrgetter(field)(recipe)
    assert (caught.value.field, caught.value.value) == (field, value)
    four = {"patchout": MOST, "training.epochs": 4, "training.batch_size": 100}
    every = {"training.epoch_clips": 100, **WEIGHTED}
    swa, steps = {"training.epochs": 6, "training.swa_start": 5}, {"training.steps": 100}
    for limits in (four, every, swa, steps):
        check_settings(override(Recipe(), limits), 100)


@pytest.mark.parametrize(
    ("label", "changes", "field", "value"),
    [
        (0, WEIGHTED, "training.sampling", "weighted"),
        (np.nan, {}, "training.loss", "bce"),
        (1, {"training.loss": "ce"}, "training.loss", "ce"),
    ],
    ids=["no label", "an unknown label", "two classes"],
)
def test_labels_need_a_recipe_that_can_use_them(
    label: float, changes: Mapping[str, Any], field: str, value: object
) -> None:
    targets = np.eye(3, dtype="f4")[np.arange(100) % 3]
    recipe = override(Recipe(), changes)
    check_labels(recipe, targets, np.arange(100))
    targets[5, [0, 2]] = label
    with pytest.raises(InputError) as caught:
        check_labels(recipe, targets, np.arange(100))
    assert (caught.value.field, caught.value.value) == (field, value)
    check_labels(recipe, targets, np.arange(10, 100))  # clips that are not trained on may be so
    labelled = np.flatnonzero((targets > 0.5).any(axis=1))
    check_labels(override(recipe, {"training.loss": "masked_bce"}), targets, labelled)
    with pytest.raises(InputError) as caught:
        check_labels(Recipe(), targets, np.arange(0))
    assert (caught.value.field, caught.value.value) == ("data.name", "synthetic")
    with pytest.raises(InputError, match="fewer than two classes"):
        check_labels(override(Recipe(), {"training.loss": "ce"}), targets[:, :1], labelled)
