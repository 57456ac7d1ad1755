"""Every registered component keeps its contract, and the contract notices one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from passt_bench.errors import ContractError
from passt_bench.models import AudioModel
from passt_bench.models.base import fill_normal
from passt_bench.models.testing import FrontEndContract, ModelContract, PatchoutContract
from passt_bench.registry import FRONTENDS, MODELS, PATCHOUTS
from passt_bench.spec import FrontendSpec, Patchout
from passt_bench.spec.frontends import ast_frontend, panns_frontend

PATCHES = {"patch": (8, 8), "stride": (8, 8), "width": 24, "depth": 1, "heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "ast": PATCHES,
    "passt": PATCHES,
    "cnn": {"width": 4},
    "cp": {"width": 4},
    "mobilenetv3": {"width_mult": 0.5},
}
NAMES = [model.name for model in MODELS.all() if not model.packages]  # no plug-in's
KINDS = [kind.name for kind in PATCHOUTS.all()]
SPECS = (FrontendSpec(), ast_frontend(), panns_frontend())


class TestModels(ModelContract):
    @pytest.fixture(autouse=True, params=NAMES)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.model = request.param
        family = self.model.split("_")[0]
        self.options = SMALL.get(family) or SMALL.get(family.rstrip("0123456789"), {})


class TestPatchoutKinds(PatchoutContract):
    @pytest.fixture(autouse=True, params=KINDS)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        kind = request.param
        self.setting = Patchout(kind) if kind == "none" else Patchout(kind, rate=0.5)


class TestFrontEnds(FrontEndContract):
    @pytest.fixture(autouse=True, params=SPECS, ids=lambda spec: spec.name)
    def _choose(self, request: pytest.FixtureRequest) -> None:
        self.spec = request.param


def test_every_front_end_is_checked() -> None:
    assert [spec.name for spec in sorted(SPECS, key=lambda spec: spec.name)] == [
        frontend.name for frontend in FRONTENDS.all()
    ]


class Plain(AudioModel):
    """A model that keeps the contract, to be spoilt in one way at a time."""

    patch = stride = (8, 8)

    def __init__(self, num_classes: int, options: Any, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.embed = nn.Linear(64, 8)
        self.head = nn.Linear(8, num_classes)

    def grid(self, frames: int) -> tuple[int, int] | None:
        return 8, frames // 8

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        B, _, _, T = x.shape
        patches = x.reshape(B, 8, 8, T // 8, 8).transpose(2, 3).reshape(B, T, 64)
        if kept is None and self.training and self.patchout.kind != "none":
            kept = torch.randperm(T)[: T // 2]
        if kept is not None:
            kept = kept.expand(B, -1).unsqueeze(2)
            patches = patches.gather(1, kept.expand(-1, -1, 64))
        return self.head(torch.relu(self.embed(patches)).mean(1))

    def init_parameter(self, name: str, parameter: torch.Tensor, generator: Any) -> None:
        fill_normal(parameter, 0.1, generator)


def _drop_half(self: Plain, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    half = kept is None and self.patchout.kind != "none"
    return PLAIN(self, x, torch.arange(32) if half else kept)


def _time_major(self: Plain, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
    columns = x.shape[3] // 8
    kept = kept if kept is None else ((kept % 8) * columns + kept // 8).clamp(max=62)
    return PLAIN(self, x, kept)


def _half_filled(self: Plain, name: str, parameter: torch.Tensor, generator: Any) -> None:
    if name != "head.bias":
        fill_normal(parameter, 0.1, generator)


class HiddenState(Plain):
    def __init__(self, *arguments: Any, **size: Any) -> None:
        super().__init__(*arguments, **size)
        self.secret = torch.randn(())

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x, kept) + self.secret.to(x.device)


class DeadWeight(Plain):
    def __init__(self, *arguments: Any, **size: Any) -> None:
        super().__init__(*arguments, **size)
        self.spare = nn.Linear(2, 2)


class Biased(Plain):
    init_parameter = AudioModel.init_parameter

    def __init__(self, *arguments: Any, **size: Any) -> None:
        super().__init__(*arguments, **size)
        nn.init.constant_(self.head.bias, -2.0)


PLAIN = Plain.forward
SPOILT: list[tuple[str, dict[str, Any] | type[Plain], str]] = [
    ("shape", {"forward": lambda self, x, kept=None: PLAIN(self, x, kept)[:, None]}, "shapes"),
    ("not filled", {"init_parameter": _half_filled}, "initial_weights"),
    ("global seed", {"init_parameter": lambda self, n, p, g: p.normal_()}, "initial_weights"),
    ("loses a bias", Biased, "own_initial_values"),
    ("hidden state", HiddenState, "state"),
    (
        "dropout",
        {"forward": lambda self, x, kept=None: nn.functional.dropout(PLAIN(self, x, kept))},
        "evaluation",
    ),
    (
        "mixes clips",
        {"forward": lambda self, x, kept=None: PLAIN(self, x - x.mean(0), kept)},
        "evaluation",
    ),
    ("dead weight", DeadWeight, "gradients"),
    *(
        ("ignores kept", {"forward": lambda self, x, kept=None: PLAIN(self, x)}, check)
        for check in ("kept_patches", "input_of_kept_patches")
    ),
    ("time-major", {"forward": _time_major}, "input_of_kept_patches"),
    ("always drops", {"forward": _drop_half}, "own_patchout"),
    # Says that it has no patches, takes kept ones all the same, and refuses no patchout.
    *(
        ("no patches", {"grid": lambda self, frames: None, "step_inputs": lambda *_: {}}, check)
        for check in ("kept_patches", "own_patchout")
    ),
]


Planted = Callable[[type[Plain]], ModelContract]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))

    def plant(kind: type[Plain]) -> ModelContract:
        contract = ModelContract()
        contract.model = f"planted {kind.__name__}"
        MODELS.register(contract.model, version=1, summary="to be spoilt")(kind)
        return contract

    return plant


@pytest.mark.parametrize(("name", "change", "check"), SPOILT)
def test_what_breaks_the_contract_is_noticed(
    name: str, change: dict[str, Any] | type[Plain], check: str, planted: Planted
) -> None:
    kind = type(name, (Plain,), change) if isinstance(change, dict) else change
    with pytest.raises(ContractError):
        getattr(planted(kind), f"test_{check}")()


def test_what_keeps_the_contract_passes(planted: Planted) -> None:
    contract = planted(Plain)
    for name in (name for name in vars(ModelContract) if name.startswith("test_")):
        getattr(contract, name)()
