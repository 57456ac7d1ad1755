"""Processes that make batches: the same for any number of them, errors, and no leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from noise_clips import CLASSES, CLIPS, RATE, SAMPLES, TRAIN, labels, open_noise

from passt_bench.data.shared import SharedDataset
from passt_bench.models import create_model
from passt_bench.spec import EngineSpec, FrontendSpec, ModelSpec, Recipe, override
from passt_bench.training.batches import Sampler, Supply, loading
from passt_bench.training.engine import Engine
from passt_bench.training.evaluate import predict
from passt_bench.training.features import Streamed, Waveforms
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


def _supply() -> Supply:
    features = Waveforms(Streamed(SharedDataset(open_noise()), SAMPLES), FRONTEND)
    sampler = Sampler(RECIPE.training, labels(), np.arange(TRAIN), 3, 0)
    return Supply(features, labels(), sampler, RECIPE, 3)


def _children() -> list[psutil.Process]:
    """Processes that make batches, and whatever else this one has started."""
    return [child for child in psutil.Process().children(recursive=True) if child.is_running()]


@pytest.mark.parametrize("processes", [1, 2, 8])
def test_batches_are_the_same_whoever_makes_them(processes: int) -> None:
    supply = _supply()
    steps = range(2, 9)  # as after a resume
    with loading(supply, steps, 0) as batches:
        expected = list(batches)
    with loading(supply, steps, processes) as batches:
        found = list(batches)
    assert len(found) == len(expected) == 7
    for one, two in zip(expected, found, strict=True):
        for a, b in zip(one, two, strict=True):
            assert a.dtype == b.dtype == np.float32
            np.testing.assert_array_equal(a, b)


def _train(folder: Path, loaders: int, stop: int | None = None) -> tuple[Progress, Any]:
    recipe = replace(RECIPE, engine=EngineSpec(num_workers=loaders))
    features = Waveforms(Streamed(SharedDataset(open_noise()), SAMPLES), FRONTEND)
    torch.manual_seed(0)
    net = create_model("panns_micro", CLASSES, mels=16, frames=50, width=2, depth=1)
    task = Task("k", recipe, 3, features, labels(), np.arange(TRAIN), folder)
    task = replace(task, checkpoint_seconds=0.0)

    def on_epoch(progress: Progress) -> None:
        if progress.epoch == stop:
            raise KeyboardInterrupt

    done = train(net, task, on_epoch)
    scores = predict(
        net, features, np.arange(TRAIN, CLIPS), Engine(EngineSpec(num_workers=loaders))
    )
    return done, scores


def test_a_training_is_the_same_with_and_without_and_after_a_stop(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    alone, expected = _train(tmp_path / "0", 0)
    done, scores = _train(tmp_path / "2", 2)
    assert done.train_loss == alone.train_loss
    np.testing.assert_array_equal(scores, expected)
    with pytest.raises(KeyboardInterrupt):
        _train(tmp_path / "1", 1, stop=2)
    done, scores = _train(tmp_path / "1", 2)  # goes on with another number
    assert done.train_loss == alone.train_loss
    np.testing.assert_array_equal(scores, expected)


def _wrong(number: int) -> tuple[np.ndarray]:
    if number == 3:
        raise ValueError("clip 3 is broken")
    return (np.full((2, 3), number, dtype="f4"),)


def _dies(number: int) -> tuple[np.ndarray]:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return (np.zeros(1, dtype="f4"),)


def test_an_error_is_raised_where_its_batch_is_asked_for() -> None:
    seen = []
    with (
        pytest.raises(ValueError, match="clip 3 is broken") as caught,
        loading(_wrong, range(6), 2) as batches,
    ):
        for (array,) in batches:
            seen.append(float(array[0, 0]))
    assert seen == [0, 1, 2]
    assert "in _wrong" in caught.value.__notes__[0]


def test_a_process_that_is_killed_ends_the_training() -> None:
    with (
        pytest.raises(RuntimeError, match="makes batches ended with exit status -9"),
        loading(_dies, range(6), 2) as batches,
    ):
        list(batches)


def test_whoever_stops_early_leaves_nobody() -> None:
    with loading(_supply(), range(100), 2) as batches:
        next(batches)
        working = {child.pid for child in _children()}
    left = {child.pid for child in _children()}
    assert len(working - left) == 2


def test_stored_features_are_handed_over_by_name(tmp_path: Path) -> None:
    path = tmp_path / "features-0.npy"
    np.save(path, np.arange(24, dtype="f4").reshape(4, 2, 3))
    stored = np.load(path, mmap_mode="r")
    with loading(partial(_rows, stored, stored[1:3]), range(4), 1) as batches:
        for number, (mapped, row, view) in enumerate(batches):
            assert mapped[0]
            np.testing.assert_array_equal(row, stored[number])
            np.testing.assert_array_equal(view, stored[1:3])


def _rows(stored: Any, view: Any, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.array([isinstance(stored, np.memmap)]), np.array(stored[number]), np.array(view)


CODE = """
import sys, time
import test_loaders as here
if __name__ == "__main__":
    with here.loading(here._supply(), range(100), 2) as batches:
        next(batches)
        print("begun", flush=True)
        time.sleep(60)
"""


def test_a_kill_leaves_nobody(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CODE)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")]),
        },
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 3  # two, the fork server, and maybe its tracker
        process.kill()
        gone, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, [child.cmdline() for child in alive]
    assert len(gone) == len(family)
