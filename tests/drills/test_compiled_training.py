"""A compiled model trains like the model itself; compiling takes the better part of a minute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.models import create_model
from passt_bench.spec import EngineSpec, ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.loop import train
from passt_bench.training.state import Task

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(16, 32, 32)).astype(np.float32)
TARGETS = (RANDOM.random((16, 3)) < 0.4).astype(np.float32)
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    patchout=Patchout("unstructured", rate=0.5),
    training=TrainingSpec(epochs=1, batch_size=8),
)


def _train(engine: EngineSpec, folder: Path) -> tuple[list[float], torch.Tensor]:
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)
    folder.mkdir()
    recipe = replace(RECIPE, engine=engine)
    task = Task("k", recipe, 0, FEATURES, TARGETS, np.arange(16), folder, checkpoint_seconds=0.0)
    return train(net, task).progress.train_loss, net.head[1].weight.detach()


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # inductor's own
def test_compiled_training_computes_the_same(tmp_path: Path) -> None:
    loss, weight = _train(EngineSpec(), tmp_path / "plain")
    compiled, other = _train(EngineSpec(compile=True), tmp_path / "compiled")
    assert compiled == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(other, weight, rtol=1e-3, atol=1e-5)
    state = torch.load(tmp_path / "compiled" / "checkpoint.pt", weights_only=True)
    assert "cls_token" in state["net"]  # not under torch.compile's prefix
