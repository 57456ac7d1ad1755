"""Processes that make batches: the same for any number of them, errors, and no leftovers.

`tests/drills/test_loader_kill.py` kills them.
"""

from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from noise_clips import CLASSES, CLIPS, RATE, SAMPLES, TRAIN, labels, open_noise
from small_training import equal

from passt_bench.errors import InputError
from passt_bench.models import create_model
from passt_bench.spec import EngineSpec, FrontendSpec, ModelSpec, Recipe, override
from passt_bench.training.batches import Batches, load
from passt_bench.training.engine import Engine
from passt_bench.training.evaluate import predict
from passt_bench.training.features import Waveforms
from passt_bench.training.loop import train
from passt_bench.training.state import Progress, Task

FRONTEND = FrontendSpec(
    sampling_rate=RATE, n_fft=256, window=200, hop=80, mels=16, fmax=3500.0, fmax_jitter=900
)
RECIPE = override(
    Recipe(model=ModelSpec("panns_micro", width=2, depth=1), frontend=FRONTEND),
    {
        "training.epochs": 3, "training.batch_size": 4, "training.gain": 7, "training.shift": 50,
        "training.wavmix": 0.5, "training.mixup": 0.3, "training.mask_time": 5,
        "training.sampling": "weighted", "training.epoch_clips": 12, "data.crop": "random",
        "data.seconds": SAMPLES / RATE,
    },
)  # fmt: skip


FEATURES = Waveforms(open_noise(), FRONTEND, SAMPLES / RATE)
SOURCE = Batches(FEATURES, labels(), np.arange(TRAIN), RECIPE, 3)


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_whoever_makes_them(workers: int) -> None:
    steps = range(2, 9)  # as after a resume
    torch.manual_seed(0)
    before = torch.get_rng_state()
    found = list(load(SOURCE, steps, workers))
    assert torch.equal(torch.get_rng_state(), before)  # which training draws from
    for one, two in zip(map(SOURCE, steps), found, strict=True):
        assert list(one) == ["x", "targets"] and equal(one, two)
        assert {tensor.dtype for tensor in two.values()} == {torch.float32}


def test_whoever_stops_early_leaves_nobody() -> None:
    def children() -> set[int]:
        return {child.pid for child in psutil.Process().children(recursive=True)}

    with closing(load(SOURCE, range(100), 2)) as batches:
        next(batches)
        working = children()
    assert len(working - children()) == 2


def _train(
    folder: Path, workers: int, stop: int | None = None, frontend: Any = "cpu"
) -> tuple[list[float], np.ndarray]:
    recipe = replace(RECIPE, engine=EngineSpec(num_workers=workers, frontend=frontend))
    torch.manual_seed(0)
    net = create_model("panns_micro", CLASSES, mels=16, frames=50, width=2, depth=1)
    task = Task("k", recipe, 3, FEATURES, labels(), np.arange(TRAIN), folder)

    def on_epoch(progress: Progress) -> None:
        if progress.epoch == stop:
            raise KeyboardInterrupt

    losses = train(net, replace(task, checkpoint_seconds=0.0), on_epoch).progress.train_loss
    return losses, predict(net, FEATURES, np.arange(TRAIN, CLIPS), Engine(recipe.engine))


def test_a_training_is_the_same_with_and_without_and_after_a_stop(tmp_path: Path) -> None:
    expected, scores = _train(tmp_path / "0", 0)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "1", 1, stop=2)
    # Resumes with another number, and computes log-mels in the training process.
    losses, found = _train(tmp_path / "1", 2, frontend="device")
    assert losses == expected
    np.testing.assert_array_equal(found, scores)


class _Unwieldy(Exception):
    """Cannot be pickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


ERROR: dict[str, Any] = {"source": "clips.csv", "field": "clip", "value": 3, "remedy": "Fix it."}


def _wrong(error: str, number: int) -> np.ndarray:
    if number == 3:
        raise _Unwieldy(1, 2) if error == "unwieldy" else InputError("is broken", **ERROR)
    return np.full((2, 3), number, dtype="f4")


def test_an_error_is_raised_as_it_was_where_its_batch_is_asked_for() -> None:
    seen = []
    with pytest.raises(InputError) as caught:
        seen.extend(float(array[0, 0]) for array in load(partial(_wrong, "input"), range(6), 2))
    assert seen == [0, 1, 2]
    assert {name: getattr(caught.value, name) for name in ERROR} == ERROR
    assert "in _wrong" in caught.value.__notes__[0]
    with pytest.raises(RuntimeError, match="_Unwieldy: 1 and 2"):  # what cannot be sent
        list(load(partial(_wrong, "unwieldy"), range(6), 2))


def test_stored_features_are_passed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "features-0.npy"
    np.save(path, np.arange(24, dtype="f4").reshape(4, 2, 3))
    stored = np.load(path, mmap_mode="r")
    rows = load(partial(_rows, stored, stored[1:3]), range(4), 1)
    for number, (mapped, row, view) in enumerate(rows):
        assert mapped
        np.testing.assert_array_equal(row, stored[number])
        np.testing.assert_array_equal(view, stored[1:3])


def _rows(stored: Any, view: Any, number: int) -> tuple[bool, np.ndarray, np.ndarray]:
    return isinstance(stored, np.memmap), np.array(stored[number]), np.array(view)
