"""Reports what this machine has, what disturbs measurements, and what commands lack."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from passt_bench.errors import InputError
from passt_bench.measure.machine import (
    GPU_SLOWED,
    background_load,
    describe_machine,
    library_versions,
)
from passt_bench.measure.memory import reset_resident_peak
from passt_bench.processes import oom_kills
from passt_bench.registry import ALL, Component, installed_version
from passt_bench.runner.request import DATA_VARIABLE, data_folders

GIB = 1024**3
_LOW_DISK, _LOW_MEMORY = 5 * GIB, 4 * GIB
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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
    parts = (_machine(), _measuring(), _gpu(), _storage(out), _data(), _packages())
    return [finding for part in parts for finding in part]


def _machine() -> Iterator[Finding]:
    machine = describe_machine()
    cores, memory = machine["cores"], machine["memory_gib"]
    yield Finding("processor", "good", f"{machine['cpu']}, {cores} cores, {memory} GiB")
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    yield Finding("versions", "good", f"Python {machine['python']}, {versions}")


def _measuring() -> Iterator[Finding]:
    state = background_load(1.0)
    load = f"load {state['load'][0]} on {state['cores']} cores, {state['other_cores']} in other use"
    busy = " ".join(text for text in state["warnings"] if "GPU" not in text)
    remedy = "Stop it before measuring; ratios stay right, but intervals widen."
    yield _finding("other work", not busy, busy or load, remedy)
    governor = state["governor"] or "not readable (a virtual machine?); the clock may change"
    yield _finding("clock governor", state["governor"] == "performance", governor)
    heat = state["throttled"]
    detail = "not readable here" if heat is None else f"{heat} times since boot"
    yield _finding("throttled by heat", heat in (None, "0"), detail)
    given = {name: os.environ[name] for name in _THREADS if name in os.environ}
    detail = "set by engine.threads (1 by default)"
    detail += f"; in the environment {given}" if given else ""
    yield Finding("threads", "good", detail)
    resets = reset_resident_peak()
    detail = "can be reset" if resets else "cannot be reset: train_peak covers the whole process"
    yield _finding("resident peak", resets, detail)
    kills = oom_kills()
    detail = "not readable: signal 9 counts as oom" if kills is None else f"{kills} since boot"
    yield _finding("kills for memory", kills is not None, detail)


def _gpu() -> Iterator[Finding]:
    gpus = background_load(0.0)["gpus"]
    for number, gpu in enumerate(gpus):
        slowed = bool(gpu["slowed"] & GPU_SLOWED)
        busy = gpu["busy_percent"] > 0 or gpu["used_mib"] > 500
        detail = f"{gpu['name']}, {gpu['busy_percent']} % busy, {gpu['used_mib']} MiB in use"
        detail += ", slowed by power or heat" if slowed else ""
        yield _finding(f"GPU {number}", not (busy or slowed), detail)
    built, detail, remedy = torch.version.cuda, "no GPU", "Only --device cuda needs one."
    if torch.cuda.is_available():
        detail = f"torch is built for {built}"
    elif gpus:
        detail = f"there is a GPU, but torch is built for {built or 'the CPU only'}"
        remedy = "Install the CUDA build of torch for --device cuda."
    yield _finding("CUDA", torch.cuda.is_available(), detail, remedy, otherwise="missing")
    compiler = shutil.which("g++") or shutil.which("clang++")
    detail = Path(compiler).name if compiler else "no C++ compiler"
    remedy = "`compare --engine compiled` on the CPU needs g++."
    yield _finding("compiler", compiler is not None, detail, remedy, otherwise="missing")


def _storage(out: Path) -> Iterator[Finding]:
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free, memory = shutil.disk_usage(nearest).free, psutil.virtual_memory().available
    detail, remedy = (
        f"{free / GIB:.0f} GiB free for {out}",
        "Free some space: a long study writes much.",
    )
    yield _finding("disk", free > _LOW_DISK, detail, remedy)
    writable = os.access(nearest, os.W_OK)
    detail = "can be written" if writable else f"{nearest} cannot be written"
    remedy = "Give a writable folder with --runs."
    yield _finding("output folder", writable, detail, remedy, otherwise="missing")
    yield _finding("memory", memory > _LOW_MEMORY, f"{memory / GIB:.0f} GiB available")


def _data() -> Iterator[Finding]:
    folders = data_folders(())
    detail = f"{DATA_VARIABLE}: {', '.join(sorted(folders)) or 'none'}"
    remedy = f"Set {DATA_VARIABLE}, or give --data NAME=DIR; `quick` needs none."
    yield _finding("real audio", bool(folders), detail, remedy)


def _packages() -> Iterator[Finding]:
    """Packages that registered components wrap, e.g. those of the authors' models."""
    components: list[Component[Any]] = []
    for registry in ALL:
        try:
            components += registry.all()
        except InputError as error:  # a plug-in that cannot be loaded
            what, detail = f"plug-in {error.field}", f"{error.value}: {error.problem}"
            yield Finding(what, "missing", detail, error.remedy or "")
    for item in (item for item in components if item.packages):
        missing = item.missing()
        versions = {name: installed_version(name) or "not installed" for name in item.packages}
        detail = ", ".join(f"{name} {version}" for name, version in versions.items())
        remedy = f"Install {', '.join(missing)} to use it."
        yield _finding(item.name, not missing, detail, remedy, otherwise="missing")
