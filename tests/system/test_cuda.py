"""Training and measuring on a CUDA device; skipped where there is none."""

import warnings
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from noise_clips import CLASSES, RATE, SAMPLES, labels, open_noise
from planned_study import planned
from rich.console import Console

from passt_bench.measure.session import Arm, run_session
from passt_bench.models import create_model
from passt_bench.records.store import Store
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.doctor import check_instruments
from passt_bench.runner.executor import prepare, run_cells
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.studies import load_study
from passt_bench.spec import (
    EngineSpec,
    FrontendSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    TrainingSpec,
    Variant,
    override,
)
from passt_bench.training.batches import Batches, LogMels, load
from passt_bench.training.engine import Engine
from passt_bench.training.features import Waveforms, keep_on_device
from passt_bench.training.loop import train
from passt_bench.training.state import Progress, Task

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # The compiler warns of its own use of torch.jit, and of TF32, which float32 here does without.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TensorFloat32"),
]

MOVING = FrontendSpec(
    sampling_rate=RATE, n_fft=256, window=200, hop=80, mels=16, fmax=3500.0, fmax_jitter=900
)
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
    folder: Path,
    epochs: int = 3,
    patchout: Patchout = RECIPE.patchout,
    rate: float = RECIPE.training.learning_rate,
    stop: int | None = None,
    **engine: object,
) -> Progress:
    training = replace(RECIPE.training, epochs=epochs, learning_rate=rate)
    recipe = replace(RECIPE, engine=EngineSpec(**engine), patchout=patchout, training=training)
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=32, frames=32)
    net.to(recipe.engine.device)
    folder.mkdir(exist_ok=True)
    clips = np.arange(CLIPS)
    task = Task("k", recipe, 0, FEATURES, TARGETS, clips, folder, checkpoint_seconds=0.0)

    def interrupt(progress: Progress) -> None:
        if progress.epoch == stop:
            raise KeyboardInterrupt

    return train(net, task, interrupt).progress


AUGMENTED = override(
    Recipe(frontend=MOVING),
    {
        "training.batch_size": 8, "training.mixup": 0.3, "training.roll": 0.3,
        "training.mask_time": 5, "training.mask_frequency": 3, "data.seconds": SAMPLES / RATE,
    },
)  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("made", ["stored", "cached", "waveforms"])
def test_batches_are_those_of_the_cpu(made: str, workers: int) -> None:
    """To the last bit where log-mels are only augmented."""
    clips: Any = Waveforms(open_noise(), MOVING, SAMPLES / RATE)
    features: Any = clips if made == "waveforms" else clips[np.arange(24)]
    data = labels(), np.arange(24), AUGMENTED, 3
    there: Any = features
    if made == "stored":
        there = keep_on_device(features, "cuda")
        assert torch.equal(there.cpu(), torch.from_numpy(features))
    engine = Engine(EngineSpec(device="cuda"))
    finish = LogMels(AUGMENTED, "cuda", there if made == "stored" else None)
    source, whole = Batches(there, *data, read_only=True), Batches(features, *data)
    workers = 0 if made == "stored" else workers
    with closing(load(source, range(6), workers, pin=True)) as batches:
        for step, batch in enumerate(batches):
            found = {name: value.cpu() for name, value in finish(engine.send(batch)).items()}
            engine.keep_pace()
            wanted = whole(step)
            assert torch.equal(found["targets"], wanted["targets"])
            tolerance = 1e-3 if made == "waveforms" else 0.0
            torch.testing.assert_close(found["x"], wanted["x"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", ["stored", "cached", "waveforms"])
@pytest.mark.parametrize("engine", [{}, {"graph": True}, {"precision": "float16"}], ids=str)
def test_no_step_waits_for_the_device(
    engine: dict[str, Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many waits in a training of three times as many steps; checkpoints are not written."""
    if kind == "cached":
        monkeypatch.setattr("passt_bench.training.features._DEVICE_SHARE", 0.0)
    waits = []
    for batch in (12, 4):
        spec = EngineSpec(device="cuda", frontend="device", **engine)
        recipe = override(AUGMENTED, {"training.batch_size": batch, "training.epochs": 2})
        clips: Any = Waveforms(open_noise(), MOVING, SAMPLES / RATE)
        features = clips if kind == "waveforms" else clips[np.arange(24)]
        model = ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8))
        recipe = replace(recipe, engine=spec, model=model, patchout=RECIPE.patchout)
        net = create_model("passt_micro", CLASSES, patch=8, stride=8, mels=16, frames=50)
        folder = tmp_path / str(batch)
        folder.mkdir()
        task = Task("k", recipe, 0, features, labels(), np.arange(24), folder)
        net.to("cuda")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                train(net, task)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchronizing CUDA" in str(item.message) for item in caught))
    assert waits[0] == waits[1]


RISING = Patchout("unstructured", rate=0.5, schedule="rising", stages=3)


@pytest.mark.parametrize(
    ("engine", "patchout", "tolerance"),
    [
        ({}, RECIPE.patchout, 1e-3),
        ({"graph": True}, RECIPE.patchout, 1e-3),
        ({"graph": True}, RISING, 1e-3),
        ({"accumulate": 2}, RECIPE.patchout, 1e-3),
        ({"accumulate": 4, "graph": True}, RISING, 1e-3),
        ({"accumulate": 4, "precision": "float16"}, RECIPE.patchout, 0.02),
        ({"attention": "materialised"}, RECIPE.patchout, 1e-3),
        ({"attention": "by_heads"}, RECIPE.patchout, 1e-3),
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
    """With the learning rates of its schedule: with the last one frozen, losses differ by 3 %."""
    train_graph = partial(_train, epochs=6, rate=1e-2, device="cuda", graph=True)
    whole = train_graph(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_graph(tmp_path / "parts", stop=2)
    again = train_graph(tmp_path / "parts")
    assert again.train_loss == pytest.approx(whole.train_loss, rel=1e-3)


@pytest.mark.parametrize("per_gpu", [1, 2])
def test_runs_may_share_a_process_and_a_gpu(study_file: Path, tmp_path: Path, per_gpu: int) -> None:
    """Each is as in a process of its own, with its own peak of memory."""
    changes = {"engine.device": "cuda"}
    variants = (
        Variant("none"),
        Variant("half", {"patchout": RECIPE.patchout}),
        Variant("wide", {"model.width": 256}),
        Variant("graph", {"engine.graph": True}),
    )
    found = []
    for fresh in (True, False):
        paths = Paths(tmp_path / str(fresh))
        base = override(load_study(str(study_file)).study.base, changes)
        plan = planned(study_file, paths.runs, base=base, variants=variants, seeds=(0, 1))
        prepare(plan.cells, paths, Datasets(paths), Console(quiet=True))
        config = RunConfig(workers=2, per_gpu=per_gpu, fresh_processes=fresh)
        ends = run_cells(plan.cells, paths, config)
        assert [end.message for end in ends.values()] == [None] * 8
        found.append([Store(paths.runs).run(cell.key) for cell in plan.cells])
    for alone, reused in zip(*found, strict=True):
        assert alone is not None and reused is not None
        losses = alone.curves["train_loss"]
        assert reused.curves["train_loss"] == pytest.approx(losses, rel=1e-3)
        assert reused.train["peak_bytes"] == pytest.approx(alone.train["peak_bytes"], rel=0.1)


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
    spec = MeasurementSpec(restarts=2, rounds=6, most_rounds=6, half_width=9.0, turn_seconds=120.0)
    result = run_session(arms, "eager", spec)
    for name, arm in result.arms.items():
        assert (arm.status, arm.message) == ("ok", None), name
        assert {"train_step", "train_step_wall", "train_step_device"} <= set(arm.samples)
        assert arm.memory["train_peak"] >= arm.memory["train_rise"] > 0
        assert arm.memory["saved_for_backward"] > 0
    device = {name: arm.samples["train_step_device"][0][0] for name, arm in result.arms.items()}
    wall = {name: arm.samples["train_step_wall"][0][0] for name, arm in result.arms.items()}
    assert all(device[name] < 1.2 * wall[name] for name in device)
    gpus = result.disturbance["during"]
    assert set(gpus) == set(result.arms)
    assert all(gpus[name][0]["clock_mhz"] > 0 for name in gpus)
    assert result.arms["2021"].attention == "unfused"
    assert "attention" in result.arms["eager"].attention


def test_the_instruments_read_the_truth() -> None:
    found = check_instruments(torch.device("cuda"))
    assert [check.known for check in found[-4:]] == [1.0, 1.0, 1.05, 1.05]
    assert [check for check in found if not check.passed] == []
