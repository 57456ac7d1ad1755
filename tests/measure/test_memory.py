import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.measure import memory
from passt_bench.measure.memory import measure_peak, saved_for_backward

CPU = torch.device("cpu")
MIB = 1024**2
linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux alone")


@linux
@pytest.mark.parametrize("mebibytes", [64, 256])
def test_a_known_allocation(mebibytes: int) -> None:
    peak = measure_peak(lambda: torch.ones(mebibytes * MIB, dtype=torch.uint8), CPU)
    assert peak.method == "VmHWM"
    assert peak.rise == pytest.approx(mebibytes * MIB, abs=1.5 * MIB)
    assert peak.peak == peak.before + peak.rise


@linux
def test_an_earlier_peak_is_forgotten() -> None:
    measure_peak(lambda: torch.ones(128 * MIB, dtype=torch.uint8), CPU)
    peak = measure_peak(lambda: torch.ones(16 * MIB, dtype=torch.uint8), CPU)
    assert peak.rise == pytest.approx(16 * MIB, abs=1.5 * MIB)


@linux
def test_memory_that_the_allocator_held_back_counts_again() -> None:
    # In a process of its own: the holes in a test session's heap would take some of it in.
    code = """if True:
        import torch
        from passt_bench.measure.memory import measure_peak
        many = lambda: [torch.ones(4096, dtype=torch.uint8) for _ in range(8192)]  # on the heap
        print(*(measure_peak(many, torch.device("cpu")).rise for _ in range(2)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for rise in map(float, done.stdout.split()):
        assert 0.75 * 32 * MIB < rise < 1.5 * 32 * MIB


@linux
def test_doing_nothing_hardly_rises() -> None:
    assert measure_peak(lambda: None, CPU).rise < 1.5 * MIB


def test_without_the_reset_the_peak_is_marked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "missing" / "clear_refs")
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "missing" / "status")
    peak = measure_peak(lambda: None, CPU)
    assert peak.method == "ru_maxrss"
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


def test_saved_bytes_without_gradients_are_none() -> None:
    layer = nn.Linear(8, 16)

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return layer(torch.ones(10, 8))

    assert saved_for_backward(forward) == 0


def test_fused_attention_saves_no_scores() -> None:
    q, k, v = (torch.rand(2, 4, 64, 16, requires_grad=True) for _ in range(3))
    tokens = 4 * 2 * 4 * 64 * 16  # bytes of one of q, k, v
    fused = saved_for_backward(lambda: F.scaled_dot_product_attention(q, k, v))

    def by_hand() -> torch.Tensor:
        return (q @ k.transpose(2, 3) / 4).softmax(-1) @ v

    scores = 4 * 2 * 4 * 64 * 64
    assert fused == 4 * tokens + 4 * 2 * 4 * 64  # q, k, v, the output, and a log-sum each row
    assert saved_for_backward(by_hand) == 3 * tokens + scores


def test_saved_bytes_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer, x = nn.Linear(8, 16), torch.ones(10, 8)
    parameters = list(layer.parameters())
    assert saved_for_backward(lambda: layer(x).relu(), parameters) == 4 * (10 * 8 + 10 * 16)
