"""Which clips an epoch has: weights by hand, shares against their truth, refusals."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from passt_bench.data.targets import PackedTargets
from passt_bench.errors import InputError
from passt_bench.spec import DataSpec, Recipe, TrainingSpec
from passt_bench.training.batches import Sampler, clip_weights, epoch_steps
from passt_bench.training.loop import check_training

WEIGHTED = TrainingSpec(batch_size=4, sampling="weighted", epoch_clips=20)
RANDOM = np.random.default_rng(0)


def _targets(clips: int = 300, classes: int = 11) -> np.ndarray:
    targets = (RANDOM.random((clips, classes)) < np.linspace(0.02, 0.6, classes)).astype("f4")
    targets[~targets.any(axis=1), 0] = 1
    return targets


def test_weights_by_hand() -> None:
    targets = np.array([[1, 0], [1, 1], [0, 1], [1, 0]], dtype="f4")
    train = np.array([0, 1, 3])  # counts 3 and 1: clip 2 is not trained on
    one, two = 1000 / 103, 1000 / 101
    assert clip_weights(targets, train) == pytest.approx([one, one + two, one])
    targets[0, 1] = np.nan  # nobody knows
    assert clip_weights(targets, train) == pytest.approx([one, one + two, one])


def test_packed_targets_weigh_the_same() -> None:
    targets, train = _targets(20_000), np.arange(5, 20_000)
    packed = PackedTargets(np.packbits(targets.astype("u1"), axis=1), targets.shape[1])
    np.testing.assert_array_equal(clip_weights(packed, train), clip_weights(targets, train))


def test_an_epoch_sees_each_clip_once() -> None:
    clips, training, none = np.arange(100, 164), TrainingSpec(batch_size=16), np.zeros((200, 1))
    sampler = Sampler(training, none, clips, 0, 0)
    assert sampler.steps == 4
    seen = np.concatenate([sampler.clips(step) for step in range(4)])
    again = np.concatenate([sampler.clips(step) for step in range(4, 8)])
    assert sorted(seen) == sorted(again) == clips.tolist()
    assert (seen != again).any()
    other = Sampler(training, none, clips, 0, 1)
    assert (seen != np.concatenate([other.clips(step) for step in range(4)])).any()
    assert len(Sampler(training, none, clips[:3], 0, 0).clips(0)) == 3


def test_an_epoch_has_no_clip_twice_and_is_drawn_anew() -> None:
    targets, train = _targets(), np.arange(100, 300)
    sampler = Sampler(WEIGHTED, targets, train, 3, 0)
    assert sampler.steps == 5 == epoch_steps(WEIGHTED, len(train))
    epochs = [
        np.concatenate([sampler.clips(epoch * 5 + step) for step in range(5)]) for epoch in range(4)
    ]
    for clips in epochs:
        assert len(set(clips.tolist())) == 20
        assert set(clips) <= set(train)
    assert len({tuple(sorted(clips)) for clips in epochs}) == 4
    again = Sampler(WEIGHTED, targets, train, 3, 0)  # from any step on, as after a kill
    np.testing.assert_array_equal(again.clips(17), epochs[3][8:12])
    for other in (Sampler(WEIGHTED, targets, train, 4, 0), Sampler(WEIGHTED, targets, train, 3, 1)):
        assert (other.clips(0) != epochs[0][:4]).any()


def test_the_first_draw_is_as_likely_as_its_weight() -> None:
    targets = np.zeros((6, 3), dtype="f4")
    targets[[0, 1, 2, 3, 4, 5], [0, 1, 1, 2, 2, 2]] = 1
    targets[0, 1:] = 1
    training, train = replace(WEIGHTED, epoch_clips=1, batch_size=1), np.arange(6)
    sampler = Sampler(training, targets, train, 0, 0)
    epochs = 6000
    seen = np.bincount([sampler.clips(step)[0] for step in range(epochs)], minlength=6) / epochs
    weights = clip_weights(targets, train)
    expected = weights / weights.sum()
    assert (abs(seen - expected) < 4 * np.sqrt(expected / epochs)).all()
    assert expected[0] > 2.5 * expected[1]  # else the test could not tell


def test_all_clips_are_there_without_a_number() -> None:
    training = replace(WEIGHTED, epoch_clips=None, batch_size=30)
    sampler = Sampler(training, _targets(), np.arange(90), 0, 0)
    clips = np.concatenate([sampler.clips(step) for step in range(3)])
    assert sorted(clips) == list(range(90))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"epoch_clips": 101}, "training.epoch_clips = 101"),
        ({"sampling": "shuffle"}, "training.epoch_clips = 20"),
    ],
)
def test_epochs_that_cannot_be(changes: dict[str, object], field: str) -> None:
    training = replace(WEIGHTED, **changes)  # type: ignore[arg-type]
    recipe = Recipe(training=training)
    with pytest.raises(InputError, match=field):
        check_training(recipe, _targets(), np.arange(100))
    with pytest.raises(InputError, match=field):
        Sampler(training, _targets(), np.arange(100), 0, 0)


def test_clips_that_could_never_be_drawn_are_refused() -> None:
    targets = _targets()
    targets[[3, 7]] = 0
    with pytest.raises(InputError, match="2 of 100 training clips have no label"):
        check_training(Recipe(training=WEIGHTED), targets, np.arange(100))
    check_training(Recipe(training=WEIGHTED), targets, np.arange(10, 100))


def test_labels_that_nobody_knows_need_their_loss() -> None:
    targets = _targets()
    targets[5, 2] = np.nan
    recipe = Recipe(training=TrainingSpec())
    with pytest.raises(InputError, match="training.loss = 'bce': some labels"):
        check_training(recipe, targets, np.arange(100))
    check_training(recipe, targets, np.arange(10, 100))
    masked = replace(recipe, training=TrainingSpec(loss="masked_bce"))
    check_training(masked, targets, np.arange(100))


def test_random_parts_are_not_prepared() -> None:
    recipe = Recipe(data=DataSpec(crop="random", storage="prepared"))
    with pytest.raises(InputError, match="data.storage = 'prepared'"):
        check_training(recipe, _targets(), np.arange(100))


def test_two_million_clips_are_weighed_in_blocks() -> None:
    clips, classes = 2_000_000, 64
    packed = np.zeros((clips, classes // 8), dtype="u1")
    packed[np.arange(clips), np.arange(clips) % 8] = 128
    targets, train = PackedTargets(packed, classes), np.arange(clips)
    tracemalloc.start()
    weights = clip_weights(targets, train)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6  # unpacked they take 512 MB
    assert weights == pytest.approx(1000 / (100 + clips / 8))
