"""Memory: peaks of a process, bytes kept by autograd, and a memory limit."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

KIB = 1024
_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Peak:
    """The maximum memory use during a piece of work, in bytes."""

    before: int  # resident (CPU, with libraries) or allocated (CUDA)
    peak: int
    reserved: int | None = None  # CUDA only, by the caching allocator
    was_reset: bool = True  # or the peak is that since the process started: an upper bound

    @property
    def rise(self) -> int:
        """How far the peak rose above the level before."""
        return max(0, self.peak - self.before)


def measure_peak(work: Callable[[], object], device: torch.device) -> Peak:
    """Resets the peak, does the work, reads the peak.

    On the CPU, writing 5 to ``/proc/self/clear_refs`` resets ``VmHWM`` (Linux, proc(5)). Free
    memory that the C allocator still holds is first returned to the kernel; otherwise the work
    would reuse it without a rise. The kernel counts resident pages per core and adds
    them up in batches, so a reading may be off by some hundred KiB.
    """
    release_free_memory()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated(device)
        return Peak(before, peak, torch.cuda.max_memory_reserved(device))
    was_reset, before = reset_resident_peak(), resident("VmRSS")
    work()
    return Peak(before, resident("VmHWM"), was_reset=was_reset)


def peak_bytes(device: str) -> int:
    """The maximum since the process started or `reset_peak`: resident, or allocated on CUDA."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")


def reset_peak(device: str) -> bool:
    """Frees memory and starts the maximum of `peak_bytes` anew; returns whether that worked."""
    if device == "cuda":
        torch._C._cuda_clearCublasWorkspaces()  # one for each stream, never freed otherwise
        release_free_memory()
        torch.cuda.reset_peak_memory_stats()
        return True
    release_free_memory()
    return reset_resident_peak()


def reset_resident_peak() -> bool:
    """Resets the kernel's resident peak of this process; returns whether that worked."""
    with suppress(OSError):
        _CLEAR.write_text("5")
        return True
    return False


def resident(field: Literal["VmRSS", "VmHWM"]) -> int:
    """Resident bytes of this process, current (``VmRSS``) or peak (``VmHWM``).

    Without ``/proc`` both are the peak since the process started, ``ru_maxrss``.
    """
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * KIB
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * KIB


def release_free_memory() -> None:
    """Collects garbage and returns the allocators' free memory to the system."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only in glibc
    if trim is not None:
        trim(0)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()


def saved_for_backward(
    forward: Callable[[], object], leave_out: Iterable[torch.Tensor] = ()
) -> int:
    """Bytes that autograd keeps between the forward and the backward pass.

    Counts the whole storage of each tensor that an autograd node saves, once, even if several
    nodes or views share it: activations, the input where a layer needs it for its weight gradient,
    dropout masks, attention statistics, and the low-precision copies of weights that autocast
    makes. Does not count tensors in ``leave_out`` (parameters and buffers, which stay anyway),
    gradients, and workspace that is freed inside the pass. The attention kernel and the precision
    change the result: report them with it.
    """
    skip = {tensor.untyped_storage()._cdata for tensor in leave_out}
    # Keeping the storages alive keeps their addresses from being used twice.
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in skip:
            kept[storage._cdata] = storage
        return tensor.detach()  # the tensor itself would make a reference cycle

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward()
    return sum(storage.nbytes() for storage in kept.values())


@contextmanager
def memory_limit(limit: int | None) -> Iterator[None]:
    """Makes allocations of this process beyond so many bytes fail, inside the context.

    The limit counts private writable memory (``RLIMIT_DATA``), which is the memory a process
    allocates, without the libraries that it maps. Memory on a GPU is not counted.
    """
    if limit is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def share_gpu_memory(processes: int) -> None:
    """Limits this process to its share of the GPU's memory, so that it takes none of the others'.

    PyTorch counts what it allocates, and not the GiB at most that CUDA itself uses per process.
    """
    if processes > 1:
        total = torch.cuda.mem_get_info()[1]
        share = max(0.5 / processes, 1 / processes - KIB**3 / total)
        torch.cuda.set_per_process_memory_fraction(share)
