"""The engine: losses by hand, half precision, attention kernels, and settings that cannot work."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import make_task, trained
from torch.nn import functional as F

from passt_bench.measure.memory import saved_for_backward
from passt_bench.models import create_model
from passt_bench.spec import EngineSpec
from passt_bench.training.engine import Engine, loss_of, with_known
from passt_bench.training.evaluate import predict

X = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
NAN = math.nan
TARGETS = np.array([[1, NAN, 0], [NAN, NAN, 1], [0, 1, NAN]], dtype="f4")
LOGITS = torch.tensor([[0.3, 9.0, -1.0], [7.0, -7.0, 0.2], [0.5, -0.4, 5.0]])


def test_masked_loss_is_the_mean_over_known_labels() -> None:
    targets = torch.from_numpy(TARGETS)
    known = ~targets.isnan()
    expected = float(F.binary_cross_entropy_with_logits(LOGITS[known], targets[known]))
    for form in (targets, torch.from_numpy(with_known(TARGETS))):
        logits = LOGITS.clone().requires_grad_()
        loss = loss_of("masked_bce", logits, form)
        assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
        loss.backward()  # type: ignore[no-untyped-call]
        assert logits.grad is not None
        assert torch.equal(logits.grad != 0, known)
    nothing = loss_of("masked_bce", LOGITS, torch.full((3, 3), NAN))
    assert float(nothing) == 0


def test_a_mixed_clip_has_the_mixed_loss_of_both() -> None:
    """Known in one clip alone, a label counts with that clip's share and its own target."""
    share, both = 0.7, with_known(TARGETS)
    mixed = torch.from_numpy(share * both[:1] + (1 - share) * both[2:])
    entries = F.binary_cross_entropy_with_logits(
        LOGITS[:1].expand(2, 3), torch.tensor([[1.0, 0, 0], [0, 1, 0]]), reduction="none"
    )
    weights = torch.tensor([[share, 0, share], [1 - share, 1 - share, 0]])
    expected = float((entries * weights).sum() / weights.sum())
    assert float(loss_of("masked_bce", LOGITS[:1], mixed)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "targets"), [("bce", [1.0, 0.0]), ("masked_bce", [1.0, 0.0]), ("ce", [0.7, 0.3])]
)
def test_losses_of_logits_that_are_zero(kind: str, targets: list[float]) -> None:
    found = loss_of(kind, torch.zeros(1, 2), torch.tensor([targets]))
    assert float(found) == pytest.approx(math.log(2))


def _net() -> torch.nn.Module:
    return create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_like_float32_at_first(precision: Any, tmp_path: Path) -> None:
    losses = []
    for folder, chosen in (("whole", "float32"), ("half", precision)):
        task = make_task(tmp_path / folder)
        task.recipe = replace(task.recipe, engine=EngineSpec(precision=chosen))
        done = trained(task)
        losses.append(done.progress.train_loss)
        assert {value.dtype for value in done.net.parameters()} == {torch.float32}
        parts = torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)["parts"]
        assert set(parts) == {"optimizer"} | ({"scaler"} if chosen == "float16" else set())
        assert chosen != "float16" or parts["scaler"]["scale"] == 65536.0
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]


@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [
        ({"attention": "materialised"}, 1e-5),
        ({"residual": "compute"}, 0.0),  # float32 is the compute precision
        ({"precision": "bfloat16", "residual": "compute"}, 0.05),
        ({"precision": "bfloat16", "attention": "materialised"}, 0.05),
    ],
    ids=str,
)
def test_evaluation_computes_as_declared(engine: dict[str, Any], tolerance: float) -> None:
    """And never compiled; the difference is a share of the largest logit in float32."""
    net, spec = _net().eval(), EngineSpec(**engine)
    plain = predict(net, X[:, 0].numpy(), np.arange(16))
    found = predict(net, X[:, 0].numpy(), np.arange(16), Engine(replace(spec, compile=True)))
    call = Engine(spec).prepare(net)
    with torch.no_grad(), Engine(spec).autocast():
        np.testing.assert_array_equal(found, call(X).float().numpy())
    assert np.abs(found - plain).max() <= tolerance * np.abs(plain).max()
    assert (found != plain).any() == (tolerance > 0)


def test_materialised_attention_is_kept_for_backward() -> None:
    saved = []
    for attention in ("fused", "materialised"):
        net = _net()
        call = Engine(EngineSpec(attention=attention)).prepare(net)
        saved.append(saved_for_backward(partial(call, X), net.parameters()))
    assert saved[1] > saved[0]
    net = _net()
    assert Engine(EngineSpec()).prepare(net) is net
