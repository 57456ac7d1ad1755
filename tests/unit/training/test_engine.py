"""Half precision and compilation in training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import make_task, trained

from passt_bench.errors import InputError
from passt_bench.measure.memory import saved_for_backward
from passt_bench.models import create_model
from passt_bench.spec import EngineSpec
from passt_bench.training.engine import Engine, check_engine
from passt_bench.training.evaluate import predict
from passt_bench.training.state import Training

X = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def _net() -> torch.nn.Module:
    return create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)


def _train(engine: EngineSpec, folder: Path) -> Training:
    task = make_task(folder)
    task.recipe = replace(task.recipe, engine=engine)
    return trained(task)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_like_float32_at_first(precision: Any, tmp_path: Path) -> None:
    whole = _train(EngineSpec(), tmp_path / "whole").progress
    half = _train(EngineSpec(precision=precision), tmp_path / "half")
    assert half.progress.train_loss == pytest.approx(whole.train_loss, rel=0.02)
    assert half.progress.train_loss != whole.train_loss
    assert {value.dtype for value in half.net.parameters()} == {torch.float32}
    for folder, scaled in (("half", precision == "float16"), ("whole", False)):
        state = torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)
        assert set(state["parts"]) == {"optimizer"} | ({"scaler"} if scaled else set())
        assert not scaled or state["parts"]["scaler"]["scale"] == 65536.0


def test_float32_is_left_alone() -> None:
    engine = Engine(EngineSpec())
    net = torch.nn.Linear(2, 2)
    assert engine.prepare(net) is net
    assert not engine.make_scaler().is_enabled()
    with engine.autocast():
        assert net(torch.ones(1, 2)).dtype == torch.float32


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


@pytest.mark.parametrize(
    "engine", [{"graph": True}, {"graph": True, "device": "cuda", "precision": "float16"}], ids=str
)
def test_a_graph_that_cannot_work_is_refused(engine: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        check_engine(EngineSpec(**engine))
    assert (caught.value.field, caught.value.value) == ("engine.graph", True)


def test_an_engine_describes_itself() -> None:
    assert EngineSpec(threads=2).describe() == "cpu, 2 threads, float32"
    spec = EngineSpec("cuda", 1, "bfloat16", compile=True, residual="compute", graph=True)
    assert spec.describe() == (
        "cuda, 1 thread, bfloat16, residual stream in bfloat16, compiled, one CUDA graph per step"
    )
