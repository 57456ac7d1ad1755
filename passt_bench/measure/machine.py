"""Describes the machine, its libraries and cores, and the background load of a measurement.

No host, user or path is recorded.

Cores of one machine differ: the other thread of a physical core, or other work of the hypervisor,
can slow one core down by half for seconds. By default a process stays on the core where it first
ran; two equal variants then differ for a whole session.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from passt_bench.registry import installed_version

GIB = 1024**3
_LIBRARIES = ("passt-bench", "torch", "torchaudio", "numpy")
_CPU = Path("/sys/devices/system/cpu/cpu0")
_BUSY_CORES = 0.1  # cores used by other processes that cause a warning
_STOLEN_CORES = 0.02
_GPU_FIELDS = (
    "name,utilization.gpu,memory.used,clocks_throttle_reasons.active,clocks.sm,power.draw,"
    "driver_version"
)
_GPU_USE_WINDOW = 1.5  # the driver's GPU use is a mean over up to a second
# Bits of NVML's nvmlClocksEventReasons that slow a GPU: power cap, slowdowns, power brake.
GPU_SLOWED = 0x04 | 0x08 | 0x20 | 0x40 | 0x80


@cache
def describe_machine() -> dict[str, Any]:
    """The properties of the machine that affect speed; asked for once."""
    machine: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() if (cores := all_cores()) is None else len(cores),
        "memory_gib": round(psutil.virtual_memory().total / GIB),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }
    gpus = query_gpus()
    if gpus:
        machine["gpus"] = [gpu["name"] for gpu in gpus]
    return machine


def _cpu_model() -> str:
    lines = (_read(Path("/proc/cpuinfo")) or "").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that affect numbers and speed."""
    versions = {name: found for name in _LIBRARIES if (found := installed_version(name))}
    if torch.version.cuda:
        versions["cuda"] = torch.version.cuda
        versions["cudnn"] = str(torch.backends.cudnn.version())  # type: ignore[no-untyped-call]
        versions |= {"driver": gpus[0]["driver"]} if (gpus := query_gpus()) else {}
    return versions


_PACKAGE = Path(__file__).resolve().parent.parent


def git_commit(package: Path = _PACKAGE) -> str | None:
    """The commit that this package runs from, with ``-dirty`` if tracked files differ.

    Rendered reports do not count, because runs write them. None without a repository. The
    environment variable ``PASST_BENCH_COMMIT`` replaces all this: for a copy of the files whose
    repository is missing or at another commit, as on a machine without network.
    """
    if given := os.environ.get("PASST_BENCH_COMMIT"):
        return given
    git = ("git", "-C", str(package))
    if _output(*git, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _output(*git, "rev-parse", "HEAD")
    sources = ("--", ":(top)", ":(top,exclude)reports")
    changed = _output(*git, "status", "--porcelain", "--untracked-files=no", *sources)
    return f"{commit}-dirty" if commit and changed else commit


def _output(*command: str) -> str | None:
    """What a program prints; None if it fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def background_load(seconds: float = 0.2) -> dict[str, Any]:
    """The load by other work on this machine; call it while nothing is measured.

    Returns:
        ``load`` (averages over 1, 5 and 15 minutes), ``other_cores`` (used by processes other than
        this one and its children), ``stolen_cores`` (taken by the hypervisor), ``governor``,
        ``throttled`` (count of thermal throttlings), ``gpus``, ``warnings`` for the user.
    """
    own, total, start = own_seconds(), psutil.cpu_times(), time.perf_counter()
    time.sleep(seconds)
    span = time.perf_counter() - start
    own_after, total_after = own_seconds(), psutil.cpu_times()
    busy = _busy_seconds(total_after) - _busy_seconds(total) - (own_after - own)
    stolen = getattr(total_after, "steal", 0) - getattr(total, "steal", 0)
    state: dict[str, Any] = {
        "load": [round(value, 2) for value in psutil.getloadavg()],
        "cores": psutil.cpu_count(),
        "other_cores": round(max(0.0, busy / span), 2),
        "stolen_cores": round(max(0.0, stolen / span), 2),
        "governor": _read(_CPU / "cpufreq" / "scaling_governor"),
        "throttled": _read(_CPU / "thermal_throttle" / "core_throttle_count"),
        "gpus": _idle_gpus(),
    }
    return state | {"warnings": _warnings(state)}


def _busy_seconds(times: Any) -> float:
    names = ("user", "nice", "system", "irq", "softirq")
    return float(sum(getattr(times, name, 0.0) for name in names))


def own_seconds() -> float:
    """CPU seconds of this process and all its running descendants."""
    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.Error:  # ended meanwhile
            continue
        total += times.user + times.system
    return total


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _warnings(state: dict[str, Any]) -> list[str]:
    lines = []
    if state["other_cores"] > _BUSY_CORES:
        lines.append(
            f"Other processes keep {state['other_cores']} of {state['cores']} cores busy: "
            "step times may vary more."
        )
    if state["stolen_cores"] > _STOLEN_CORES:
        lines.append(f"The hypervisor takes {state['stolen_cores']} cores away from this machine.")
    if state["governor"] not in (None, "performance"):
        lines.append(
            f"CPU frequency may change during measurement (governor {state['governor']!r})."
        )
    for number, gpu in enumerate(state["gpus"]):
        if gpu["busy_percent"] > 0:
            lines.append(f"GPU {number} is {gpu['busy_percent']} % busy with something else.")
        if gpu["slowed"] & GPU_SLOWED:
            lines.append(f"GPU {number} is slowed by power or heat (reasons {gpu['slowed']:#x}).")
    return lines


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The load before and after a session, with all warnings, each once."""
    warnings = [*before["warnings"], *after["warnings"]]
    if before["throttled"] != after["throttled"]:
        warnings.append("The CPU was throttled by heat during the session.")
    return {"before": before, "after": after, "warnings": list(dict.fromkeys(warnings))}


def query_gpus() -> list[dict[str, Any]]:
    """Name, use, frequency, power and slow-down reasons of each NVIDIA GPU; empty without one.

    Asks ``nvidia-smi``, because CUDA would allocate hundreds of MiB on every GPU, for those of
    ``CUDA_VISIBLE_DEVICES``; for all if it does not know these (an instance of MIG).
    """
    ask = ("nvidia-smi", f"--query-gpu={_GPU_FIELDS}", "--format=csv,noheader,nounits")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").replace(" ", "")
    text = (_output(*ask, f"--id={visible}") if visible else None) or _output(*ask)
    return parse_gpus(text or "")


def _idle_gpus() -> list[dict[str, Any]]:
    """`query_gpus`, repeated after a pause if a GPU was busy, perhaps with this program's work."""
    gpus = query_gpus()
    if any(gpu["busy_percent"] > 0 for gpu in gpus):
        time.sleep(_GPU_USE_WINDOW)
        gpus = query_gpus()
    return gpus


def parse_gpus(text: str) -> list[dict[str, Any]]:
    """Reads the answer to `query_gpus`; what the driver does not report (``[N/A]``) counts as 0."""
    gpus = []
    for line in text.strip().splitlines():
        name, busy, used, slowed, clock, power, driver = map(str.strip, line.rsplit(",", 6))
        gpus.append(
            {
                "name": name,
                "busy_percent": int(busy) if busy.isdigit() else 0,
                "used_mib": int(used) if used.isdigit() else 0,
                "slowed": int(slowed, 16) if slowed.startswith("0x") else 0,
                "clock_mhz": int(clock) if clock.isdigit() else 0,
                "power_watts": float(power) if power.replace(".", "", 1).isdigit() else 0.0,
                "driver": driver,
            }
        )
    return gpus


def all_cores() -> tuple[int, ...] | None:
    """The cores that this process may run on; None if the system does not report them."""
    return tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else None


def cores_of_round(number: int, threads: int) -> tuple[int, ...] | None:
    """The cores that every variant runs on in a round, as many as threads.

    Each round shifts them by one. None if the system does not let a process choose.
    """
    cores = all_cores()
    if cores is None:
        return None
    return tuple({cores[(number + i) % len(cores)]: None for i in range(threads)})


def bind(cores: tuple[int, ...] | None) -> None:
    """Binds all threads of this process to some cores; None changes nothing."""
    if cores is None:
        return
    threads = Path("/proc/self/task")
    for thread in threads.iterdir() if threads.is_dir() else ():
        try:
            os.sched_setaffinity(int(thread.name), cores)
        except ProcessLookupError:
            continue  # it ended meanwhile
