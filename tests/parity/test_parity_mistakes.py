"""Ten mistakes planted into our PaSST: each must fail the comparison that the right one passes."""

from __future__ import annotations

import peers
import pytest
from passt_cases import RELEASED, TRAINING, PasstCase
from passt_mistakes import MISTAKES

EVALUATED = next(case for case in RELEASED if case.name == "AudioSet, stride 16")
TRAINED = next(case for case in TRAINING if case.name == "both kinds at once")


@pytest.fixture(scope="module")
def right() -> dict[bool, dict]:
    return {case.training: peers.passt_outputs(case, case.build()) for case in (EVALUATED, TRAINED)}


@pytest.mark.parametrize("name", MISTAKES)
def test_fails(name: str, right: dict[bool, dict], table) -> None:
    plant, in_training = MISTAKES[name]
    case: PasstCase = TRAINED if in_training else EVALUATED
    net = case.build()
    with plant(net, case):
        ours = case.ours(net)
    table.mistake(name, ours, right[in_training], 1e-4 if in_training else 1e-5)
