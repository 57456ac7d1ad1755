"""No graph breaks: everything random is handed to the forward pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from passt_bench.models import Patchout, create_model, draw_batch


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _net() -> torch.nn.Module:
    return create_model(
        "passt_micro", 3, patch=8, stride=8, mels=32, frames=64, width=16, depth=1, heads=2
    ).train()


@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("frames", [40, 64, 80])
def test_a_training_step_is_one_graph(scope: str, frames: int) -> None:
    net = _net()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    x = torch.randn(2, 1, 32, frames)
    setting = Patchout("unstructured", rate=0.5, scope=scope)  # type: ignore[arg-type]
    for step in range(4):
        drawn = {"kept": draw_batch(setting, net.grid(frames), 0, step, 2)}
        if net.num_offsets(frames) > 1:
            drawn["offset"] = torch.tensor(step % net.num_offsets(frames))
        logits = compiled(x, **drawn)
        net.zero_grad()
        logits.square().sum().backward()
        found = {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
        wanted = net(x, **drawn)
        torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-6)
        net.zero_grad()
        wanted.square().sum().backward()
        for name, parameter in net.named_parameters():
            if parameter.grad is not None:
                torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert counter.frame_count == 1  # whatever was drawn


def test_short_input_that_draws_by_itself_is_one_graph() -> None:
    compiled = torch.compile(_net(), backend="eager", fullgraph=True)
    assert compiled(torch.randn(2, 1, 32, 40)).shape == (2, 3)


def test_each_stage_of_a_schedule_is_one_shape() -> None:
    net = _net()
    explained = torch._dynamo.explain(net)
    for kept in (None, torch.arange(32), torch.arange(16)):
        found = explained(torch.randn(2, 1, 32, 64), kept)
        assert found.graph_count == 1
        assert found.graph_break_count == 0
