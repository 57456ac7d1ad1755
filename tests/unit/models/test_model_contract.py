"""Every registered model keeps the contract, and the contract notices one that does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from passt_bench.errors import InputError
from passt_bench.models import build_model
from passt_bench.models import testing as c
from passt_bench.models.base import fill_normal
from passt_bench.models.testing import CHECKS, ContractError, Subject
from passt_bench.registry import MODELS
from passt_bench.spec import Patchout
from passt_bench.spec.frontends import frontend_of

PATCHES = {"patch": (8, 8), "stride": (8, 8), "width": 24, "depth": 1, "heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "ast": PATCHES,
    "passt": PATCHES,
    "cnn": {"width": 4},
    "cp": {"width": 4},
    "mobilenetv3": {"multiplier": 0.5},
}
NAMES = [model.name for model in MODELS.all() if not model.packages]  # no plug-in's


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_models(name: str, check: Callable[[Subject], None]) -> None:
    family = name.split("_")[0].rstrip("0123456789") if name not in SMALL else name
    check(Subject(name, SMALL.get(family, {})))


@pytest.mark.parametrize("name", NAMES)
def test_full_size_gives_logits_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        net = build_model(name, 527)
        x = torch.empty(2, 1, frontend_of(name).mels, 998)
    assert net.eval()(x).shape == (2, 527)


class Plain(nn.Module):
    """A model that keeps the contract, to be spoilt in one way at a time."""

    special_tokens, patch, stride = 0, (8, 8), (8, 8)

    def __init__(self, classes: int, patchout: Patchout) -> None:
        super().__init__()
        self.embed = nn.Linear(64, 8)
        self.head = nn.Linear(8, classes)
        self.patchout = patchout

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

    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        fill_normal(parameter, 0.1, generator)


class WrongShape(Plain):
    def forward(self, x: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        return super().forward(x, kept).unsqueeze(1)


class HalfFilled(Plain):
    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        if name != "head.bias":
            super().fill(name, parameter, generator)


class GlobalSeed(Plain):
    def fill(self, name: str, parameter: torch.Tensor, generator: torch.Generator) -> None:
        nn.init.normal_(parameter)


class HiddenState(Plain):
    def __init__(self, classes: int, patchout: Patchout) -> None:
        super().__init__(classes, patchout)
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
    def __init__(self, classes: int, patchout: Patchout) -> None:
        super().__init__(classes, patchout)
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
    def grid(self, frames: int) -> tuple[int, int] | None:
        return None


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (WrongShape, c.check_shapes),
        (HalfFilled, c.check_initial_weights),
        (GlobalSeed, c.check_initial_weights),
        (HiddenState, c.check_state),
        (Dropout, c.check_evaluation),
        (MixesClips, c.check_evaluation),
        (DeadWeight, c.check_gradients),
        (IgnoresKept, c.check_kept_patches),
        (IgnoresKept, c.check_input_of_kept_patches),
        (TimeMajor, c.check_input_of_kept_patches),
        (AlwaysDrops, c.check_own_patchout),
        (NoPatches, c.check_kept_patches),
        (NoPatches, c.check_own_patchout),
    ],
)
def test_what_breaks_the_contract_is_noticed(
    kind: type[Plain], check: Callable[[Subject], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODELS, "_table", dict(MODELS._table))

    def build(
        num_classes: int, *, mels: int, frames: int, patchout: Patchout | None = None
    ) -> nn.Module:
        return made(num_classes, patchout or Patchout())

    MODELS.register("planted", version=1, summary="to be spoilt")(build)
    made: type[Plain] = Plain
    for every in CHECKS:
        every(Subject("planted"))
    made = kind
    with pytest.raises(ContractError):
        check(Subject("planted"))


def test_what_a_builder_does_not_take_is_bad_input() -> None:
    with pytest.raises(InputError, match=r"model\.heads = 3.*It takes: depth, width"):
        build_model("panns_micro", 5, mels=64, frames=64, heads=3)
    with pytest.raises(InputError, match=r"patchout\.kind = 'time'.*no patches to drop"):
        build_model("panns_micro", 5, mels=64, frames=64, patchout=Patchout("time", rate=0.5))
