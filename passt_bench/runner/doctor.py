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
from passt_bench.measure.failure import oom_kills
from passt_bench.measure.machine import (
    GPU_SLOWED,
    background_load,
    describe_machine,
    library_versions,
)
from passt_bench.measure.memory import reset_resident_peak
from passt_bench.registry import ALL, Component, installed_version
from passt_bench.runner.request import DATA_VARIABLE, data_folders

GIB = 1024**3
_LOW_DISK, _LOW_MEMORY = 5 * GIB, 4 * GIB
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
State = Literal["good", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One item of the report.

    Attributes:
        what: name of the item.
        state: ``good``, ``note`` (works, with a caveat) or ``missing`` (a command cannot run).
        detail: the state in words.
        remedy: what to do; empty if there is nothing to do.
    """

    what: str
    state: State
    detail: str
    remedy: str = ""


def examine(out: Path) -> list[Finding]:
    """Examines the machine; takes about a second and changes nothing.

    Args:
        out: folder that runs would write to.
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
    busy = [text for text in state["warnings"] if "GPU" not in text]
    yield Finding(
        "other work",
        "note" if busy else "good",
        " ".join(busy) or load,
        "Stop it before measuring; ratios stay right, but intervals widen." if busy else "",
    )
    governor = state["governor"] or "not readable (a virtual machine?); the clock may change"
    fixed = state["governor"] == "performance"
    yield Finding("clock governor", "good" if fixed else "note", governor)
    throttled = state["throttled"]
    yield Finding(
        "throttled by heat",
        "good" if throttled in (None, "0") else "note",
        "not readable here" if throttled is None else f"{throttled} times since boot",
    )
    given = {name: os.environ[name] for name in _THREADS if name in os.environ}
    yield Finding(
        "threads",
        "good",
        "set by engine.threads (1 by default)" + (f"; in the environment {given}" if given else ""),
    )
    resets = reset_resident_peak()
    yield Finding(
        "resident peak",
        "good" if resets else "note",
        "can be reset" if resets else "cannot be reset: train_peak covers the whole process",
    )
    kills = oom_kills()
    yield Finding(
        "kills for memory",
        "good" if kills is not None else "note",
        f"{kills} since boot" if kills is not None else "not readable: signal 9 counts as oom",
    )


def _gpu() -> Iterator[Finding]:
    gpus = background_load(0.0)["gpus"]
    for number, gpu in enumerate(gpus):
        slowed = bool(gpu["slowed"] & GPU_SLOWED)
        busy = gpu["busy_percent"] > 0 or gpu["used_mib"] > 500
        detail = f"{gpu['name']}, {gpu['busy_percent']} % busy, {gpu['used_mib']} MiB in use"
        detail += ", slowed by power or heat" if slowed else ""
        yield Finding(f"GPU {number}", "note" if busy or slowed else "good", detail)
    built = torch.version.cuda
    if torch.cuda.is_available():
        yield Finding("CUDA", "good", f"torch is built for {built}")
    elif gpus:
        yield Finding(
            "CUDA",
            "missing",
            f"there is a GPU, but torch is built for {built or 'the CPU only'}",
            "Install the CUDA build of torch for --device cuda.",
        )
    else:
        yield Finding("CUDA", "missing", "no GPU", "Only --device cuda needs one.")
    compiler = shutil.which("g++") or shutil.which("clang++")
    yield Finding(
        "compiler",
        "good" if compiler else "missing",
        Path(compiler).name if compiler else "no C++ compiler",
        "" if compiler else "`compare --engine compiled` on the CPU needs g++.",
    )


def _storage(out: Path) -> Iterator[Finding]:
    nearest = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(nearest).free
    yield Finding(
        "disk",
        "good" if free > _LOW_DISK else "note",
        f"{free / GIB:.0f} GiB free for {out}",
        "" if free > _LOW_DISK else "Free some space: a long study writes much.",
    )
    writable = os.access(nearest, os.W_OK)
    yield Finding(
        "output folder",
        "good" if writable else "missing",
        "can be written" if writable else f"{nearest} cannot be written",
        "" if writable else "Give a writable folder with --runs.",
    )
    memory = psutil.virtual_memory().available
    yield Finding(
        "memory", "good" if memory > _LOW_MEMORY else "note", f"{memory / GIB:.0f} GiB available"
    )


def _data() -> Iterator[Finding]:
    folders = data_folders(())
    yield Finding(
        "real audio",
        "good" if folders else "note",
        f"{DATA_VARIABLE}: {', '.join(sorted(folders)) or 'none'}",
        "" if folders else f"Set {DATA_VARIABLE}, or give --data NAME=DIR; `quick` needs none.",
    )


def _packages() -> Iterator[Finding]:
    """Packages that registered components wrap, e.g. those of the authors' models."""
    components: list[Component[Any]] = []
    for registry in ALL:
        try:
            components += registry.all()
        except InputError as error:  # a plug-in that cannot be loaded
            what, detail = f"plug-in {error.field}", f"{error.value}: {error.problem}"
            yield Finding(what, "missing", detail, error.remedy or "")
    for item in components:
        if not item.packages:
            continue
        missing = item.missing()
        versions = [
            f"{name} {installed_version(name) or 'not installed'}" for name in item.packages
        ]
        yield Finding(
            item.name,
            "missing" if missing else "good",
            ", ".join(versions),
            f"Install {', '.join(missing)} to use it." if missing else "",
        )
