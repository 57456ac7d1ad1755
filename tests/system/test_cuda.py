"""Training and measuring on a CUDA device; skipped where there is none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from passt_bench.measure.session import Arm, run_session
from passt_bench.models import create_model
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.doctor import check_instruments
from passt_bench.spec import EngineSpec, MeasurementSpec, ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.training.loop import train
from passt_bench.training.state import Progress, Task

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # The compiler warns of its own use of torch.jit, and of TF32, which float32 here does without.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TensorFloat32"),
]

RANDOM = np.random.default_rng(0)
CLIPS = 36  # batches of 8, and one of 4
FEATURES = RANDOM.normal(size=(CLIPS, 32, 32)).astype(np.float32)
TARGETS = (RANDOM.random((CLIPS, 3)) < 0.4).astype(np.float32)
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    patchout=Patchout("unstructured", rate=0.5),
    training=TrainingSpec(epochs=3, batch_size=8),
)


def _train(
    folder: Path, epochs: int = 3, patchout: Patchout = RECIPE.patchout, **engine: object
) -> Progress:
    training = replace(RECIPE.training, epochs=epochs)
    recipe = replace(RECIPE, engine=EngineSpec(**engine), patchout=patchout, training=training)
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)
    net.to(recipe.engine.device)
    folder.mkdir(exist_ok=True)
    clips = np.arange(CLIPS)
    task = Task("k", recipe, 0, FEATURES, TARGETS, clips, folder, checkpoint_seconds=0.0)
    return train(net, task).progress


RISING = Patchout("unstructured", rate=0.5, schedule="rising", stages=3)


@pytest.mark.parametrize(
    ("engine", "patchout", "tolerance"),
    [
        ({}, RECIPE.patchout, 1e-3),
        ({"graph": True}, RECIPE.patchout, 1e-3),
        ({"graph": True}, RISING, 1e-3),
        ({"attention": "materialised"}, RECIPE.patchout, 1e-3),
        ({"compile": "default"}, RECIPE.patchout, 1e-3),
        ({"compile": "default", "graph": True}, RECIPE.patchout, 1e-3),
        ({"compile": "max-autotune", "graph": True}, RECIPE.patchout, 1e-3),
        ({"recompute": "norms"}, RECIPE.patchout, 1e-3),
        ({"recompute": "blocks", "graph": True}, RECIPE.patchout, 1e-3),
        ({"recompute": "blocks", "compile": "default"}, RECIPE.patchout, 1e-3),
        ({"precision": "bfloat16", "graph": True}, RECIPE.patchout, 0.02),
        ({"precision": "bfloat16", "recompute": "norms", "graph": True}, RECIPE.patchout, 0.02),
        ({"precision": "bfloat16", "residual": "compute"}, RECIPE.patchout, 0.03),
        ({"precision": "float16"}, RECIPE.patchout, 0.02),
    ],
    ids=str,
)
def test_losses_are_those_of_the_cpu(
    engine: dict[str, object], patchout: Patchout, tolerance: float, tmp_path: Path
) -> None:
    plain = _train(tmp_path / "cpu", patchout=patchout)
    other = _train(tmp_path / "cuda", patchout=patchout, device="cuda", **engine)
    assert other.train_loss == pytest.approx(plain.train_loss, rel=tolerance)


def test_a_graph_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", device="cuda", graph=True)
    _train(tmp_path / "parts", epochs=3, device="cuda", graph=True)
    state = torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)
    assert state["parts"]["optimizer"]["param_groups"][0]["lr"].device.type == "cuda"
    again = _train(tmp_path / "parts", epochs=5, device="cuda", graph=True)
    plain = _train(tmp_path / "plain", epochs=5, device="cuda")
    assert again.train_loss[:3] == pytest.approx(whole.train_loss, rel=1e-3)
    assert len(again.train_loss) == len(plain.train_loss) == 5


def test_a_cost_session_measures_every_engine(tmp_path: Path) -> None:
    engines = {
        "eager": EngineSpec(device="cuda", precision="bfloat16"),
        "2021": EngineSpec(device="cuda", precision="float16", attention="materialised"),
        "graph": EngineSpec(device="cuda", precision="bfloat16", graph=True),
        "all": EngineSpec(
            device="cuda", precision="bfloat16", residual="compute", compile="default", graph=True
        ),
    }
    recipe = replace(RECIPE, model=ModelSpec("passt_tiny"))
    arms = [
        Arm(name, RecipeFactory(replace(recipe, engine=engine), 10), engine)
        for name, engine in engines.items()
    ]
    spec = MeasurementSpec(rounds=6, most_rounds=6, half_width=9.0, turn_seconds=120.0)
    result = run_session(arms, "eager", spec)
    for name, arm in result.arms.items():
        assert (arm.status, arm.message) == ("ok", None), name
        assert {"train_step", "train_step_wall", "train_step_device"} <= set(arm.samples)
        assert arm.memory["train_peak"] >= arm.memory["train_rise"] > 0
        assert arm.memory["saved_for_backward"] > 0
    device = {name: arm.samples["train_step_device"][0][0] for name, arm in result.arms.items()}
    wall = {name: arm.samples["train_step_wall"][0][0] for name, arm in result.arms.items()}
    assert all(device[name] < 1.2 * wall[name] for name in device)
    assert result.arms["2021"].attention == "unfused"
    assert "attention" in result.arms["eager"].attention


def test_the_instruments_read_the_truth() -> None:
    found = check_instruments(torch.device("cuda"))
    assert [check.known for check in found[-4:]] == [1.0, 1.0, 1.05, 1.05]
    assert [check for check in found if not check.passed] == []
