"""Checkpoints: exact after a stop at any step, whatever became of the files."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_training import (
    EPOCHS,
    RECIPE,
    STEPS,
    VALIDATION,
    equal,
    fresh,
    make_task,
    stopped,
    trained,
    warned,
)

from passt_bench.registry import METRICS
from passt_bench.spec import EngineSpec
from passt_bench.training import checkpoint
from passt_bench.training.engine import Diverged
from passt_bench.training.metrics import Metric, PerClass
from passt_bench.training.state import Progress, Training, copy_of


@pytest.fixture(scope="module", params=[False, True], ids=["last", "best on validation"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A training that nothing stopped."""
    more = {"validation": VALIDATION} if request.param else {}
    return trained(make_task(tmp_path_factory.mktemp("whole"), **more))


@pytest.mark.parametrize("steps", [1, 4, 10, 16])
def test_stopped_after_any_step_it_comes_to_the_same(
    tmp_path: Path,
    whole: Training,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped(monkeypatch, steps, make_task(tmp_path, validation=whole.task.validation))
    task, expected = make_task(tmp_path, validation=whole.task.validation), whole.progress
    done = trained(task)
    for field in ("train_loss", "learning_rate", "validation", "best_epoch", "best_loss"):
        assert getattr(done.progress, field) == getattr(expected, field)
    assert equal(copy_of(whole.net), copy_of(done.net))
    assert len(done.progress.step_seconds) == EPOCHS
    assert warned(capsys) == []


def _values(name: str) -> tuple[str, ...]:
    return get_args(get_type_hints(EngineSpec)[name])


# Of accumulate and float16 see test_engine.py, of num_workers and frontend test_loaders.py, and of
# compile tests/drills.
ENGINES: list[dict[str, Any]] = [
    {"precision": "bfloat16"},
    *({"attention": kind} for kind in _values("attention")),
    *({"recompute": kind} for kind in _values("recompute")),
    *(
        {"precision": "bfloat16", "residual": "compute", "attention": attention, "recompute": kind}
        for attention, kind in zip(_values("attention"), _values("recompute"), strict=False)
    ),
]


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_every_engine_resumes_exactly(
    tmp_path: Path, engine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(RECIPE, engine=EngineSpec(**engine))
    task, whole = (make_task(tmp_path / name, recipe=recipe) for name in ("parts", "whole"))
    stopped(monkeypatch, 6, task)
    done, expected = trained(task), trained(whole)
    assert done.progress.train_loss == expected.progress.train_loss
    assert equal(copy_of(done.net), copy_of(expected.net))


@pytest.mark.parametrize("stop", [3, 5, 9])
def test_a_training_by_steps_ends_within_an_epoch_and_resumes_exactly(
    tmp_path: Path, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = replace(RECIPE.training, steps=10)  # two epochs of four steps, and two steps
    task, other = (make_task(tmp_path / name, training) for name in ("parts", "whole"))
    stopped(monkeypatch, stop, task)
    done, expected = trained(task), trained(other)
    assert (other.total_steps, other.epochs) == (10, 3)
    assert len(expected.progress.train_loss) == len(expected.progress.step_seconds) == 3
    assert done.progress.train_loss == expected.progress.train_loss
    assert equal(copy_of(done.net), copy_of(expected.net))
    # Whole epochs are the same training, said in another way.
    same = trained(make_task(tmp_path / "same", replace(RECIPE.training, steps=EPOCHS * STEPS)))
    plain = trained(make_task(tmp_path / "plain"))
    assert equal(copy_of(same.net), copy_of(plain.net))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    done = trained(replace(make_task(tmp_path), checkpoint_seconds=1e9))
    calls: list[Progress] = []
    again = trained(make_task(tmp_path), on_epoch=calls.append)
    assert equal(copy_of(done.net), copy_of(again.net)) and calls == []


def test_clocks_add_up_over_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = {"data": 2.0, "build": 1.0}
    seconds = []
    for times, (steps, left) in enumerate(((3, 3), (6, 1)), start=1):
        stopped(monkeypatch, steps, make_task(tmp_path, clocks=dict(clocks)))
        state = load(tmp_path)["progress"]
        assert state["before"] == {name: times * value for name, value in clocks.items()}
        assert state["step"] == left
        seconds.append(state["seconds"])
    done = trained(make_task(tmp_path, clocks=dict(clocks))).progress
    assert done.earlier_seconds == {"data": 4.0, "build": 2.0}  # this process adds its own
    assert 0 < seconds[0] < seconds[1] < done.seconds
    assert done.seconds == pytest.approx(sum(done.step_seconds) * STEPS)
    assert done.cpu_seconds > 0
    assert done.peak_bytes > 0


def load(folder: Path) -> dict[str, Any]:
    state = checkpoint.load(folder, ("key", 1))
    assert state is not None
    return state


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    """One bit of the weights: torch.load would take it."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    data[entry.header_offset + 200 + entry.file_size // 2] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": _truncate,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 40),
    "flipped": _flip,
    "pickle": lambda path: path.write_bytes(pickle.dumps(_Hostile(path.with_name("touched")))),
    # As torch writes it, so that all is right but the pickle inside.
    "hostile": lambda p: torch.save({"key": "key", "net": _Hostile(p.with_name("touched"))}, p),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_not_used_and_run_no_code(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path, {"key": "key", "attempt": 1, "net": torch.zeros(2000)})
    assert load(tmp_path)["net"].shape == (2000,)
    DAMAGES[damage](tmp_path / checkpoint.LATEST)
    assert checkpoint.load(tmp_path, ("key", 1)) is None
    (line,) = warned(capsys)
    assert line.startswith(f"{tmp_path.name}/checkpoint.pt: ")
    assert not (tmp_path / "touched").exists()
    if damage == "hostile":  # elsewhere it would
        torch.load(tmp_path / checkpoint.LATEST, weights_only=False)
        assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("whole", [False], indirect=True)
def test_without_a_checkpoint_that_serves_the_run_starts_again(
    tmp_path: Path,
    whole: Training,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped(monkeypatch, 6, make_task(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.LATEST]
    _truncate(tmp_path / checkpoint.LATEST)
    task, epochs = make_task(tmp_path), []
    done = trained(task, on_epoch=lambda progress: epochs.append(progress.epoch))
    assert epochs == [1, 2, 3, 4]
    assert done.progress.train_loss == whole.progress.train_loss
    lines = warned(capsys)
    assert len(lines) == 2
    assert "from the beginning" in lines[-1]
    task = make_task(tmp_path)
    assert len(trained(task, fresh(width=32)).progress.train_loss) == EPOCHS
    assert "does not fit the model" in warned(capsys)[0]
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir()) and not checkpoint.exists(tmp_path)


@pytest.mark.parametrize("change", [{"key": "other"}, {"attempt": 2}, {"format": 1}], ids=str)
def test_a_checkpoint_that_does_not_belong_is_passed_over(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path, {"key": "key", "attempt": 1, **change})
    assert checkpoint.load(tmp_path, ("key", 1)) is None
    assert len(warned(capsys)) == 1


def test_the_best_epoch_on_the_validation_split_is_kept(tmp_path: Path) -> None:
    net, weights = fresh(), []
    task = make_task(tmp_path, validation=VALIDATION)
    # Features that have nothing to do with the targets: the best epoch is soon over.
    task.features[:] = np.random.default_rng(7).normal(size=task.features.shape)
    done = trained(task, net, on_epoch=lambda progress: weights.append(copy_of(net))).progress
    assert len(done.validation) == EPOCHS
    assert done.validation[done.best_epoch - 1] == max(done.validation)
    assert equal(weights[done.best_epoch - 1], copy_of(net))
    assert task.clocks["select"] > 0


def test_of_epochs_with_the_same_metric_the_one_with_the_lowest_loss_is_kept(
    tmp_path: Path,
) -> None:
    net, losses = fresh(), []
    task = make_task(tmp_path, replace(RECIPE.training, learning_rate=0.05, epochs=6))
    task.validation = clips = VALIDATION[
        :2
    ]  # which sound the same, so that no training tells them apart
    task.features[clips], task.targets[clips] = 0.5, [[1, 0, 0], [0, 1, 0]]

    def note(progress: Progress) -> None:
        x = torch.from_numpy(task.features[clips]).unsqueeze(1)
        logits = net.eval()(x).detach()
        wanted = torch.from_numpy(task.targets[clips])
        losses.append(float(F.binary_cross_entropy_with_logits(logits, wanted)))

    done = trained(task, net, on_epoch=note).progress
    assert len(set(done.validation)) == 1
    assert done.best_epoch == 1 + int(np.argmin(losses))
    assert 1 < done.best_epoch < 6  # neither the first nor the last by chance


def test_the_best_epoch_by_a_loss_is_the_one_with_the_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Loss(Metric):
        better = "less"

        def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
            return float(np.abs(scores).mean()), {}

    monkeypatch.setattr(METRICS, "_table", dict(METRICS._table))
    METRICS.register("loss", version=1, summary="mean absolute logit")(Loss())
    task = make_task(tmp_path, validation=VALIDATION)
    task.recipe = replace(task.recipe, metrics=("loss",))
    done = trained(task).progress
    assert len(set(done.validation)) > 1
    assert done.best_epoch == 1 + done.validation.index(min(done.validation))


@pytest.mark.parametrize("whole", [True], indirect=True)
def test_lost_best_weights_start_the_run_again(
    tmp_path: Path,
    whole: Training,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped(monkeypatch, 10, make_task(tmp_path, validation=VALIDATION))
    _truncate(tmp_path / checkpoint.BEST)
    task = make_task(tmp_path, validation=VALIDATION)
    assert trained(task).progress.validation == whole.progress.validation
    assert "from the beginning" in warned(capsys)[-1]


@pytest.mark.parametrize("clips", [VALIDATION, np.array([3])], ids=["validation", "training"])
def test_numbers_that_are_not_finite_are_divergence(tmp_path: Path, clips: np.ndarray) -> None:
    task = make_task(tmp_path, validation=VALIDATION)
    task.features[clips] = np.nan
    with pytest.raises(Diverged, match=r"not finite|nan in epoch 1 of 4"):
        trained(task)
