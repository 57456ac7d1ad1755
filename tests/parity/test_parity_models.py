"""Our models against their authors' packages, with the same weights and the same input.

Ten mistakes planted into our PaSST must each fail the comparison that the right one passes.
"""

from __future__ import annotations

import known_weights
import peers
import pytest
from model_cases import BASELINES, RELEASED, SMALL, TRAINING, BaselineCase, PasstCase
from passt_mistakes import IN_TRAINING, MISTAKES

TITLES = {
    "ast": "AST against transformers",
    "cnn14": "CNN14 against panns_inference",
    "mobilenetv3": "MobileNetV3 against torchvision",
}
EVALUATED = next(case for case in RELEASED if case.name == "AudioSet, stride 16")
TRAINED = next(case for case in TRAINING if case.name == "both kinds at once")
SECTIONS = (
    *(("PaSST as released, evaluation", case) for case in RELEASED),
    *(("PaSST in training", case) for case in TRAINING),
    *((TITLES[case.family], case) for case in BASELINES),
)


@pytest.mark.parametrize("case", SMALL, ids=lambda case: f"{case.family} {case.name}")
def test_small(case: PasstCase | BaselineCase, table, golden) -> None:
    section, name = TITLES.get(case.family, "PaSST, small (golden)"), case.name
    name = f"{name} (golden)" if case.family in TITLES else name
    net = case.build()
    digest = known_weights.digest(net)
    theirs = peers.model_outputs(case, net)
    table.check(section, name, case.ours(net), theirs, case.tolerance)
    golden.hold(case.family, case.name, known_weights.thinned(theirs), digest, case.tolerance)


@pytest.mark.parametrize(("section", "case"), SECTIONS, ids=lambda it: getattr(it, "name", ""))
def test_full_size(section: str, case: PasstCase | BaselineCase, table) -> None:
    net = case.build()
    theirs = peers.model_outputs(case, net)
    table.check(section, case.name, case.ours(net), theirs, case.tolerance)


@pytest.fixture(scope="module")
def right() -> dict[bool, dict]:
    return {case.training: peers.model_outputs(case, case.build()) for case in (EVALUATED, TRAINED)}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_fails(name: str, right: dict[bool, dict], table) -> None:
    plant = MISTAKES[name]
    case = TRAINED if plant in IN_TRAINING else EVALUATED
    net = case.build()
    plant(net, case)
    table.check("Planted mistakes", name, case.ours(net), right[case.training], case.tolerance)
