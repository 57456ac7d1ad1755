import errno
import resource
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.errors import failure_status, is_storage_error
from passt_bench.measure import memory
from passt_bench.measure.memory import measure_peak, memory_limit, saved_for_backward

CPU = torch.device("cpu")
MIB = 1024**2


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone")
def test_doing_nothing_hardly_rises() -> None:
    assert measure_peak(lambda: None, CPU).rise < 1.5 * MIB


def test_without_the_reset_the_peak_is_marked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "missing" / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing" / "status")
    peak = measure_peak(lambda: None, CPU)
    assert not peak.was_reset
    assert peak.peak >= peak.before > MIB


def test_saved_bytes_of_a_small_network_by_hand() -> None:
    first, second = nn.Linear(8, 16), nn.Linear(16, 4)
    x = torch.ones(10, 8)

    def forward() -> torch.Tensor:
        return second(F.relu(first(x)))

    parameters = [*first.parameters(), *second.parameters()]
    # The first layer saves its input, ReLU its output, and the second layer that same tensor.
    assert saved_for_backward(forward, parameters) == 4 * (10 * 8 + 10 * 16)
    weight = 4 * 16 * 4  # the second layer saves its weight, for the gradient of its input
    assert saved_for_backward(forward) == 4 * (10 * 8 + 10 * 16) + weight


def test_saved_bytes_count_a_storage_once_and_whole() -> None:
    base = torch.ones(100, 10, requires_grad=True)

    def forward() -> torch.Tensor:
        doubled = base * 2  # saves nothing: the factor is a number
        return (doubled[:5].exp() * doubled[:5].sin()).sum()

    # sin saves a view of the whole of `doubled`; exp its own output, which the product saves
    # too; the product saves sin's output as well.
    assert saved_for_backward(forward) == 4 * (100 * 10 + 5 * 10 + 5 * 10)


def test_saved_bytes_without_gradients_and_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(8, 16), torch.ones(10, 8)
    parameters = list(layer.parameters())
    assert saved_for_backward(lambda: layer(x).relu(), parameters) == 4 * (10 * 8 + 10 * 16)
    assert saved_for_backward(torch.no_grad()(lambda: layer(x))) == 0


def test_fused_attention_saves_no_scores() -> None:
    q, k, v = (torch.rand(2, 4, 64, 16, requires_grad=True) for _ in range(3))
    tokens = 4 * 2 * 4 * 64 * 16  # bytes of one of q, k, v
    fused = saved_for_backward(lambda: F.scaled_dot_product_attention(q, k, v))

    def by_hand() -> torch.Tensor:
        return (q @ k.transpose(2, 3) / 4).softmax(-1) @ v

    scores = 4 * 2 * 4 * 64 * 64
    assert fused == 4 * tokens + 4 * 2 * 4 * 64  # q, k, v, the output, and a log-sum each row
    assert saved_for_backward(by_hand) == 3 * tokens + scores


def _because_of(first: Exception) -> RuntimeError:
    error = RuntimeError("unexpected pos 64 vs 0")
    error.__context__ = first
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "oom"),
        (OSError(errno.ENOMEM, "mmap"), "oom"),
        (_because_of(MemoryError()), "oom"),  # what broke because memory had run out
        (RuntimeError("CUDA error: out of memory"), "oom"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "oom"),
        (RuntimeError("std::bad_alloc"), "oom"),
        (ImportError("x.so: failed to map segment from shared object"), "oom"),
        (ImportError("no module named x"), "error"),
        (RuntimeError("size mismatch"), "error"),
        (ValueError("out of memory of names"), "error"),
        (OSError(errno.ENOENT, "no file"), "error"),
        (_because_of(ValueError()), "error"),
    ],
    ids=repr,
)
def test_kinds_of_exceptions(error: Exception, kind: str) -> None:
    assert failure_status(error) == kind
    assert not is_storage_error(error)
    assert is_storage_error(OSError(errno.ENOSPC, "full"))


def test_a_memory_limit_holds_while_it_lasts() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with memory_limit(None):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
    with pytest.raises(RuntimeError) as caught, memory_limit(1 << 20):
        torch.empty(1 << 33, dtype=torch.uint8)  # more than a long test session's heap has free
    assert failure_status(caught.value) == "oom"
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert torch.empty(1 << 28, dtype=torch.uint8).numel() == 1 << 28
