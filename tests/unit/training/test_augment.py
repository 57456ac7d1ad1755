"""Augmentation of spectrograms: what is off, pure draws, rolls and masks."""

from __future__ import annotations

import numpy as np
import torch

from passt_bench.spec import TrainingSpec
from passt_bench.training.batches import augment

RANDOM = np.random.default_rng(0)


def test_augmentation_off_changes_nothing() -> None:
    x, y = RANDOM.normal(size=(3, 4, 6)).astype("f4"), np.eye(3, dtype="f4")
    out, targets = augment(x, y, TrainingSpec(), 0, 0, 0)
    assert torch.equal(out, torch.from_numpy(x).unsqueeze(1))
    assert torch.equal(targets, torch.from_numpy(y))


def test_augmentation_is_pure_and_leaves_its_input() -> None:
    x, y = RANDOM.normal(size=(8, 4, 20)).astype("f4"), np.eye(8, dtype="f4")
    copy = x.copy()
    training = TrainingSpec(mixup=0.3, roll=0.5, mask_time=5, mask_frequency=2)
    one = augment(x, y, training, 5, 1, 0)
    two = augment(x, y, training, 5, 1, 0)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert (x == copy).all()
    assert not torch.equal(one[0], augment(x, y, training, 6, 1, 0)[0])
    assert not torch.equal(one[0], augment(x, y, training, 5, 1, 1)[0])
    assert torch.allclose(one[1].sum(1), torch.ones(8))


def test_roll_keeps_the_columns() -> None:
    x = np.arange(20, dtype="f4").reshape(1, 1, 20)
    out, _ = augment(x, np.ones((1, 1)), TrainingSpec(roll=1.0), 3, 0, 0)
    assert sorted(out.flatten().tolist()) == list(range(20))


def test_masks_are_filled_and_narrower_than_asked_for() -> None:
    x = np.ones((200, 8, 30), dtype="f4")
    training = TrainingSpec(mask_time=5, mask_frequency=3)
    out, _ = augment(x, np.ones((200, 1)), training, 0, 0, 0, fill=0.25)
    masked = out[:, 0].numpy() == 0.25
    assert set(masked.all(axis=1).sum(axis=1)) == {0, 1, 2, 3, 4}
    assert set(masked.all(axis=2).sum(axis=1)) == {0, 1, 2}
    assert (out[:, 0].numpy()[~masked] == 1).all()
