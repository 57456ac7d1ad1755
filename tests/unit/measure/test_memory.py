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


def rises(made: str, *sizes: int) -> list[int]:
    """What memory rises by, size after size, in a process of its own.

    A long test session frees memory at any moment, and its heap has holes. The last size comes
    first too, uncounted: code that runs for the first time is read into memory, up to 2 MiB of it.
    """
    code = f"""if True:
        import torch
        from passt_bench.measure.memory import measure_peak
        for size in {(sizes[-1], *sizes)}:
            peak = measure_peak(lambda: {made}, torch.device("cpu"))
            assert peak.method == "VmHWM" and peak.peak == peak.before + peak.rise
            print(peak.rise)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()][1:]


@linux
def test_known_allocations_whatever_was_before() -> None:
    sizes = (64 * MIB, 256 * MIB, 16 * MIB)
    found = rises("torch.ones(size, dtype=torch.uint8)", *sizes)
    assert found == pytest.approx(sizes, abs=1.5 * MIB)


@linux
def test_memory_that_the_allocator_held_back_counts_again() -> None:
    on_the_heap = "[torch.ones(4096, dtype=torch.uint8) for _ in range(size)]"
    for rise in rises(on_the_heap, 8192, 8192):
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
