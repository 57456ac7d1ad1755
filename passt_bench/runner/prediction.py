"""Predicts the seconds and bytes of a training step, on this machine or on a GPU named by a user.

On this machine from a calibration that is kept with the records, on a GPU from its data sheet.
Seconds are a sum over kinds of work (`measure.step_work`), each at a rate of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from passt_bench.console import Progress
from passt_bench.errors import InputError, choose_from
from passt_bench.intervals import phase_intervals
from passt_bench.measure.machine import describe_machine, library_versions
from passt_bench.measure.peaks import VENDOR_PEAKS, VendorPeak, data_sheet
from passt_bench.measure.session import MIN_ROUNDS, Arm, ArmResult, run_session
from passt_bench.measure.step_work import KINDS, StepWork
from passt_bench.measure.target import STEP
from passt_bench.records.files import read, to_json, write_atomically
from passt_bench.records.run import SCHEMA
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.estimates import batch_size, step_work, summarize_model
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.key import Name, digest
from passt_bench.spec.recipe import (
    DataSpec,
    EngineSpec,
    MeasurementSpec,
    ModelSpec,
    Patchout,
    Recipe,
    TrainingSpec,
)

UPDATE_BYTES = 28  # AdamW reads four numbers of each parameter and writes three
# Of a GPU: shares of the rates in its data sheet, seconds between two kernels on the device, and
# seconds in which PyTorch issues an operator (15 to 43 µs on the hosts of two H100s).
UTILIZATION, ATTENTION_SHARE, BANDWIDTH_SHARE = 0.5, 0.3, 0.8
KERNEL_SECONDS, ISSUE_SECONDS = 3e-6, 22e-6
# A compiler fuses operators: shares of their traffic and of their number that remain.
FUSED_BYTES, FUSED_KERNELS = 0.5, 0.4
_PATCHOUT = Patchout("structured", time=20, frequency=2)
_CLASSES = 50
CALIBRATIONS = "calibrations"  # a folder beside the records
MEMORY_SHARE = 0.95  # of a device's memory, for the largest batch
ROUGH_FLOPS_PER_SECOND = 40e9  # of a thread, where the CPU is not calibrated


@dataclass(frozen=True)
class Prediction:
    """A training step's seconds and bytes: as ``train_step`` and ``train_peak`` are measured."""

    seconds: float
    bytes: float


@dataclass(frozen=True)
class Calibration:
    """Rates of this machine with an engine's precision and threads, fitted to measured steps."""

    name: Name  # of the file: a digest of the next four
    machine: dict[str, object]
    versions: dict[str, str]
    precision: str
    threads: int
    seconds: dict[str, float]  # kind of work → seconds per FLOP, byte or kernel
    update: float  # seconds per byte of the optimizer
    process: float  # bytes of a process before it has a model
    # Bytes that the C library's heap adds, of transformers and of CNNs: fixed, and as a share.
    slack: dict[str, tuple[float, float]]
    arms: dict[str, tuple[float, float]] = field(default_factory=dict)  # seconds, bytes measured
    schema: int = SCHEMA

    def predict(self, work: StepWork) -> Prediction:
        """The step on an idle core per thread; memory is the peak of the whole process."""
        seconds = sum(self.seconds[kind] * getattr(work, kind) for kind in KINDS)
        update = self.update * UPDATE_BYTES * work.parameters
        fixed, share = self.slack["cnns" if work.convolutions else "transformers"]
        alive = work.state + work.rise
        return Prediction(seconds + update, self.process + alive + fixed + share * work.heap)


# Short steps, each dominated by another kind of work: model, clips, their seconds, model's fields.
_STEPS: dict[str, tuple[str, int, float, dict[str, Any]]] = {
    "products": ("passt_s_n", 1, 10, {"depth": 1}),
    "long": ("passt_b", 1, 6, {"depth": 1}),
    "attention": ("passt_tiny", 1, 10, {"depth": 2}),
    "small": ("passt_small", 1, 5, {"depth": 2}),
    "micro": ("passt_micro", 4, 10, {}),
    "calls": ("passt_micro", 1, 1, {"depth": 6}),
    "panns": ("panns_micro", 9, 10, {}),
    "cnn": ("cnn6", 1, 2, {}),
    "resnet": ("cp_resnet", 1, 2, {}),
    "mobile": ("mobilenetv3", 2, 3, {}),
}


def _steps(engine: EngineSpec) -> dict[str, Recipe]:
    return {
        key: Recipe(
            ModelSpec(model, **fields),
            patchout=_PATCHOUT if key == "products" else Patchout(),
            frontend=frontend_of(model),
            data=DataSpec(seconds=seconds),
            training=TrainingSpec(batch_size=clips),
            engine=engine,
        )
        for key, (model, clips, seconds, fields) in _STEPS.items()
    }


@lru_cache  # asks other programs for the GPUs
def _identity(engine: EngineSpec) -> tuple[str, dict[str, object], dict[str, str]]:
    machine, versions = describe_machine(), library_versions()
    return digest([machine, versions, engine.precision, engine.threads]), machine, versions


def kept_calibration(runs: Path, engine: EngineSpec) -> Calibration | None:
    """The calibration for an engine on this machine with these versions, if there is one."""
    path = runs / CALIBRATIONS / f"{_identity(engine)[0]}.json"
    return read(Calibration, path) if path.is_file() else None


def calibrate(
    runs: Path, engine: EngineSpec, progress: Progress = lambda share, text: None
) -> Calibration:
    """Measures short steps in interleaved rounds and keeps the rates; takes about 20 seconds.

    Raises:
        InputError: the engine's device is not the CPU, or no step could be measured.
    """
    if engine.device != "cpu":
        problem = "only the CPU is calibrated"
        remedy = "For a GPU, give its name: plan STUDY --gpu H100."
        raise InputError(problem, field="engine.device", value=engine.device, remedy=remedy)
    name, machine, versions = _identity(engine)
    engine = EngineSpec(precision=engine.precision, threads=engine.threads)
    recipes = _steps(engine)
    result = run_session(
        [Arm(key, RecipeFactory(recipe, _CLASSES), engine) for key, recipe in recipes.items()],
        "products",
        MeasurementSpec(
            warmup_steps=1, restarts=1, rounds=MIN_ROUNDS, most_rounds=MIN_ROUNDS, steps=1
        ),
        progress=progress,
    )
    works = {
        key: step_work(recipe, _CLASSES, batch_size(recipe)) for key, recipe in recipes.items()
    }
    fine = {key: arm for key, arm in result.arms.items() if arm.status == "ok"}
    calibration = Calibration(
        name=name,
        machine=machine,
        versions=versions,
        precision=engine.precision,
        threads=engine.threads,
        **_fitted(fine, works, engine.threads),
    )
    write_atomically(runs / CALIBRATIONS / f"{name}.json", to_json(calibration).encode())
    return calibration


def _fitted(
    arms: Mapping[str, ArmResult], works: Mapping[str, StepWork], threads: int
) -> dict[str, Any]:
    """The fields of a calibration that come from measurements.

    With one thread, seconds are those of the CPU, which other processes do not lengthen.
    """
    from scipy.optimize import nnls  # slow

    phases = {key: phase_intervals(arm.samples) for key, arm in arms.items()}
    clock = f"{STEP}_cpu" if threads == 1 else STEP
    seconds = {key: found[clock].median for key, found in phases.items()}
    # The optimizer's share of a step does not depend on the clock.
    share = {key: p["optimizer"].median / p[STEP].median for key, p in phases.items()}
    table = np.array([[getattr(works[key], kind) for kind in KINDS] for key in arms])
    scale = table.max(axis=0).clip(1e-300)
    passes = np.array([seconds[key] * (1 - share[key]) for key in arms])
    rates, _ = nnls(table / scale / passes[:, None], np.ones(len(passes)))
    large = max(arms, key=lambda key: works[key].parameters)
    rise = {key: arm.memory["train_rise"] for key, arm in arms.items()}
    slack = {}
    for family in ("transformers", "cnns"):
        keys = [key for key in arms if bool(works[key].convolutions) == (family == "cnns")]
        beyond = [max(0.0, rise[key] - works[key].rise) for key in keys]
        fixed_and_share, _ = nnls(np.array([[1.0, works[key].heap] for key in keys]), beyond)
        slack[family] = tuple(map(float, fixed_and_share))
    peaks = {key: arm.memory["train_peak"] for key, arm in arms.items()}
    return {
        "seconds": dict(zip(KINDS, map(float, rates / scale), strict=True)),
        "update": seconds[large] * share[large] / (UPDATE_BYTES * works[large].parameters),
        "process": median(peaks[key] - rise[key] - works[key].state for key in arms),
        "slack": slack,
        "arms": {key: (seconds[key], peaks[key]) for key in arms},
    }


def predict_on_gpu(
    work: StepWork, engine: EngineSpec, gpu: VendorPeak, utilization: float = UTILIZATION
) -> Prediction:
    """A step on a GPU that was not measured, from its data sheet; memory is what is allocated.

    The device takes the sum of products at ``utilization`` of the peak, fused attention at
    `ATTENTION_SHARE` of it, all other traffic at `BANDWIDTH_SHARE` of the bandwidth, and the gaps
    between kernels. Without a CUDA graph a step takes at least as long as issuing its operators.
    """
    peak = gpu.tflops[engine.precision]
    compiled = engine.compile != "off"
    products = (work.flops - work.attention) / utilization + work.attention / ATTENTION_SHARE
    moved = work.moved * (FUSED_BYTES if compiled else 1) + UPDATE_BYTES * work.parameters
    kernels = work.kernels * (FUSED_KERNELS if compiled else 1)
    device = products / (peak * 1e12) + moved / (BANDWIDTH_SHARE * gpu.bandwidth * 1e12)
    device += kernels * KERNEL_SECONDS
    issue = 0.0 if engine.graph else kernels * ISSUE_SECONDS
    return Prediction(max(device, issue), work.state + work.rise)


class Predictor:
    """Predicts for this machine and its GPU, or for the GPU of a name.

    Args:
        runs: folder with the calibrations of this machine.
        gpu: its name or a part of it (`InputError` if it is not listed).
        utilization: share of the GPU's peak that products reach.
    """

    def __init__(
        self, runs: Path, gpu: str | None = None, utilization: float = UTILIZATION
    ) -> None:
        self._runs, self._utilization = runs, utilization
        self.gpu = None if gpu is None else data_sheet(gpu)
        if gpu is not None and self.gpu is None:
            names = [" ".join(entry.name_parts) for entry in VENDOR_PEAKS]
            remedy = choose_from(names, gpu)
            raise InputError("no data sheet of this GPU", field="--gpu", value=gpu, remedy=remedy)

    def on_gpu(self, engine: EngineSpec) -> bool:
        """Whether an engine's steps are predicted on a GPU."""
        return self.gpu is not None or engine.device == "cuda"

    def sheet(self, engine: EngineSpec) -> VendorPeak | None:
        """The data sheet of an engine's GPU; None if it is not listed with this precision."""
        if not self.on_gpu(engine):
            return None
        found = self.gpu or data_sheet(next(iter(describe_machine().get("gpus", ())), ""))
        return found if found and engine.precision in found.tflops else None

    def basis(self, engine: EngineSpec) -> str:
        """A sentence about what the predictions rest on."""
        if (sheet := self.sheet(engine)) is None:
            return "from the calibration of this machine, which then does nothing else"
        return (
            f"for {' '.join(sheet.name_parts)} from its data sheet, assuming "
            f"{100 * self._utilization:g} % of the peak in matrix products; not measured"
        )

    def predict(self, recipe: Recipe, classes: int, batch: int | None = None) -> Prediction | None:
        """A step of a recipe, by default of its batch; None without calibration or data sheet."""
        engine, batch = recipe.engine, batch or batch_size(recipe)
        if sheet := self.sheet(engine):
            return predict_on_gpu(
                step_work(recipe, classes, batch), engine, sheet, self._utilization
            )
        calibration = None if self.on_gpu(engine) else kept_calibration(self._runs, engine)
        return calibration.predict(step_work(recipe, classes, batch)) if calibration else None

    def seconds_per_flop(self, recipe: Recipe, classes: int) -> float:
        """Of a training step; rough on a CPU that is not calibrated, nan on a GPU not listed."""
        if found := self.predict(recipe, classes):
            return found.seconds / (batch_size(recipe) * summarize_model(recipe, classes).flops)
        rough = 1 / (ROUGH_FLOPS_PER_SECOND * recipe.engine.threads)
        return nan if self.on_gpu(recipe.engine) else rough

    def largest_batch(self, recipe: Recipe, classes: int) -> int:
        """Clips of the largest step that fits; 0 if none does, or without a prediction."""
        batch = batch_size(recipe)
        one, two = (self.predict(recipe, classes, n) for n in (batch, 2 * batch))
        if one is None or two is None:
            return 0
        sheet = self.sheet(recipe.engine)
        memory = sheet.memory * 1e9 if sheet else psutil.virtual_memory().total
        each = (two.bytes - one.bytes) / batch
        return max(0, int(batch + (MEMORY_SHARE * memory - one.bytes) / each))
