"""Examines this machine: what disturbs measurements, what commands lack, what instruments show."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psutil
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.intervals import ratio_intervals
from passt_bench.measure.machine import (
    GPU_SLOWED,
    background_load,
    describe_machine,
    library_versions,
)
from passt_bench.measure.memory import measure_peak, reset_resident_peak, saved_for_backward
from passt_bench.measure.session import Arm, run_session
from passt_bench.measure.step_work import WorkCounter
from passt_bench.measure.target import STEP, Clock, Subject
from passt_bench.processes import oom_kills
from passt_bench.records.run import count_of
from passt_bench.registry import ALL, Component, installed_version
from passt_bench.runner.benchmark_target import RecipeFactory
from passt_bench.runner.request import DATA_VARIABLE, data_folders
from passt_bench.spec.recipe import (
    DataSpec,
    EngineSpec,
    MeasurementSpec,
    ModelSpec,
    Recipe,
    TrainingSpec,
)

MIB, GIB = 1024**2, 1024**3
_SLEEP = 0.05
_REPEATS = 20  # training steps that the check of ratios times as one
_LOW_DISK, _LOW_MEMORY = 5 * GIB, 4 * GIB
State = Literal["good", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One item; ``note`` works with a caveat, ``missing`` means that a command cannot run."""

    what: str
    state: State
    detail: str
    remedy: str = ""


def _finding(
    what: str, good: bool, detail: str, remedy: str = "", *, otherwise: State = "note"
) -> Finding:
    return Finding(what, "good" if good else otherwise, detail, "" if good else remedy)


def examine(out: Path) -> list[Finding]:
    """Examines the machine, for runs that would write to a folder.

    It takes about a second and changes nothing.
    """
    return [*_machine(), *_gpu(), *_storage(out), *_packages()]


def _machine() -> Iterator[Finding]:
    machine, state = describe_machine(), background_load(1.0)
    cores, memory = machine["cores"], machine["memory_gib"]
    yield _finding("processor", True, f"{machine['cpu']}, {cores} cores, {memory} GiB")
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    yield _finding("versions", True, f"Python {machine['python']}, {versions}")
    load = f"load {state['load'][0]} on {state['cores']} cores, {state['other_cores']} in other use"
    busy = " ".join(text for text in state["warnings"] if "GPU" not in text)
    remedy = "Stop it before measuring; ratios stay right, but intervals widen."
    yield _finding("other work", not busy, busy or load, remedy)
    governor = state["governor"] or "not readable (a virtual machine?); the clock may change"
    yield _finding("CPU frequency governor", state["governor"] == "performance", governor)
    heat = state["throttled"]
    detail = "not readable here" if heat is None else f"{heat} times since boot"
    yield _finding("thermal throttling", heat == "0", detail)
    resets, kills = reset_resident_peak(), oom_kills()
    detail = "can be reset" if resets else "cannot be reset: train_peak covers the whole process"
    yield _finding("peak RSS", resets, detail)
    detail = "not readable: signal 9 counts as oom" if kills is None else f"{kills} since boot"
    yield _finding("OOM kills", kills is not None, detail)


def _gpu() -> Iterator[Finding]:
    gpus = background_load(0.0)["gpus"]
    for number, gpu in enumerate(gpus):
        slowed = bool(gpu["slowed"] & GPU_SLOWED)
        busy = gpu["busy_percent"] > 0 or gpu["used_mib"] > 500
        detail = f"{gpu['name']}, {gpu['busy_percent']} % busy, {gpu['used_mib']} MiB in use"
        detail += ", slowed by power or heat" if slowed else ""
        yield _finding(f"GPU {number}", not (busy or slowed), detail)
    built, remedy = torch.version.cuda, "--device cuda needs a GPU and the CUDA build of torch."
    detail = f"{count_of(len(gpus), 'GPU')}, torch is built for {built or 'the CPU only'}"
    yield _finding("CUDA", torch.cuda.is_available(), detail, remedy, otherwise="missing")
    compiler = shutil.which("g++") or shutil.which("clang++")
    detail = Path(compiler).name if compiler else "no C++ compiler"
    remedy = "engine.compile on the CPU needs g++."
    yield _finding("compiler", compiler is not None, detail, remedy, otherwise="missing")


def _storage(out: Path) -> Iterator[Finding]:
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free, memory = shutil.disk_usage(nearest).free, psutil.virtual_memory().available
    remedy = "Free some space: a long study writes much."
    yield _finding("disk", free > _LOW_DISK, f"{free / GIB:.0f} GiB free for {out}", remedy)
    writable = os.access(nearest, os.W_OK)
    detail = "can be written" if writable else f"{nearest} cannot be written"
    remedy = "Give a writable folder with --runs."
    yield _finding("output folder", writable, detail, remedy, otherwise="missing")
    yield _finding("memory", memory > _LOW_MEMORY, f"{memory / GIB:.0f} GiB available")
    folders = data_folders(())
    detail = f"{DATA_VARIABLE}: {', '.join(sorted(folders)) or 'none'}"
    remedy = f"Set {DATA_VARIABLE}, or give --data NAME=DIR; `quick` needs none."
    yield _finding("real audio", bool(folders), detail, remedy)


def _packages() -> Iterator[Finding]:
    """Packages that registered components wrap, e.g. those of the authors' models."""
    for registry in ALL:
        try:
            components: list[Component[Any]] = registry.all()
        except InputError as error:  # a plug-in that cannot be loaded
            what, detail = f"plug-in {error.field}", f"{error.value}: {error.problem}"
            yield Finding(what, "missing", detail, error.remedy or "")
            continue
        for item in (item for item in components if item.packages):
            missing = item.missing()
            versions = {name: installed_version(name) or "not installed" for name in item.packages}
            detail = ", ".join(f"{name} {version}" for name, version in versions.items())
            remedy = f"Install {', '.join(missing)} to use it."
            yield _finding(item.name, not missing, detail, remedy, otherwise="missing")


@dataclass(frozen=True)
class Check:
    """A measured and the known value of an instrument."""

    what: str
    known: float
    measured: float
    tolerance: float  # maximum relative difference that passes
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the measured value is close enough to the known one."""
        return abs(self.measured - self.known) <= self.tolerance * self.known


def check_instruments(device: torch.device) -> list[Check]:
    """Clock, memory, FLOPs and bytes saved for backward against known values."""
    checks = [*_clock(device), _memory(device), *_network(device)]
    return [*checks, *check_ratios(device)] if device.type == "cuda" else checks


def _clock(device: torch.device) -> Iterator[Check]:
    clock = Clock(torch.device("cpu"))
    for _ in range(5):
        clock.run({"sleep": lambda: time.sleep(_SLEEP)})
    yield Check("clock, a sleep", _SLEEP, min(clock.read()["sleep"]), 0.02, "s")
    if device.type != "cuda":
        return
    # The work is long enough for the wall clock, with synchronization, to be exact.
    a = torch.rand(4096, 4096, device=device)

    def work() -> None:
        for _ in range(50):
            a @ a

    work()
    torch.cuda.synchronize(device)
    events, start = Clock(device), time.perf_counter()
    events.run({"products": work})
    torch.cuda.synchronize(device)
    wall = time.perf_counter() - start
    yield Check("events, GPU matrix multiplication", wall, events.read()["products"][0], 0.02, "s")


@dataclass(frozen=True)
class Repeated:
    """A step that is several training steps of a model: known to be that many times as long."""

    recipe: Recipe
    times: int

    def __call__(self) -> Subject:
        """The subject, on the device of the recipe."""
        subject = RecipeFactory(self.recipe, classes=50)()
        return Subject(step={"steps": partial(subject.train, self.times)}, device=subject.device)


def check_ratios(device: torch.device) -> Iterator[Check]:
    """A cost session of a model, the same model once more, and one made slower: its intervals."""
    cuda = device.type == "cuda"
    engine = EngineSpec(device="cuda", precision="bfloat16", graph=True) if cuda else EngineSpec()
    recipe = Recipe(
        ModelSpec("passt_tiny" if cuda else "passt_micro", stride=(16, 16)),
        data=DataSpec(seconds=10.0 if cuda else 0.5),
        training=TrainingSpec(batch_size=12 if cuda else 1),
        engine=engine,
    )
    more, tolerance = (1, 0.02) if cuda else (3, 0.05)
    planted = 1 + more / _REPEATS
    steps = {"model": _REPEATS, "the same model": _REPEATS, f"{planted:g} planted": _REPEATS + more}
    arms = [Arm(name, Repeated(recipe, times), engine) for name, times in steps.items()]
    spec = MeasurementSpec(
        restarts=1,  # what processes differ by is not an error of the instruments
        rounds=9,
        most_rounds=400,
        steps=4,
        half_width=tolerance / 4,
        seconds=30.0 if cuda else 300.0,
    )
    measured = run_session(arms, "model", spec).arms
    for name, times in steps.items():
        if (arm := measured[name]).status != "ok":
            raise RuntimeError(f"{name}: {arm.status}, {arm.message}")
        ratio = ratio_intervals(arm.samples, measured["model"].samples)[STEP]
        for end in (ratio.low, ratio.high) if name != "model" else ():
            yield Check(f"step ratio, {name}", times / _REPEATS, end, tolerance, "x")


def _memory(device: torch.device) -> Check:
    size = 256 * MIB
    measure_peak(lambda: torch.ones(MIB, dtype=torch.uint8, device=device), device)
    peak = measure_peak(lambda: torch.ones(size, dtype=torch.uint8, device=device), device)
    return Check("peak memory, an allocation", size, peak.rise, 0.01, "B")


def _network(device: torch.device) -> Iterator[Check]:
    """Linear, ReLU, linear: small enough to compute all values by hand."""
    first, second = nn.Linear(64, 128, device=device), nn.Linear(128, 32, device=device)
    x = torch.ones(10, 64, device=device)
    parameters = [*first.parameters(), *second.parameters()]
    saved = saved_for_backward(lambda: second(F.relu(first(x))), parameters)
    # The input, and the ReLU's output, which the second layer saves as well.
    yield Check("saved for backward, a small network", 4 * 10 * (64 + 128), saved, 0.0, "B")
    with torch.device("meta"):
        layers = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
        empty = torch.empty(10, 64)
    with WorkCounter() as counter:
        layers(empty).sum().backward()
    # Forward; weight gradients of both; the input's gradient only of the second.
    known = 2 * 10 * (64 * 128 * 2 + 128 * 32 * 3)
    yield Check("FLOPs, a small network", known, counter.flops, 0.0, "FLOP")
