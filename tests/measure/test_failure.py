import multiprocessing
import signal

import pytest
import torch

from passt_bench.measure.failure import classify, explain_exit, oom_kills


def test_memory_that_ran_out_on_the_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50, dtype=torch.uint8)
    assert classify(caught.value) == "oom"


def test_kinds_of_exceptions() -> None:
    assert classify(MemoryError()) == "oom"
    assert classify(torch.OutOfMemoryError("CUDA out of memory")) == "oom"
    assert classify(RuntimeError("size mismatch")) == "error"
    assert classify(ValueError("out of memory of names")) == "error"


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
