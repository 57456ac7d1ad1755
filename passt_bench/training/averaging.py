"""Stochastic weight averaging: the mean of the weights at the beginning of some epochs.

As in ``helpers/swa_callback.py`` of the reference code it only averages: the rate and the training
itself are as without it. The published start of 50 is counted from 1, here it is 49: snapshots at
the beginning of the epochs 49, 54, …, 129 of 130 counted from 0, that is after so many epochs, 17
of equal weight.

The running means and variances of BatchNorm are averaged like weights (the reference code averages
parameters alone, and its models have no BatchNorm). Estimating them anew for the averaged weights
would be exacter, at the cost of another pass over the training clips.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from passt_bench.errors import InputError
from passt_bench.spec.recipe import TrainingSpec

Weights = dict[str, torch.Tensor]


def snapshot_epochs(training: TrainingSpec) -> range:
    """The epochs, counted from 0, at whose beginning the weights enter the mean."""
    if training.swa_start is None:
        return range(0)
    return range(training.swa_start, training.epochs, training.swa_every)


def check_averaging(training: TrainingSpec) -> None:
    """Refuses a mean that nothing would enter.

    Raises:
        InputError: it starts behind the last epoch, or it is tested and not taken.
    """
    if training.swa_start is not None and not snapshot_epochs(training):
        raise InputError(
            f"the training has ended after epoch {training.epochs - 1}, counted from 0",
            field="training.swa_start",
            value=training.swa_start,
            remedy="Begin to average earlier, or train for longer.",
        )
    if training.swa_start is None and training.tested == "swa":
        raise InputError(
            "averaged weights are to be tested, and none are taken",
            field="training.tested",
            value="swa",
            remedy="Set training.swa_start to an epoch, or test 'last'.",
        )


class Average:
    """The equal-weight mean of some states of a model.

    Attributes:
        count: of the states.
        weights: the mean, by name; whole numbers are those of the last state.
    """

    def __init__(self) -> None:
        self.count = 0
        self.weights: Weights = {}

    @torch.no_grad()
    def add(self, net: nn.Module) -> None:
        """Takes in the model as it is."""
        for name, value in net.state_dict().items():
            mean = self.weights.get(name)
            if mean is None or not value.is_floating_point():
                self.weights[name] = value.clone()
            else:
                mean += (value - mean) / (self.count + 1)
        self.count += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"count": self.count, "weights": self.weights}

    def load(self, state: dict[str, Any], device: str) -> None:
        """Goes on from what a checkpoint kept."""
        self.count = int(state["count"])
        self.weights = {name: value.to(device) for name, value in state["weights"].items()}


def copy_of(net: nn.Module) -> Weights:
    """The weights and buffers of a model, apart from it."""
    return {name: value.clone() for name, value in net.state_dict().items()}


@contextmanager
def wearing(net: nn.Module, weights: Weights) -> Iterator[None]:
    """The model with other weights, for a while."""
    own = copy_of(net)
    net.load_state_dict(weights)
    try:
        yield
    finally:
        net.load_state_dict(own)
