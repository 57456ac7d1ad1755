"""Averaged weights: which epochs, what mean, exact after a stop, and metrics of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import VALIDATION, equal, make_task, stopped, trained

from passt_bench.models import create_model
from passt_bench.spec import Patchout, TrainingSpec
from passt_bench.training.state import (
    Progress,
    Training,
    Weights,
    copy_of,
    snapshot_epochs,
)

BASE = TrainingSpec(epochs=6, batch_size=8, mixup=0.3, swa_start=1, swa_every=2)


def _net() -> torch.nn.Module:
    """A model with running statistics, which are averaged too."""
    return create_model("panns_micro", 3, mels=16, frames=32, width=2, depth=1)


def _trained(folder: Path, training: TrainingSpec = BASE, **changes: Any) -> Training:
    return trained(make_task(folder, training, Patchout(), **changes), _net())


def _average(state: Training) -> Weights:
    assert state.average is not None
    assert state.average.n_averaged == len(snapshot_epochs(state.task.recipe.training))
    return state.average.module.state_dict()


def test_it_is_the_mean_of_the_weights_at_the_beginning_of_those_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = TrainingSpec(epochs=130, swa_start=49, swa_every=5)
    assert list(snapshot_epochs(published)) == list(range(49, 130, 5))
    ends: list[Weights] = []
    net = _net()
    task = make_task(tmp_path / "a", BASE, Patchout())
    state = trained(task, net, on_epoch=lambda progress: ends.append(copy_of(net)))
    for name, mean in _average(state).items():
        values = [ends[epoch][name] for epoch in (0, 2, 4)]  # epochs 1, 3 and 5 begin there
        if mean.is_floating_point():
            expected = torch.stack(values).double().mean(dim=0)
            torch.testing.assert_close(mean.double(), expected, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(mean, values[-1])  # counts of batches
    assert any("running_var" in name for name in _average(state))
    plain = _trained(tmp_path / "b", replace(BASE, swa_start=None))
    assert plain.other_weights is None
    assert plain.progress.train_loss == state.progress.train_loss  # averaging only averages
    assert equal(copy_of(plain.net), copy_of(state.net))
    # A checkpoint without an average is not used.
    assert equal(_average(_trained(tmp_path / "b")), _average(state))
    assert "does not fit" in capsys.readouterr().err


def test_it_resumes_exactly_and_eval_weights_says_which_are_left_in_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    last, swa = (
        _trained(tmp_path / "a"),
        _trained(tmp_path / "b", replace(BASE, eval_weights="swa")),
    )
    assert last.other_weights is not None and swa.other_weights is not None
    assert (last.other_weights[0], swa.other_weights[0]) == ("swa", "last")
    assert equal(copy_of(swa.net), last.other_weights[1])
    assert equal(copy_of(last.net), swa.other_weights[1])
    assert not equal(copy_of(last.net), copy_of(swa.net))
    for whole, steps in ((last, 3), (swa, 4), (swa, 13)):
        training = whole.task.recipe.training
        folder = tmp_path / str(steps)
        stopped(monkeypatch, steps, make_task(folder, training, Patchout()), _net())
        resumed = _trained(folder, training)
        assert equal(_average(resumed), _average(whole))
        assert equal(copy_of(resumed.net), copy_of(whole.net))


def test_the_epoch_is_chosen_by_the_weights_that_are_evaluated(tmp_path: Path) -> None:
    every = replace(BASE, eval_weights="swa", swa_start=0, swa_every=1)
    training = replace(every, checkpoint_selection="best_on_validation")
    chosen: list[Weights] = []

    def on_epoch(progress: Progress) -> None:
        best = torch.load(tmp_path / "best.pt", weights_only=True)
        assert best["epoch"] == progress.best_epoch
        chosen.append(best["net"])

    net = _net()
    task = make_task(tmp_path, training, Patchout(), validation=VALIDATION)
    trained(task, net, on_epoch=on_epoch)
    assert equal(copy_of(net), chosen[-1])
    first = _trained(tmp_path / "first", replace(every, epochs=1))
    assert equal(chosen[0], copy_of(first.net))  # after one epoch: the weights it began with
