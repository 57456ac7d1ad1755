"""Half precision and compilation in training."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.measure.memory import saved_for_backward
from passt_bench.models import create_model
from passt_bench.spec import EngineSpec, ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.engine import Engine, check_engine
from passt_bench.training.evaluate import predict
from passt_bench.training.loop import train
from passt_bench.training.state import Progress, Task

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(16, 32, 32)).astype(np.float32)
TARGETS = (RANDOM.random((16, 3)) < 0.4).astype(np.float32)
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    patchout=Patchout("unstructured", rate=0.5),
    training=TrainingSpec(epochs=2, batch_size=8),
)


def _train(engine: EngineSpec, folder: Path, epochs: int = 2) -> tuple[Progress, torch.Tensor]:
    training = replace(RECIPE.training, epochs=epochs)
    recipe = replace(RECIPE, engine=engine, training=training)
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)
    folder.mkdir(exist_ok=True)
    task = Task("k", recipe, 0, FEATURES, TARGETS, np.arange(16), folder, checkpoint_seconds=0.0)
    progress = train(net, task)
    return progress, net.head[1].weight.detach()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_like_float32_at_first(precision: str, tmp_path: Path) -> None:
    whole, _ = _train(EngineSpec(), tmp_path / "whole")
    half, weight = _train(EngineSpec(precision=precision), tmp_path / "half")
    assert half.train_loss == pytest.approx(whole.train_loss, rel=0.02)
    assert half.train_loss != whole.train_loss
    assert weight.dtype == torch.float32


def test_the_scaler_goes_into_the_checkpoint(tmp_path: Path) -> None:
    engine = EngineSpec(precision="float16")
    _train(engine, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["parts"]["scaler"]["scale"] == 65536.0
    _train(EngineSpec(), tmp_path / "float32")
    plain = torch.load(tmp_path / "float32" / "checkpoint.pt", weights_only=True)
    assert set(plain["parts"]) == {"optimizer"}


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
def test_outputs_are_those_of_the_plain_model(engine: dict[str, object], tolerance: float) -> None:
    """As a share of the largest logit, with the same weights on the same input."""
    x = torch.from_numpy(FEATURES[:4]).unsqueeze(1)
    answers = []
    for spec in (EngineSpec(), EngineSpec(**engine)):
        net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32).eval()
        chosen = Engine(spec)
        with torch.no_grad(), chosen.autocast():
            answers.append(chosen.prepare(net)(x).float())
    plain, other = answers
    assert (other - plain).abs().max() <= tolerance * plain.abs().max()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_evaluation_computes_as_declared(precision: Any) -> None:
    """In the precision, attention and residual stream of the engine, and never compiled."""
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32).eval()
    plain = predict(net, FEATURES, np.arange(16))
    spec = EngineSpec(precision=precision, attention="materialised", residual="compute")
    found = predict(net, FEATURES, np.arange(16), Engine(replace(spec, compile=True)))
    call = Engine(spec).prepare(net)
    with torch.no_grad(), Engine(spec).autocast():
        wanted = call(torch.from_numpy(FEATURES).unsqueeze(1)).float().numpy()
    np.testing.assert_array_equal(found, wanted)
    assert (found != plain).any()
    np.testing.assert_allclose(found, plain, atol=0.05 * np.abs(plain).max())


def test_materialised_attention_is_kept_for_backward() -> None:
    x, saved = torch.from_numpy(FEATURES).unsqueeze(1), []
    for attention in ("fused", "materialised"):
        net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)
        call = Engine(EngineSpec(attention=attention)).prepare(net)
        saved.append(saved_for_backward(partial(call, x), net.parameters()))
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
        "cuda, 1 thread, bfloat16, residual stream in bfloat16, compiled, one CUDA graph a step"
    )
