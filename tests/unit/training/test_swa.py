"""Averaged weights: which epochs, what mean, exact after a stop, and metrics of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import VALIDATION, equal, make_task, stopped, trained

from passt_bench.errors import InputError
from passt_bench.models import create_model
from passt_bench.spec import Patchout, TrainingSpec
from passt_bench.training.state import (
    Average,
    Progress,
    Training,
    copy_of,
    snapshot_epochs,
    temporarily_load,
)

BASE = TrainingSpec(epochs=6, batch_size=8, mixup=0.3, swa_start=1, swa_every=2)
Weights = dict[str, torch.Tensor]


def _net() -> torch.nn.Module:
    """A model with running statistics, which are averaged too."""
    return create_model("panns_micro", 3, mels=16, frames=32, width=2, depth=1)


def _trained(folder: Path, training: TrainingSpec = BASE, **changes: Any) -> Training:
    return trained(make_task(folder, training, Patchout(), **changes), _net())


def test_the_published_epochs() -> None:
    published = TrainingSpec(epochs=130, swa_start=49, swa_every=5)
    assert list(snapshot_epochs(published)) == list(range(49, 130, 5))
    assert len(snapshot_epochs(published)) == 17
    assert not snapshot_epochs(TrainingSpec())


def test_it_is_the_mean_of_the_weights_at_the_beginning_of_those_epochs(tmp_path: Path) -> None:
    ends: list[Weights] = []
    net = _net()
    state = trained(
        make_task(tmp_path, BASE, Patchout()),
        net,
        on_epoch=lambda progress: ends.append(copy_of(net)),
    )
    assert state.average is not None
    assert state.average.count == 3  # epochs 1, 3 and 5 begin where 0, 2 and 4 have ended
    for name, mean in state.average.weights.items():
        values = [ends[epoch][name] for epoch in (0, 2, 4)]
        if mean.is_floating_point():
            expected = torch.stack(values).double().mean(dim=0)
            torch.testing.assert_close(mean.double(), expected, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(mean, values[-1])  # counts of batches
    assert any("running_var" in name for name in state.average.weights)


def test_averaging_changes_nothing_of_the_training(tmp_path: Path) -> None:
    plain = _trained(tmp_path / "a", replace(BASE, swa_start=None))
    averaged = _trained(tmp_path / "b")
    assert plain.other_weights is None
    assert plain.progress.train_loss == averaged.progress.train_loss
    assert equal(copy_of(plain.net), copy_of(averaged.net))


def test_eval_weights_says_which_are_left_in_the_model(tmp_path: Path) -> None:
    last = _trained(tmp_path / "a")
    swa = _trained(tmp_path / "b", replace(BASE, eval_weights="swa"))
    assert last.other_weights is not None
    assert swa.other_weights is not None
    assert (last.other_weights[0], swa.other_weights[0]) == ("swa", "last")
    assert equal(copy_of(swa.net), last.other_weights[1])
    assert equal(copy_of(last.net), swa.other_weights[1])
    assert not equal(copy_of(last.net), copy_of(swa.net))


@pytest.mark.parametrize("kind", ["last", "swa"])
@pytest.mark.parametrize("steps", [3, 4, 13])
def test_it_resumes_exactly(
    tmp_path: Path, steps: int, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = replace(BASE, eval_weights=kind)
    whole = _trained(tmp_path / "a", training)
    stopped(monkeypatch, steps, make_task(tmp_path / "b", training, Patchout()), _net())
    resumed = _trained(tmp_path / "b", training)
    assert resumed.average is not None
    assert whole.average is not None
    assert resumed.average.count == whole.average.count == 3
    assert equal(resumed.average.weights, whole.average.weights)
    assert equal(copy_of(resumed.net), copy_of(whole.net))


def test_a_checkpoint_without_an_average_does_not_serve(tmp_path: Path) -> None:
    told: list[str] = []
    _trained(tmp_path, replace(BASE, swa_start=None))
    state = _trained(tmp_path, warn=told.append)
    assert state.average is not None
    assert state.average.count == 3
    assert "does not fit" in told[0]


def test_the_epoch_is_chosen_by_the_weights_that_are_evaluated(tmp_path: Path) -> None:
    training = replace(
        BASE,
        eval_weights="swa",
        checkpoint_selection="best_on_validation",
        swa_start=0,
        swa_every=1,
    )
    chosen: list[Weights] = []

    def on_epoch(progress: Progress) -> None:
        best = torch.load(tmp_path / "best.pt", weights_only=True)
        assert best["epoch"] == progress.best_epoch
        chosen.append(best["net"])

    net = _net()
    state = trained(
        make_task(tmp_path, training, Patchout(), validation=VALIDATION), net, on_epoch=on_epoch
    )
    assert state.average is not None
    assert equal(copy_of(net), chosen[-1])
    assert state.other_weights is not None
    first = _trained(tmp_path / "first", replace(training, epochs=1, checkpoint_selection="last"))
    assert equal(chosen[0], copy_of(first.net))  # after one epoch: the weights it began with


def test_other_weights_are_loaded_temporarily() -> None:
    net = _net().eval()
    own = copy_of(net)
    other = {name: torch.zeros_like(value) for name, value in own.items()}
    with temporarily_load(net, other):
        assert equal(copy_of(net), other)
    assert equal(copy_of(net), own)


def test_one_state_is_its_own_mean() -> None:
    net, average = _net(), Average()
    average.add(net)
    assert equal(average.weights, copy_of(net))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"swa_start": 6}, "training.swa_start = 6: must be at most 5"),
        (
            {"swa_start": None, "eval_weights": "swa"},
            "training.eval_weights = 'swa': .*training.swa_start is not set",
        ),
    ],
)
def test_a_mean_of_nothing_is_refused(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _trained(tmp_path, replace(BASE, **changes))
