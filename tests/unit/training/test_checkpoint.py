from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from passt_bench.models import create_model
from passt_bench.registry import METRICS
from passt_bench.spec import ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training import checkpoint
from passt_bench.training.loop import train
from passt_bench.training.loss import Diverged
from passt_bench.training.metrics import Metric, PerClass
from passt_bench.training.state import Progress, Task, Training

EPOCHS, STEPS = 4, 4


class Stopped(Exception):
    """Stands for a kill at a known moment."""


def make_task(folder: Path, **changes: Any) -> Task:
    recipe = Recipe(
        model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, heads=2),
        patchout=Patchout("unstructured", rate=0.5),
        training=TrainingSpec(epochs=EPOCHS, batch_size=8, mixup=0.3, roll=0.2),
    )
    random = np.random.default_rng(1)
    targets = (random.random((40, 3)) < 0.4).astype("f4")
    features = random.normal(size=(40, 16, 32)).astype("f4") + targets[:, :1, None]
    told: list[str] = []
    task = Task("key", recipe, 5, features, targets, np.arange(32), folder, warn=told.append)
    return replace(task, checkpoint_seconds=0.0, **changes)


def told(task: Task) -> list[str]:
    return task.warn.__self__  # type: ignore[attr-defined,no-any-return]


def fresh() -> torch.nn.Module:
    torch.set_num_threads(1)
    return create_model("passt_micro", 3, patch=8, stride=8, width=16, heads=2, mels=16, frames=32)


def initial() -> torch.nn.Module:
    torch.manual_seed(0)
    net = fresh()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(0, 0.05)
    return net


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Lets a training stop after that many steps, its checkpoint written."""
    count = 0
    real = Training.stepped

    def stepped(self: Training, loss: torch.Tensor) -> None:
        nonlocal count
        real(self, loss)
        count += 1
        if count == steps:
            raise Stopped

    monkeypatch.setattr(Training, "stepped", stepped)


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 15, 16])
def test_stopped_after_any_step_it_comes_to_the_same(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, expected = initial(), train(initial(), make_task(tmp_path / "a"))
    train(whole, make_task(tmp_path / "a2"))
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Stopped):
            train(initial(), make_task(tmp_path / "b"))
    resumed = initial()
    task = make_task(tmp_path / "b")
    done = train(resumed, task)
    assert done.train_loss == expected.train_loss
    assert done.learning_rate == expected.learning_rate
    assert same(whole, resumed)
    assert len(done.step_seconds) == EPOCHS
    assert told(task) == []


def test_clocks_add_up_over_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = []
    for steps in (3, 6):
        with monkeypatch.context() as patched:
            stop_after(patched, steps)
            with pytest.raises(Stopped):
                train(initial(), make_task(tmp_path, clocks={"data": 2.0, "build": 1.0}))
        (state,) = list(checkpoint.states(tmp_path, ("key", 1)))[:1]
        assert state["progress"]["before"] == {
            "data": 2.0 * (len(seconds) + 1),
            "build": len(seconds) + 1,
        }
        seconds.append(state["progress"]["seconds"])
        assert state["progress"]["step"] == (3, 1)[len(seconds) - 1]
    done = train(initial(), make_task(tmp_path, clocks={"data": 2.0, "build": 1.0}))
    assert done.before == {"data": 4.0, "build": 2.0}  # this process adds its own
    assert 0 < seconds[0] < seconds[1] < done.seconds
    assert done.seconds == pytest.approx(sum(done.step_seconds) * STEPS)
    assert done.cpu_seconds > 0
    assert done.peak_bytes > 0


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    net = initial()
    done = train(net, replace(make_task(tmp_path), checkpoint_seconds=1e9))
    again, calls = initial(), []

    def on_epoch(progress: Progress) -> None:
        calls.append(progress.epoch)

    assert train(again, make_task(tmp_path), on_epoch).train_loss == done.train_loss
    assert calls == []
    assert same(net, again)


def _stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int = 6) -> None:
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Stopped):
            train(initial(), make_task(folder))


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def _truncate(path: Path, folder: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path, folder: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path, folder: Path) -> None:
    path.write_bytes(bytes(range(256)) * 40)


def _flip(path: Path, folder: Path) -> None:
    """One bit of the weights: torch.load would take it."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    data[entry.header_offset + 200 + entry.file_size // 2] ^= 1
    path.write_bytes(data)


def _pickle(path: Path, folder: Path) -> None:
    path.write_bytes(pickle.dumps(_Hostile(folder / "touched")))


def _hostile(path: Path, folder: Path) -> None:
    """As torch writes it, so that all is right but the pickle inside."""
    torch.save({"key": "key", "net": _Hostile(folder / "touched")}, path)


BREAK = [_truncate, _empty, _garbage, _flip, _pickle, _hostile]


@pytest.mark.parametrize("damage", BREAK)
def test_the_one_before_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    expected = train(initial(), make_task(tmp_path / "whole"))
    _stopped(tmp_path / "b", monkeypatch)
    damage(tmp_path / "b" / checkpoint.NAME, tmp_path)
    task = make_task(tmp_path / "b")
    assert [s["progress"]["step"] for s in checkpoint.states(task.folder, ("key", 1))] == [1]
    done = train(initial(), task)
    assert done.train_loss == expected.train_loss
    assert len(told(task)) == 1
    assert "checkpoint.pt" in told(task)[0]
    assert "it is not used" in told(task)[0]
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("damage", BREAK)
def test_where_none_serves_it_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    expected = train(initial(), make_task(tmp_path / "whole"))
    _stopped(tmp_path / "b", monkeypatch)
    for name in (checkpoint.NAME, checkpoint.BEFORE):
        damage(tmp_path / "b" / name, tmp_path)
    task = make_task(tmp_path / "b")
    calls: list[int] = []
    done = train(initial(), task, lambda progress: calls.append(progress.epoch))
    assert calls == [1, 2, 3, 4]
    assert done.train_loss == expected.train_loss
    assert len(told(task)) == 3
    assert told(task)[-1] == "key: no checkpoint can be used; the run starts from the beginning"
    assert not (tmp_path / "touched").exists()


def test_the_hostile_files_would_run_code_elsewhere(tmp_path: Path) -> None:
    _hostile(tmp_path / "a.pt", tmp_path)
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "other"}, "of another run"),
        ({"attempt": 2}, "of another run"),
        ({"format": 1}, "of another version"),
    ],
)
def test_a_checkpoint_that_does_not_belong_is_passed_over(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    checkpoint.save(tmp_path, {"key": "key", "attempt": 1, **change})
    lines: list[str] = []
    assert list(checkpoint.states(tmp_path, ("key", 1), lines.append)) == []
    assert len(lines) == 1
    assert message in lines[0]


def test_a_checkpoint_of_another_shape_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stopped(tmp_path, monkeypatch, 1)
    task = make_task(tmp_path)
    other = create_model("passt_micro", 3, patch=8, stride=8, width=32, heads=2, mels=16, frames=32)
    assert len(train(other, task).train_loss) == EPOCHS
    assert "does not fit the model" in told(task)[0]


def test_checkpoints_are_two_and_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stopped(tmp_path, monkeypatch)
    assert sorted(path.name for path in tmp_path.iterdir()) == [checkpoint.BEFORE, checkpoint.NAME]
    checkpoint.remove(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not checkpoint.exists(tmp_path)


VALIDATION = np.arange(32, 40)


def _inner_values(progress: Progress) -> tuple[int, float]:
    return progress.best_epoch, max(progress.validation)


def test_the_best_epoch_on_the_validation_split_is_kept(tmp_path: Path) -> None:
    weights = []
    net = initial()

    def on_epoch(progress: Progress) -> None:
        weights.append({name: value.clone() for name, value in net.state_dict().items()})

    task = make_task(tmp_path / "a", validation=VALIDATION)
    # Features that have nothing to do with the targets: the best epoch is soon over.
    task.features[:] = np.random.default_rng(7).normal(size=task.features.shape)
    done = train(net, task, on_epoch)
    assert len(done.validation) == EPOCHS
    assert done.best_epoch == 1 + done.validation.index(max(done.validation))
    best = weights[done.best_epoch - 1]
    assert all(torch.equal(best[name], value) for name, value in net.state_dict().items())
    assert task.clocks["select"] > 0


def test_the_best_epoch_by_a_loss_is_the_one_with_the_least(tmp_path: Path) -> None:
    class Loss(Metric):
        better = "less"

        def compute(self, targets: np.ndarray, scores: np.ndarray) -> tuple[float, PerClass]:
            return float(np.abs(scores).mean()), {}

    METRICS.register("loss", version=1, summary="mean absolute logit")(Loss())
    try:
        task = make_task(tmp_path, validation=VALIDATION)
        task.recipe = replace(task.recipe, metrics=("loss",))
        done = train(initial(), task)
    finally:
        del METRICS._table["loss"]
    assert len(set(done.validation)) > 1
    assert done.best_epoch == 1 + done.validation.index(min(done.validation))


@pytest.mark.parametrize("steps", [4, 5, 9, 16])
def test_the_choice_survives_a_stop(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, resumed = initial(), initial()
    expected = train(whole, make_task(tmp_path / "a", validation=VALIDATION))
    with monkeypatch.context() as patched:
        stop_after(patched, steps)
        with pytest.raises(Stopped):
            train(initial(), make_task(tmp_path / "b", validation=VALIDATION))
    done = train(resumed, make_task(tmp_path / "b", validation=VALIDATION))
    assert (done.validation, done.best_epoch) == (expected.validation, expected.best_epoch)
    assert same(whole, resumed)


def test_lost_best_weights_start_the_run_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(initial(), make_task(tmp_path / "a", validation=VALIDATION))
    with monkeypatch.context() as patched:
        stop_after(patched, 10)
        with pytest.raises(Stopped):
            train(initial(), make_task(tmp_path / "b", validation=VALIDATION))
    _truncate(tmp_path / "b" / checkpoint.BEST, tmp_path)
    task = make_task(tmp_path / "b", validation=VALIDATION)
    assert train(initial(), task).validation == expected.validation
    assert told(task)[-1].endswith("the run starts from the beginning")


def test_answers_that_are_not_finite_are_divergence(tmp_path: Path) -> None:
    task = make_task(tmp_path, validation=VALIDATION)
    task.features[VALIDATION] = np.nan
    with pytest.raises(Diverged, match="not finite"):
        train(initial(), task)
