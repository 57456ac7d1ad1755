"""Models and front ends against what their authors' packages computed once: see `nox -s parity`."""

from __future__ import annotations

import frontend_cases
import golden_store
import known_weights
import pytest
from frontend_cases import FrontendCase, thinned_frames
from model_cases import SMALL, BaselineCase, PasstCase
from passt_mistakes import IN_TRAINING, MISTAKES

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
    assert difference <= frontend_cases.ACROSS_MACHINES, part


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_shows(name: str) -> None:
    plant = MISTAKES[name]
    case = PASST["training-all" if plant in IN_TRAINING else "s10"]
    net = case.build()
    plant(net, case)
    found = known_weights.thinned(case.ours(net))
    wanted = golden_store.read("passt", case.name)
    assert golden_store.difference(found["logits"], wanted["logits"]) > 5 * case.tolerance
