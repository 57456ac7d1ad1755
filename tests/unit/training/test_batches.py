"""Batches: augmentation of spectrograms, weights of clips, and which clips an epoch has."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_training import equal

from passt_bench.data.targets import PackedTargets
from passt_bench.errors import InputError
from passt_bench.spec import Recipe, TrainingSpec
from passt_bench.training.batches import (
    Batches,
    LogMels,
    augment,
    clip_weights,
    draw_augmentation,
    epoch_steps,
    with_known,
)

RANDOM = np.random.default_rng(0)
WEIGHTED = TrainingSpec(batch_size=4, sampling="weighted", epoch_clips=20)


def _targets(clips: int = 300, classes: int = 11) -> np.ndarray:
    targets = (RANDOM.random((clips, classes)) < np.linspace(0.02, 0.6, classes)).astype("f4")
    targets[~targets.any(axis=1), 0] = 1
    return targets


def _source(
    training: TrainingSpec, targets: np.ndarray, train: np.ndarray, seed: int = 0, salt: int = 0
) -> Batches:
    """Batches of which only the clips are used."""
    return Batches(targets, targets, train, Recipe(training=training, salt=salt), seed)


def _augmented(
    x: np.ndarray, targets: np.ndarray, training: TrainingSpec, step: int, seed: int, salt: int
) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = draw_augmentation(training, x.shape, step, seed, salt)
    return augment(*(torch.tensor(a, dtype=torch.float32) for a in (x, targets)), drawn, 0.25)


def test_augmentation_is_pure_and_off_changes_nothing() -> None:
    x, y = RANDOM.normal(size=(8, 4, 20)).astype("f4"), np.eye(8, dtype="f4")
    training = TrainingSpec(mixup=0.3, roll=0.5, mask_time=5, mask_frequency=2)
    one, two = (_augmented(x, y, training, 5, 1, 0) for _ in range(2))
    assert all(map(torch.equal, one, two))
    for seed, salt in ((6, 0), (5, 1)):
        assert not torch.equal(one[0], _augmented(x, y, training, seed, 1, salt)[0])
    assert torch.allclose(one[1].sum(1), torch.ones(8))
    rolled = _augmented(x, y, TrainingSpec(roll=1.0), 3, 0, 0)[0][:, 0].numpy()
    assert (rolled != x).any() and (np.sort(rolled) == np.sort(x)).all()
    out, targets = _augmented(x, y, TrainingSpec(), 0, 0, 0)
    assert (out[:, 0].numpy() == x).all() and (targets.numpy() == y).all()


@pytest.mark.parametrize("limits", [(3, 2), (100, 50)], ids=["narrow", "whole"])
def test_augmentation_is_that_of_each_clip_in_numpy(limits: tuple[int, int]) -> None:
    x, y = RANDOM.normal(size=(9, 5, 21)).astype("f4"), RANDOM.random((9, 3)).astype("f4")
    training = TrainingSpec(mixup=0.3, roll=0.7, mask_time=limits[0], mask_frequency=limits[1])
    drawn = {name: t.numpy() for name, t in draw_augmentation(training, x.shape, 4, 2, 1).items()}
    wanted = np.empty_like(x)
    for clip, (row, shift) in enumerate(zip(x, drawn["shift"], strict=True)):
        wanted[clip] = np.roll(row, shift, axis=1)
        wanted[clip][:, slice(*drawn["time"][clip])] = 0.25
        wanted[clip][slice(*drawn["frequency"][clip])] = 0.25
    weight = drawn["weight"][:, None]
    mixed = weight * y + (1 - weight) * y[drawn["other"]]
    weight = weight[:, None]
    wanted = weight * wanted + (1 - weight) * wanted[drawn["other"]]
    found, targets = _augmented(x, y, training, 4, 2, 1)
    np.testing.assert_array_equal(found[:, 0], wanted)
    np.testing.assert_array_equal(targets, mixed)
    assert (drawn["weight"] >= 0.5).all() and sorted(drawn["other"]) == list(range(9))


def test_masks_are_filled_and_narrower_than_asked_for() -> None:
    x = np.ones((200, 8, 30), dtype="f4")
    training = TrainingSpec(mask_time=5, mask_frequency=3)
    out, _ = _augmented(x, np.ones((200, 1)), training, 0, 0, 0)
    masked = out[:, 0].numpy() == 0.25
    assert set(masked.all(axis=1).sum(axis=1)) == {0, 1, 2, 3, 4}
    assert set(masked.all(axis=2).sum(axis=1)) == {0, 1, 2}
    assert (out[:, 0].numpy()[~masked] == 1).all()


def test_mixup_mixes_the_labels_that_are_known() -> None:
    targets = with_known(np.array([[1, np.nan, 0], [np.nan, np.nan, 1], [0, 1, np.nan]]))
    _, mixed = _augmented(np.zeros((3, 4, 5)), targets, TrainingSpec(mixup=0.3), 0, 0, 0)
    positive, known = mixed.unbind(dim=1)
    assert ((positive >= 0) & (positive <= known) & (known <= 1)).all()
    assert ((known > 0) & (known < 1)).any()


def test_log_mels_on_a_device_make_the_same_batch() -> None:
    features, targets = RANDOM.normal(size=(20, 5, 21)).astype("f4"), _targets(20, 3)
    training = TrainingSpec(batch_size=4, mixup=0.3, roll=0.7, mask_time=3, mask_frequency=2)
    data = targets, np.arange(20), Recipe(training=training), 3
    whole, read = Batches(features, *data), Batches(features, *data, read_only=True)
    stored = torch.from_numpy(features)
    chosen, finish = Batches(stored, *data, read_only=True), LogMels(data[2], "cpu", stored)
    for step in (3, 7):
        wanted = whole(step)
        assert equal(finish(read(step)), wanted) and equal(finish(chosen(step)), wanted)
    assert torch.equal(stored, torch.from_numpy(features))


def test_weights_by_hand() -> None:
    targets = np.array([[1, 0], [1, 1], [0, 1], [1, 0]], dtype="f4")
    train = np.array([0, 1, 3])  # counts 3 and 1: clip 2 is not trained on
    one, two = 1000 / 103, 1000 / 101
    assert clip_weights(targets, train) == pytest.approx([one, one + two, one])
    targets[0, 1] = np.nan
    assert clip_weights(targets, train) == pytest.approx([one, one + two, one])
    targets[0] = 0
    with pytest.raises(InputError) as caught:
        clip_weights(targets, train)
    assert (caught.value.field, caught.value.value) == ("training.sampling", "weighted")


def test_packed_targets_weigh_the_same_in_blocks() -> None:
    targets, train = _targets(20_000), np.arange(5, 20_000)
    packed = PackedTargets(np.packbits(targets.astype("u1"), axis=1), targets.shape[1])
    np.testing.assert_array_equal(clip_weights(packed, train), clip_weights(targets, train))
    clips = 1_000_000
    rows = np.zeros((clips, 8), dtype="u1")
    rows[np.arange(clips), np.arange(clips) % 8] = 128
    tracemalloc.start()
    weights = clip_weights(PackedTargets(rows, 64), np.arange(clips))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # unpacked they take 256 MB
    assert weights == pytest.approx(1000 / (100 + clips / 8))


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        (WEIGHTED, 5),
        (replace(WEIGHTED, epoch_clips=None, batch_size=30), 6),  # all but an incomplete batch
        (TrainingSpec(batch_size=50), 4),
        (TrainingSpec(batch_size=50, clips=250), 4),  # of which a validation split took some
    ],
    ids=["weighted", "weighted, all clips", "shuffled", "more clips than are left"],
)
def test_an_epoch_has_no_clip_twice_and_is_drawn_anew(training: TrainingSpec, steps: int) -> None:
    targets, train, size = _targets(), np.arange(100, 300), training.batch_size
    source = _source(training, targets, train, 3)
    assert source.steps == steps == epoch_steps(training, len(train))
    clips = np.stack([source.clips(step) for step in range(4 * steps)]).reshape(4, -1)
    assert set(clips.flat) <= set(train)
    assert all(len(set(epoch)) == steps * size for epoch in clips)
    assert len({tuple(epoch) for epoch in clips}) == 4
    again = _source(training, targets, train, 3)  # from any step on, as after a kill
    np.testing.assert_array_equal(again.clips(3 * steps + 2), clips[3, 2 * size : 3 * size])
    for seed, salt in ((4, 0), (3, 1)):
        assert (_source(training, targets, train, seed, salt).clips(0) != clips[0, :size]).any()
    few = _source(replace(training, epoch_clips=None), targets, np.arange(3))
    assert sorted(few.clips(0)) == [0, 1, 2]  # less than a batch


def test_the_first_draw_is_as_likely_as_its_weight() -> None:
    targets = np.zeros((6, 3), dtype="f4")
    targets[[0, 1, 2, 3, 4, 5], [0, 1, 1, 2, 2, 2]] = 1
    targets[0, 1:] = 1
    training, train, epochs = replace(WEIGHTED, epoch_clips=1, batch_size=1), np.arange(6), 6000
    source = _source(training, targets, train)
    seen = np.bincount([source.clips(step)[0] for step in range(epochs)], minlength=6) / epochs
    weights = clip_weights(targets, train)
    expected = weights / weights.sum()
    assert (abs(seen - expected) < 4 * np.sqrt(expected / epochs)).all()
    assert expected[0] > 2.5 * expected[1]  # otherwise the test could not tell
