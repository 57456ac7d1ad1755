import time
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from passt_bench.measure.target import Clock, attention_kernel

CPU = torch.device("cpu")
Q = torch.rand(1, 2, 8, 16)


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda: F.scaled_dot_product_attention(Q, Q, Q), "flash_attention_for_cpu"),
        (lambda: (Q @ Q.transpose(2, 3)).softmax(-1) @ Q, "unfused"),
        (lambda: nn.Conv2d(1, 2, 3)(torch.rand(1, 1, 5, 5)), ""),
    ],
    ids=["fused", "by hand", "none"],
)
def test_the_kernel_of_attention(forward: Callable[[], torch.Tensor], name: str) -> None:
    assert attention_kernel(forward) == name


def test_parts_add_up_to_the_total() -> None:
    clock = Clock(CPU)
    for _ in range(3):
        clock.run({"a": lambda: time.sleep(0.002), "b": lambda: time.sleep(0.001)}, total="step")
    seconds = clock.read()
    assert sorted(seconds) == ["a", "b", "step", "step_cpu"]
    for a, b, step in zip(seconds["a"], seconds["b"], seconds["step"], strict=True):
        assert a + b == pytest.approx(step, abs=1e-9)
    assert max(seconds["step_cpu"]) < 0.002 < min(seconds["step"])  # waiting is left out
    assert clock.read() == {}
