import errno
import multiprocessing
import resource
import signal

import pytest
import torch

from passt_bench.errors import StorageError
from passt_bench.measure.failure import (
    classify,
    explain_exit,
    is_storage_error,
    memory_limit,
    oom_kills,
    was_interrupted,
)


def test_memory_that_ran_out_on_the_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert classify(caught.value) == "oom"


def _because_of(first: Exception) -> RuntimeError:
    error = RuntimeError("unexpected pos 64 vs 0")
    error.__context__ = first
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "oom"),
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (OSError(errno.ENOMEM, "mmap"), "oom"),
        (_because_of(MemoryError()), "oom"),  # what broke because memory had run out
        (RuntimeError("CUDA error: out of memory"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "oom"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (RuntimeError("size mismatch"), "error"),
        (ValueError("out of memory of names"), "error"),
        (OSError(errno.ENOENT, "no file"), "error"),
        (_because_of(ValueError()), "error"),
    ],
    ids=repr,
)
def test_kinds_of_exceptions(error: Exception, kind: str) -> None:
    assert classify(error) == kind


def test_exits_are_told_apart() -> None:
    kills = oom_kills()
    assert explain_exit(3, kills) == ("error", "the process ended with exit status 3")
    assert explain_exit(-signal.SIGSEGV, kills) == ("error", "killed by signal 11 (SIGSEGV)")
    # Where the kernel's count is unknown, a SIGKILL nobody sent is most likely its doing.
    assert explain_exit(-signal.SIGKILL, None)[0] == "oom"


@pytest.mark.skipif(oom_kills() is None, reason="needs /proc/vmstat")
def test_a_kill_by_the_kernel_shows_in_its_count() -> None:
    kills = oom_kills()
    assert kills is not None
    assert explain_exit(-signal.SIGKILL, kills) == ("error", "killed by signal 9 (SIGKILL)")
    status, message = explain_exit(-signal.SIGKILL, kills - 1)
    assert (status, message) == ("oom", "killed by the kernel: out of memory")


def test_exit_codes_of_real_processes() -> None:
    child = multiprocessing.get_context("forkserver").Process(target=signal.raise_signal, args=(9,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    child.close()


def test_a_full_disk_is_a_storage_error() -> None:
    assert is_storage_error(OSError(errno.ENOSPC, "full"))
    assert is_storage_error(StorageError("cannot be written"))
    assert not is_storage_error(OSError(errno.ENOENT, "no file"))
    assert not is_storage_error(MemoryError())


def test_who_was_ended_from_outside() -> None:
    kills = oom_kills()
    assert was_interrupted(-signal.SIGTERM, kills)
    assert was_interrupted(255, kills)
    assert not was_interrupted(-signal.SIGSEGV, kills)
    assert not was_interrupted(1, kills)
    assert not was_interrupted(0, kills)
    assert not was_interrupted(-signal.SIGKILL, None)
    if kills is not None:
        assert was_interrupted(-signal.SIGKILL, kills)
        assert not was_interrupted(-signal.SIGKILL, kills - 1)


def test_a_memory_limit_holds_while_it_lasts() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limit(None):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with pytest.raises(RuntimeError) as caught, memory_limit(1 << 20):
        torch.empty(1 << 33, dtype=torch.uint8)  # more than a long test session's heap has free
    assert classify(caught.value) == "oom"
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert torch.empty(1 << 28, dtype=torch.uint8).numel() == 1 << 28
