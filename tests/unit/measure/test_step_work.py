"""Work of steps that can be counted by hand, and of a transformer in closed form."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from closed_form import depthwise_flops, vit_flops
from torch import nn

from passt_bench.measure.step_work import StepWork, WorkCounter, count_work, mean_work
from passt_bench.models import build_model
from passt_bench.runner.estimates import step_work
from passt_bench.spec import DataSpec, EngineSpec, ModelSpec, Patchout, Recipe
from passt_bench.spec.frontends import frontend_of


def test_two_layers_by_hand() -> None:
    with torch.device("meta"):
        net = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU(), nn.Linear(20, 5, bias=False))
        x = torch.empty(8, 10)
    work = count_work(net, {"x": x}, lambda inputs: net(inputs["x"]).sum())
    first, second = 2 * 8 * 10 * 20, 2 * 8 * 20 * 5
    assert work.products == 2 * first + 3 * second  # the input needs no gradient
    assert work.attention == work.convolutions == work.depthwise == work.mapped == 0
    assert work.parameters == 300
    assert work.state == 16 * 300
    # In ReLU: its input, which is freed then, and its output.
    assert work.rise == work.heap == 4 * 2 * 8 * 20
    half = StepWork(products=1.0, rise=5, heap=3, state=7, parameters=2)
    assert mean_work([half, StepWork(products=2.0)]) == StepWork(
        products=1.5, rise=5, heap=3, state=7, parameters=2
    )


def test_a_transformer_follows_the_closed_form() -> None:
    recipe = Recipe(
        ModelSpec("passt_small", depth=3, stride=(16, 16)),
        patchout=Patchout("time", rate=0.5),
        frontend=frontend_of("passt_small"),
        data=DataSpec(seconds=2.0),
    )
    work = step_work(recipe, 10, 2)
    tokens = 8 * 6 + 2
    sizes = {"width": 384, "depth": 3, "classes": 10, "patch_elements": 256}
    scores = 2 * tokens**2 + 2 * tokens  # of three blocks, the last with two queries
    attention = 3 * 4 * scores * 384  # of the closed form; fused, one product is done again
    assert work.products == 2 * (vit_flops(tokens=tokens, backward=True, **sizes) - attention)
    assert work.attention == 2 * attention * 14 / 12
    assert work.exponentials == 2 * 2 * 6 * scores  # forward and backward, six heads
    chunks = step_work(replace(recipe, engine=EngineSpec(accumulate=2)), 10, 2)
    assert (chunks.products, chunks.attention) == (work.products, work.attention)
    assert chunks.rise < 0.6 * work.rise
    whole = replace(recipe, engine=EngineSpec(attention="materialised"))
    assert step_work(whole, 10, 2).attention == 0
    assert step_work(whole, 10, 2).moved > work.moved
    # Attention by heads computes the scores once more, and keeps them in the cache.
    heads = step_work(replace(recipe, engine=EngineSpec(attention="by_heads")), 10, 2)
    assert heads.products == work.products + 2 * attention * 14 / 12
    assert work.moved < heads.moved < step_work(whole, 10, 2).moved


def flops(forward: Callable[[], torch.Tensor], backward: bool = True) -> int:
    with WorkCounter() as counter:
        out = forward().sum()
        if backward:
            out.backward()  # type: ignore[no-untyped-call]
    return counter.flops


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kept", [None, 1, 10, 48])
@pytest.mark.parametrize(
    ("name", "width", "depth", "patch", "stride", "mels", "frames", "grid"),
    [
        ("passt_micro", 64, 2, (8, 8), (8, 8), 64, 48, (8, 6)),
        ("passt_micro", 64, 3, (8, 8), (6, 6), 64, 50, (10, 8)),
        ("passt_tiny", 192, 12, (16, 16), (10, 10), 128, 998, (12, 99)),
    ],
)
def test_the_closed_form_equals_the_count(
    name: str, width: int, depth: int, patch: tuple[int, int], stride: tuple[int, int],
    mels: int, frames: int, grid: tuple[int, int], kept: int | None, backward: bool,
) -> None:  # fmt: skip
    with torch.device("meta"):
        net = build_model(
            name, 10, depth=depth, patch=patch, stride=stride, mels=mels, frames=frames
        )
        x = torch.empty(1, 1, mels, frames)
        indices = None if kept is None else torch.empty(kept, dtype=torch.long)
    net.train(backward)
    assert flops(lambda: net(x, indices), backward) == vit_flops(
        tokens=2 + (grid[0] * grid[1] if kept is None else kept),
        width=width,
        depth=depth,
        classes=10,
        patch_elements=patch[0] * patch[1],
        backward=backward,
    )


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise_convolutions_follow_the_closed_form(
    multiplier: int, stride: int, kernel: int, backward: bool
) -> None:
    """Each output sees one channel, in the backward pass as well."""
    options = {"stride": stride, "padding": kernel // 2, "groups": 6, "bias": False}
    with torch.device("meta"):
        conv = nn.Conv2d(6, 6 * multiplier, kernel, **options)  # type: ignore[arg-type]
        x = torch.empty(2, 6, 9, 7, requires_grad=True)
    outputs = 2 * 6 * multiplier * -(-9 // stride) * -(-7 // stride)
    expected = depthwise_flops(outputs=outputs, kernel=kernel, backward=backward)
    assert flops(lambda: conv(x), backward) == expected
    if backward:
        work = count_work(conv, {"x": x}, lambda inputs: conv(inputs["x"]).sum())
        assert work.depthwise == work.flops == expected * 2 / 3  # the input needs no gradient
