import torch
from pytest_benchmark.fixture import BenchmarkFixture

from passt_bench.intervals import ratio_intervals
from passt_bench.measure.target import Clock


def test_bench_clock(benchmark: BenchmarkFixture) -> None:
    """What timing adds to a step of three parts."""
    clock = Clock(torch.device("cpu"))
    work = dict.fromkeys(("forward", "backward", "optimizer"), lambda: None)
    benchmark(lambda: (clock.run(work, total="train_step"), clock.read()))


def test_bench_ratio_intervals(benchmark: BenchmarkFixture) -> None:
    """One arm's ratio over five restarts of twelve rounds of three steps."""
    rounds = {"train_step": [[1.0 + i, 1.1 + i, 1.2 + i] for i in range(60)]}
    ratio = benchmark(ratio_intervals, rounds, rounds, (12,) * 5)["train_step"]
    assert (ratio.low, ratio.high) == (1.0, 1.0)
