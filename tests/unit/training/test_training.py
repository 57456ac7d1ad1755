from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.models import create_model
from passt_bench.spec import ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.batches import Sampler, augment
from passt_bench.training.loop import train
from passt_bench.training.loss import Diverged, loss_of
from passt_bench.training.metrics import score
from passt_bench.training.schedule import learning_rate
from passt_bench.training.state import Task

RANDOM = np.random.default_rng(0)


def test_average_precision_by_hand() -> None:
    targets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0]], dtype=np.float32)
    scores = np.array([[3.0, 1.0, 0.0], [2.0, 2.0, 0.0], [1.0, 3.0, 0.0]])
    value, per_class = score("mAP", targets, scores)
    # Class 0: positives at ranks 1 and 3: (1 + 2/3) / 2; class 1: rank 2; class 2 has none.
    assert per_class == pytest.approx({0: (1 + 2 / 3) / 2, 1: 0.5})
    assert value == pytest.approx(((1 + 2 / 3) / 2 + 0.5) / 2)


def test_accuracy_by_hand() -> None:
    targets = np.eye(2)[[0, 0, 1]]
    value, per_class = score("accuracy", targets, np.array([[2.0, 1], [1, 2], [1, 2]]))
    assert value == pytest.approx(2 / 3)
    assert per_class == {0: 0.5, 1: 1.0}


def test_schedule() -> None:
    rates = [learning_rate(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates.index(max(rates)) == 10
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert learning_rate(0, 1, 1.0, 0.0) == 1.0


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


def test_losses() -> None:
    logits = torch.tensor([[0.0, 0.0]])
    assert float(loss_of("bce", logits, torch.tensor([[1.0, 0.0]]))) == pytest.approx(math.log(2))
    assert float(loss_of("ce", logits, torch.tensor([[0.7, 0.3]]))) == pytest.approx(math.log(2))


def _task(folder: Path, **changes: object) -> Task:
    training = TrainingSpec(epochs=4, batch_size=8, learning_rate=1e-3, mixup=0.3, roll=0.2)
    recipe = Recipe(
        model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, heads=2),
        patchout=Patchout("unstructured", rate=0.5),
        training=TrainingSpec(**{**vars(training), **changes}),  # type: ignore[arg-type]
    )
    random = np.random.default_rng(1)
    targets = (random.random((40, 3)) < 0.3).astype("f4")
    features = random.normal(size=(40, 16, 32)).astype("f4") + targets[:, :1, None]
    return Task("key", recipe, 5, features, targets, np.arange(32), folder)


def _fresh() -> torch.nn.Module:
    return create_model("passt_micro", 3, patch=8, stride=8, width=16, heads=2, mels=16, frames=32)


def test_training_lowers_the_loss_and_repeats_exactly(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    task = _task(tmp_path, epochs=12)
    one, two = train(_fresh(), task), train(_fresh(), task)
    assert one.train_loss == two.train_loss
    assert one.train_loss[-1] < one.train_loss[0]


def test_a_loss_that_turns_nan_is_divergence(tmp_path: Path) -> None:
    task = _task(tmp_path)
    task.features[3] = np.nan
    with pytest.raises(Diverged, match="nan in epoch 1 of 4"):
        train(_fresh(), task)
