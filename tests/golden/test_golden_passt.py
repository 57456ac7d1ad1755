"""PaSST against what the authors' package computed once: see `nox -s parity`."""

from __future__ import annotations

import golden_store
import known_weights
import numpy as np
import pytest
from computing import thinned
from passt_cases import SMALL, PasstCase
from passt_mistakes import MISTAKES

CASES = {case.name: case for case in SMALL}


def tolerance(case: PasstCase) -> float:
    return 1e-4 if case.training else 1e-5


@pytest.mark.parametrize("case", SMALL, ids=CASES)
def test_computes_what_the_official_code_computed(case: PasstCase) -> None:
    net = case.build()
    assert known_weights.digest(net) == golden_store.weights("passt")[case.name], "other weights"
    found = thinned(case.ours(net))
    difference, part = golden_store.worst(found, golden_store.read("passt", case.name))
    assert difference <= tolerance(case), part


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_shows(name: str) -> None:
    plant, in_training = MISTAKES[name]
    case = CASES["training-all" if in_training else "s10"]
    net = case.build()
    with plant(net, case):
        found = thinned(case.ours(net))
    wanted = golden_store.read("passt", case.name)
    assert golden_store.difference(found["logits"], wanted["logits"]) > 5 * tolerance(case)


def test_known_numbers_are_known() -> None:
    draw = known_weights.numbers("blocks.0.norm1.weight", (3,))
    assert draw.dtype == np.float32
    assert np.array_equal(draw, known_weights.numbers("blocks.0.norm1.weight", (7,))[:3])
    many = known_weights.numbers("many", (100_001,))
    assert -1 <= many.min() < -0.999 and 0.999 < many.max() < 1
    assert abs(many.mean()) < 0.01 and abs(many.std() - 3**-0.5) < 0.01
    assert sorted(known_weights.permutation("order", 50)) == list(range(50))
