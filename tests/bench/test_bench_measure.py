import torch
from pytest_benchmark.fixture import BenchmarkFixture

from passt_bench.intervals import ratio_intervals
from passt_bench.measure.flops import count_flops
from passt_bench.measure.memory import saved_for_backward
from passt_bench.measure.target import Clock
from passt_bench.models import build_model


def test_bench_clock(benchmark: BenchmarkFixture) -> None:
    """What timing adds to a step of three parts."""
    clock = Clock(torch.device("cpu"))
    work = dict.fromkeys(("forward", "backward", "optimizer"), lambda: None)
    benchmark(lambda: (clock.run(work, total="train_step"), clock.read()))


def test_bench_ratio_intervals(benchmark: BenchmarkFixture) -> None:
    """One arm's ratio over sixty rounds of three steps, which the coordinator wants each round."""
    rounds = {"train_step": [[1.0 + i, 1.1 + i, 1.2 + i] for i in range(60)]}
    ratio = benchmark(ratio_intervals, rounds, rounds)["train_step"]
    assert (ratio.low, ratio.high) == (1.0, 1.0)


def test_bench_count_flops(benchmark: BenchmarkFixture) -> None:
    """FLOPs of a training step of the micro transformer on the meta device."""
    with torch.device("meta"):
        net = build_model("passt_micro", 16, patch=(8, 8), stride=(8, 8), mels=64, frames=64)
        x = torch.empty(1, 1, 64, 64)
    benchmark.extra_info["flops"] = benchmark(lambda: count_flops(lambda: net(x), backward=True))


def test_bench_saved_for_backward(benchmark: BenchmarkFixture) -> None:
    """A forward pass of the micro transformer with every saved tensor counted."""
    torch.set_num_threads(1)
    net = build_model("passt_micro", 16, patch=(8, 8), stride=(8, 8), mels=64, frames=64)
    x = torch.zeros(4, 1, 64, 64)
    parameters = list(net.parameters())
    saved = benchmark(lambda: saved_for_backward(lambda: net(x), parameters))
    benchmark.extra_info |= {"saved_bytes": saved, "tokens": 66, "threads": 1, "dtype": "float32"}
    assert saved > 0
