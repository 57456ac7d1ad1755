"""Predicted against measured: steps that this machine was not calibrated on, measured right after.

Prints the table of docs/measuring.md: ``pytest -s tests/assurance/test_predictions.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from passt_bench.intervals import phase_intervals
from passt_bench.measure.session import Arm, run_session
from passt_bench.measure.target import Subject
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.prediction import Predictor, calibrate, kept_calibration
from passt_bench.spec import (
    DataSpec,
    EngineSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    TrainingSpec,
)
from passt_bench.spec.frontends import frontend_of

CLASSES = 527
S, S_N = ({"kind": "structured", "time": t, "frequency": f} for t, f in ((40, 4), (20, 2)))
HALF = {"kind": "unstructured", "rate": 0.5}


def _recipe(
    model: str, batch: int, patchout: dict[str, Any], precision: str, seconds: float, **options: Any
) -> Recipe:
    return Recipe(
        ModelSpec(model, **options),
        Patchout(**patchout),
        frontend_of(model),
        DataSpec(seconds=seconds),
        TrainingSpec(batch_size=batch),
        engine=EngineSpec(precision=precision, threads=1),  # type: ignore[arg-type]
    )


RECIPES = {
    "PaSST-S-L, 474 tokens, batch 1, bfloat16": _recipe("passt_s_l", 1, S, "bfloat16", 10),
    "PaSST-S-N, 254 tokens, batch 2, bfloat16": _recipe("passt_s_n", 2, S_N, "bfloat16", 10),
    "small, stride 16, half, batch 4, bfloat16": _recipe(
        "passt_small", 4, HALF, "bfloat16", 10, stride=(16, 16)
    ),
    "small, 474 tokens, batch 2, float32": _recipe("passt_small", 2, S, "float32", 10),
    "tiny, 474 tokens, batch 4, float32": _recipe("passt_tiny", 4, S, "float32", 10),
    "micro, 2 s, batch 32, float32": _recipe("passt_micro", 32, {}, "float32", 2),
    "CNN10, 10 s, batch 2, float32": _recipe("cnn10", 2, {}, "float32", 10),
    "CP-ResNet, 10 s, batch 2, float32": _recipe("cp_resnet", 2, {}, "float32", 10),
}


@dataclass(frozen=True)
class TrainingOnly:
    """The subject of a recipe without inference, which takes longer than most of the steps."""

    recipe: Recipe

    def __call__(self) -> Subject:
        return replace(RecipeFactory(self.recipe, CLASSES)(), others={})


def compare(runs: Path) -> Iterator[tuple[str, float, float, float, float]]:
    """Name, seconds predicted and measured, bytes predicted and measured, of each recipe."""
    for engine in {recipe.engine: None for recipe in RECIPES.values()}:
        if kept_calibration(runs, engine) is None:
            calibrate(runs, engine)
    result = run_session(
        [Arm(name, TrainingOnly(recipe), recipe.engine) for name, recipe in RECIPES.items()],
        next(iter(RECIPES)),
        MeasurementSpec(warmup_steps=1, restarts=1, rounds=6, most_rounds=6, steps=1),
    )
    for name, recipe in RECIPES.items():
        arm, found = result.arms[name], Predictor(runs).predict(recipe, CLASSES)
        assert found is not None
        assert arm.status == "ok"
        # Of one thread: other processes lengthen the wall time.
        seconds = phase_intervals(arm.samples)["train_step_cpu"].median
        yield name, found.seconds, seconds, found.bytes, arm.memory["train_peak"]


def test_time_within_a_fifth_and_memory_within_a_tenth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(compare(tmp_path))
    with capsys.disabled():
        print("\n" + "\n".join(map(line, rows)))
    for name, predicted, seconds, most, peak in rows:
        assert predicted == pytest.approx(seconds, rel=0.2), name
        assert most == pytest.approx(peak, rel=0.1), name


def line(row: tuple[str, float, float, float, float]) -> str:
    """A row of the table in Markdown."""
    name, predicted, seconds, most, peak = row
    return (
        f"| {name} | {predicted:.2f} | {seconds:.2f} | {100 * (predicted / seconds - 1):+.0f} % "
        f"| {most / 1e6:.0f} | {peak / 1e6:.0f} | {100 * (most / peak - 1):+.0f} % |"
    )
