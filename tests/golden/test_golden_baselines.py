"""AST, CNN14, MobileNetV3 and the front ends against what their peers computed once."""

from __future__ import annotations

import frontend_cases
import golden_store
import known_weights
import pytest
from baseline_cases import SMALL, BaselineCase
from computing import thinned
from frontend_cases import FrontendCase, thinned_frames


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.model} {case.name}")
def test_computes_what_the_peer_computed(case: BaselineCase) -> None:
    net = case.build()
    assert known_weights.digest(net) == golden_store.weights(case.model)[case.name], "other weights"
    found = thinned(case.ours(net))
    difference, part = golden_store.worst(found, golden_store.read(case.model, case.name))
    assert difference <= (1e-4 if case.training else 1e-5), part


@pytest.mark.parametrize("case", frontend_cases.SMALL, ids=lambda case: case.name)
def test_hears_what_the_peer_heard(case: FrontendCase) -> None:
    found = thinned_frames(case.ours())
    difference, part = golden_store.worst(found, golden_store.read("frontends", case.name))
    assert difference <= 1e-4, part


def test_a_missing_case_is_named() -> None:
    with pytest.raises(AssertionError, match="no stride 11 in ast"):
        golden_store.read("ast", "stride 11")
