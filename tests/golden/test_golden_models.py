"""Models and front ends against what their authors' packages computed once: see `nox -s parity`."""

from __future__ import annotations

import frontend_cases
import golden_store
import known_weights
import numpy as np
import pytest
from frontend_cases import FrontendCase, thinned_frames
from model_cases import SMALL, BaselineCase, PasstCase
from passt_mistakes import MISTAKES

PASST = {case.name: case for case in SMALL if isinstance(case, PasstCase)}


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.family} {case.name}")
def test_computes_what_the_peer_computed(case: PasstCase | BaselineCase) -> None:
    net = case.build()
    wanted = golden_store.weights(case.family)[case.name]
    assert known_weights.digest(net) == wanted, "other weights"
    found = known_weights.thinned(case.ours(net))
    difference, part = golden_store.worst(found, golden_store.read(case.family, case.name))
    assert difference <= case.tolerance, part


@pytest.mark.parametrize("case", frontend_cases.SMALL, ids=lambda case: case.name)
def test_hears_what_the_peer_heard(case: FrontendCase) -> None:
    found = thinned_frames(case.ours())
    difference, part = golden_store.worst(found, golden_store.read("frontends", case.name))
    assert difference <= 1e-4, part


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_shows(name: str) -> None:
    plant, in_training = MISTAKES[name]
    case = PASST["training-all" if in_training else "s10"]
    net = case.build()
    plant(net, case)
    found = known_weights.thinned(case.ours(net))
    wanted = golden_store.read("passt", case.name)
    assert golden_store.difference(found["logits"], wanted["logits"]) > 5 * case.tolerance


def test_known_numbers_are_known() -> None:
    draw = known_weights.numbers("blocks.0.norm1.weight", (3,))
    assert draw.dtype == np.float32
    assert np.array_equal(draw, known_weights.numbers("blocks.0.norm1.weight", (7,))[:3])
    many = known_weights.numbers("many", (100_001,))
    assert -1 <= many.min() < -0.999 and 0.999 < many.max() < 1
    assert abs(many.mean()) < 0.01 and abs(many.std() - 3**-0.5) < 0.01
    assert sorted(known_weights.permutation("order", 50)) == list(range(50))


def test_a_missing_case_is_named() -> None:
    with pytest.raises(AssertionError, match="no stride 11 in ast"):
        golden_store.read("ast", "stride 11")
