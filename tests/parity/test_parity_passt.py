"""PaSST against the authors' package, with the same weights and the same input."""

from __future__ import annotations

import known_weights
import peers
import pytest
from computing import thinned
from passt_cases import RELEASED, SMALL, TRAINING, PasstCase

EVALUATION, GRADIENTS = 1e-5, 1e-4


def tolerance(case: PasstCase) -> float:
    return GRADIENTS if case.training else EVALUATION


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_small(case: PasstCase, table, golden) -> None:
    net = case.build()
    theirs = peers.passt_outputs(case, net)
    table.check("PaSST, small (golden)", case.name, case.ours(net), theirs, tolerance(case))
    golden.hold("passt", case.name, thinned(theirs), known_weights.digest(net), tolerance(case))


@pytest.mark.parametrize("case", RELEASED, ids=lambda case: case.name)
def test_released(case: PasstCase, table) -> None:
    net = case.build()
    theirs = peers.passt_outputs(case, net)
    table.check("PaSST as released, evaluation", case.name, case.ours(net), theirs, EVALUATION)


@pytest.mark.parametrize("case", TRAINING, ids=lambda case: case.name)
def test_training(case: PasstCase, table) -> None:
    net = case.build()
    theirs = peers.passt_outputs(case, net)
    table.check("PaSST in training", case.name, case.ours(net), theirs, GRADIENTS)
