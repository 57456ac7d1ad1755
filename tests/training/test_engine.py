"""Half precision and compilation in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.models import create_model
from passt_bench.spec import EngineSpec, ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.engine import Engine
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
