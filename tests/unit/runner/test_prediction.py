"""Predictions: arithmetic by hand, rates that are found again, and published measurements."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from known_subjects import RECIPE

from passt_bench.errors import InputError
from passt_bench.measure.peaks import data_sheet
from passt_bench.measure.session import ArmResult
from passt_bench.measure.step_work import KINDS, StepWork
from passt_bench.runner import prediction
from passt_bench.runner.prediction import Calibration, Predictor, predict_on_gpu
from passt_bench.spec import DataSpec, EngineSpec, ModelSpec, Patchout, Recipe, TrainingSpec
from passt_bench.spec.frontends import frontend_of

FAST = {"compile": "default", "residual": "compute"}
# Clips per second and GB on one H100, as measured on three occasions, when the models computed all
# outputs of their last block, of which three quarters are left out now.
WHOLE_BLOCK = 11.25 / 12
H100 = [
    ({}, (32, 369, 14.0), (64, 948, 11.7), (128, 1908, 12.4)),
    ({"compile": "default"}, (32, 457, None), (64, 1206, None), (128, 2507, None)),
    (FAST, (32, 477, 12.4), (64, 1275, 10.5), (128, 2658, 10.9)),
    ({}, (12, 336, None), (12, 693, None), (12, 787, None)),
    ({"graph": True}, (12, 343, None), (12, 772, None), (12, 1264, None)),
    ({"graph": True, "compile": "default"}, (12, 426, None), (12, 994, None), (12, 1575, None)),
]
MODELS = (
    ("passt_b", Patchout()),
    ("passt_s", Patchout("structured", time=40, frequency=4)),
    ("passt_s_n", Patchout("structured", time=20, frequency=2)),
)


@pytest.mark.parametrize(
    ("engine", "model", "patchout", "batch", "clips", "gb"),
    [
        (engine, model, patchout, *cell)
        for engine, *cells in H100
        for (model, patchout), cell in zip(MODELS, cells, strict=True)
    ],
)
def test_a_gpu_that_was_measured(
    engine: dict[str, Any], model: str, patchout: Patchout, batch: int, clips: float, gb: float
) -> None:
    spec = EngineSpec(device="cuda", precision="bfloat16", **engine)
    recipe = Recipe(
        ModelSpec(model),
        patchout,
        frontend_of(model),
        DataSpec(seconds=10.0),
        TrainingSpec(batch_size=batch),
        engine=spec,
    )
    found = Predictor(Path("none"), "H100").predict(recipe, 527)
    assert found is not None
    assert WHOLE_BLOCK * batch / found.seconds == pytest.approx(clips, rel=0.2)
    assert gb is None or found.bytes / 1e9 == pytest.approx(gb, rel=0.1)


def test_the_largest_batch_fills_the_memory() -> None:
    recipe = Recipe(ModelSpec("passt_tiny", depth=2), data=DataSpec(seconds=2.0))
    recipe = replace(recipe, engine=EngineSpec(device="cuda"))
    predictor = Predictor(Path("none"), "T4")
    batch = predictor.largest_batch(recipe, 10)
    fits, more = (predictor.predict(recipe, 10, batch + extra) for extra in (0, 2))
    assert fits is not None and more is not None
    assert fits.bytes < 0.95 * 16e9 < more.bytes


def test_launches_bound_small_steps_without_a_graph() -> None:
    work, gpu = StepWork(products=1e6, kernels=1000), data_sheet("NVIDIA A100-SXM4-40GB")
    assert gpu is not None
    eager, graph = EngineSpec(device="cuda"), EngineSpec(device="cuda", graph=True)
    assert predict_on_gpu(work, eager, gpu).seconds == pytest.approx(1000 * 22e-6)
    assert predict_on_gpu(work, graph, gpu).seconds == pytest.approx(1000 * 3e-6, rel=1e-3)
    large = StepWork(products=1e15, state=5, rise=7)
    assert predict_on_gpu(large, eager, gpu, 0.25).seconds == pytest.approx(1e15 / (19.5e12 / 4))
    assert predict_on_gpu(large, eager, gpu).bytes == 12


def test_unknown_gpus_and_precisions_are_refused() -> None:
    for name in ("A card of tomorrow", ""):
        with pytest.raises(InputError) as caught:
            Predictor(Path("none"), name)
        assert (caught.value.field, caught.value.value) == ("--gpu", name)
    half = replace(RECIPE, engine=EngineSpec(precision="bfloat16"))
    assert Predictor(Path("none"), "V100").predict(half, 3) is None
    with pytest.raises(InputError) as caught:
        prediction.calibrate(Path("none"), EngineSpec(device="cuda"))
    assert caught.value.field == "engine.device"


def test_planted_rates_are_found_again(tmp_path: Path) -> None:
    rates = {kind: 1e-11 * (number + 1) for number, kind in enumerate(KINDS)}
    works, arms = {}, {}
    for number, kind in enumerate(KINDS):
        amounts = {other: 1e9 + 9e9 * (other == kind) for other in KINDS}
        amounts["convolutions"] *= number % 2
        work = StepWork(**amounts, parameters=1000 * number, state=5, heap=10**6 * number)
        passes = sum(rates[other] * amounts[other] for other in KINDS)
        step = passes / 0.9  # a tenth of it is the optimizer
        slack = 1e6 + 0.5 * work.heap
        works[kind], arms[kind] = work, ArmResult(
            samples={
                "train_step": [[2 * step]] * 6,  # others use the core half of the time
                "optimizer": [[0.2 * step]] * 6,
                "train_step_cpu": [[step]] * 6,
            },
            memory={"train_rise": slack, "train_peak": 3e8 + 5 + slack},
        )  # fmt: skip
    fitted = prediction._fitted(arms, works, threads=1)
    assert fitted["seconds"] == pytest.approx(rates)
    assert fitted["process"] == pytest.approx(3e8)
    assert fitted["slack"]["cnns"] == pytest.approx((1e6, 0.5))
    made = Calibration(
        name="0" * 16, machine={}, versions={}, precision="float32", threads=1, **fitted
    )
    for kind in KINDS[-1:]:  # the optimizer's rate is that of the largest model
        found = made.predict(works[kind])
        assert found.seconds == pytest.approx(arms[kind].samples["train_step_cpu"][0][0])
        assert found.bytes == pytest.approx(arms[kind].memory["train_peak"])
    assert Predictor(tmp_path).predict(RECIPE, 3) is None
    assert Predictor(tmp_path).largest_batch(RECIPE, 3) == 0
