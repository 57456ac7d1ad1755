"""What this machine has, what disturbs measuring on it, and what is missing for which command."""

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
    """One thing that was looked at.

    Attributes:
        what: it.
        state: ``good``, ``note`` (works, but mind it) or ``missing`` (a command cannot run).
        detail: what was found.
        remedy: what to do about it; empty where nothing is to be done.
    """

    what: str
    state: State
    detail: str
    remedy: str = ""


def examine(out: Path) -> list[Finding]:
    """Looks at the machine; takes about a second and changes nothing.

    Args:
        out: where runs would be written.
    """
    parts = (_machine(), _measuring(), _gpu(), _room(out), _data(), _packages())
    return [finding for part in parts for finding in part]


def _machine() -> Iterator[Finding]:
    machine = describe_machine()
    cores, memory = machine["cores"], machine["memory_gib"]
    yield Finding("processor", "good", f"{machine['cpu']}, {cores} cores, {memory} GiB")
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    yield Finding("versions", "good", f"Python {machine['python']}, {versions}")


def _measuring() -> Iterator[Finding]:
    state = background_load(1.0)
    load = f"load {state['load'][0]} on {state['cores']} cores, others use {state['other_cores']}"
    busy = [text for text in state["warnings"] if "GPU" not in text]
    yield Finding(
        "quiet",
        "note" if busy else "good",
        " ".join(busy) or load,
        "Close what is busy before measuring; ratios hold, their intervals widen." if busy else "",
    )
    governor = state["governor"] or "not readable (a virtual machine?): the clock may change unseen"
    fixed = state["governor"] == "performance"
    yield Finding("clock governor", "good" if fixed else "note", governor)
    throttled = state["throttled"]
    yield Finding(
        "throttled by heat",
        "good" if throttled in (None, "0") else "note",
        "not readable here" if throttled is None else f"{throttled} times since the start",
    )
    given = {name: os.environ[name] for name in _THREADS if name in os.environ}
    yield Finding(
        "threads",
        "good",
        "engine.threads decides (1 by default)"
        + (f"; in the environment {given}" if given else ""),
    )
    resets = reset_resident_peak()
    yield Finding(
        "resident peak",
        "good" if resets else "note",
        "can be reset" if resets else "cannot be reset: train_peak is that of a whole life",
    )
    kills = oom_kills()
    yield Finding(
        "kills for memory",
        "good" if kills is not None else "note",
        f"{kills} since the start" if kills is not None else "not readable: signal 9 counts as oom",
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
            f"there is a GPU, and torch is built for {built or 'the CPU alone'}",
            "Install the CUDA build of torch for --device cuda.",
        )
    else:
        yield Finding("CUDA", "missing", "no GPU", "--device cuda needs one; all else runs.")
    compiler = shutil.which("g++") or shutil.which("clang++")
    yield Finding(
        "compiler",
        "good" if compiler else "missing",
        Path(compiler).name if compiler else "no C++ compiler",
        "" if compiler else "`compare --engine compiled` on the CPU needs g++.",
    )


def _room(out: Path) -> Iterator[Finding]:
    there = next(path for path in (out.absolute(), *out.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    yield Finding(
        "disk",
        "good" if free > _LOW_DISK else "note",
        f"{free / GIB:.0f} GiB free for {out}",
        "" if free > _LOW_DISK else "A long study writes checkpoints and features: make room.",
    )
    writable = os.access(there, os.W_OK)
    yield Finding(
        "output folder",
        "good" if writable else "missing",
        "can be written" if writable else f"{there} cannot be written",
        "" if writable else "Give --runs a folder that can be.",
    )
    memory = psutil.virtual_memory().available
    yield Finding(
        "memory", "good" if memory > _LOW_MEMORY else "note", f"{memory / GIB:.0f} GiB available"
    )


def _data() -> Iterator[Finding]:
    found = data_folders(())
    yield Finding(
        "real audio",
        "good" if found else "note",
        f"{DATA_VARIABLE}: {', '.join(sorted(found)) or 'nothing'}",
        "" if found else f"Set {DATA_VARIABLE}, or give --data NAME=DIR; `quick` needs none.",
    )


def _packages() -> Iterator[Finding]:
    """Packages that registered components wrap: those of the authors' models, say."""
    found: list[Component[Any]] = []
    for registry in ALL:
        try:
            found += registry.all()
        except InputError as error:  # a plug-in that cannot be loaded
            what, detail = f"plug-in {error.field}", f"{error.value}: {error.problem}"
            yield Finding(what, "missing", detail, error.remedy or "")
    for item in found:
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
