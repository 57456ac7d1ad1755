"""Every registered component keeps its contract, and the contract notices one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from passt_bench.models import AudioModel
from passt_bench.models.base import fill_normal
from passt_bench.models.testing import (
    ContractError,
    FrontEndContract,
    ModelContract,
    PatchoutContract,
)
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


class WrongShape(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x, kept).unsqueeze(1)


class HalfFilled(Plain):
    def init_parameter(self, name: str, parameter: torch.Tensor, generator: Any) -> None:
        if name != "head.bias":
            super().init_parameter(name, parameter, generator)


class GlobalSeed(Plain):
    def init_parameter(self, name: str, parameter: torch.Tensor, generator: Any) -> None:
        nn.init.normal_(parameter)


class HiddenState(Plain):
    def __init__(self, num_classes: int, options: Any, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.secret = torch.randn(())

    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x, kept) + self.secret.to(x.device)


class Dropout(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return nn.functional.dropout(super().forward(x, kept))


class MixesClips(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x - x.mean(0), kept)


class DeadWeight(Plain):
    def __init__(self, num_classes: int, options: Any, *, mels: int, frames: int) -> None:
        super().__init__(num_classes, options, mels=mels, frames=frames)
        self.spare = nn.Linear(2, 2)


class IgnoresKept(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x)


class TimeMajor(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        columns = x.shape[3] // 8
        if kept is not None:
            kept = (kept % 8) * columns + kept // 8
        return super().forward(x, kept if kept is None else kept.clamp(max=62))


class AlwaysDrops(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        half = kept is None and self.patchout.kind != "none"
        return super().forward(x, torch.arange(32) if half else kept)


class NoPatches(Plain):
    """Says that it has none, takes kept ones all the same, and refuses no patchout."""

    def grid(self, frames: int) -> tuple[int, int] | None:
        return None

    def step_inputs(self, *arguments: Any) -> dict[str, Any]:
        return {}


Planted = Callable[[type[Plain]], ModelContract]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Planted:
    """Registers a model until the test ends; its contract."""
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))

    def plant(kind: type[Plain]) -> ModelContract:
        contract = ModelContract()
        contract.model = f"planted {kind.__name__}"
        MODELS.register(contract.model, version=1, summary="to be spoilt")(kind)
        return contract

    return plant


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (WrongShape, "test_shapes"),
        (HalfFilled, "test_initial_weights"),
        (GlobalSeed, "test_initial_weights"),
        (HiddenState, "test_state"),
        (Dropout, "test_evaluation"),
        (MixesClips, "test_evaluation"),
        (DeadWeight, "test_gradients"),
        (IgnoresKept, "test_kept_patches"),
        (IgnoresKept, "test_input_of_kept_patches"),
        (TimeMajor, "test_input_of_kept_patches"),
        (AlwaysDrops, "test_own_patchout"),
        (NoPatches, "test_kept_patches"),
        (NoPatches, "test_own_patchout"),
    ],
)
def test_what_breaks_the_contract_is_noticed(
    kind: type[Plain], check: str, planted: Planted
) -> None:
    with pytest.raises(ContractError):
        getattr(planted(kind), check)()


def test_what_keeps_the_contract_passes(planted: Planted) -> None:
    contract = planted(Plain)
    for name in (name for name in vars(ModelContract) if name.startswith("test_")):
        getattr(contract, name)()
