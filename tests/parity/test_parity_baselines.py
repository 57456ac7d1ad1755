"""AST, CNN14 and MobileNetV3 against their peers, with the same weights and the same input."""

from __future__ import annotations

import known_weights
import pytest
from baseline_cases import FULL, SMALL, BaselineCase
from baseline_peers import baseline_outputs
from computing import thinned

TITLES = {
    "ast": "AST against transformers",
    "cnn14": "CNN14 against panns_inference",
    "mobilenetv3": "MobileNetV3 against torchvision",
}


def ident(case: BaselineCase) -> str:
    return f"{case.model} {case.name}"


@pytest.mark.parametrize("case", SMALL, ids=ident)
def test_small(case: BaselineCase, table, golden) -> None:
    net = case.build()
    digest = known_weights.digest(net)
    theirs = baseline_outputs(case, net)
    tolerance = 1e-4 if case.training else 1e-5
    table.check(TITLES[case.model], f"{case.name} (golden)", case.ours(net), theirs, tolerance)
    golden.hold(case.model, case.name, thinned(theirs), digest, tolerance)


@pytest.mark.parametrize("case", FULL, ids=ident)
def test_full_size(case: BaselineCase, table) -> None:
    net = case.build()
    theirs = baseline_outputs(case, net)
    table.check(TITLES[case.model], case.name, case.ours(net), theirs, 1e-5)
