"""Work of steps that can be counted by hand, and of a transformer in closed form."""

from dataclasses import replace

import torch
from closed_form import vit_flops
from torch import nn

from passt_bench.measure.step_work import StepWork, count_work, mean_work
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
    attention = 3 * 12 * tokens**2 * 384  # of the closed form; fused, one product is done again
    assert work.products == 2 * (vit_flops(tokens=tokens, backward=True, **sizes) - attention)
    assert work.attention == 2 * attention * 14 / 12
    assert work.exponentials == 2 * 2 * 3 * 6 * tokens**2  # forward and backward, six heads
    chunks = step_work(replace(recipe, engine=EngineSpec(accumulate=2)), 10, 2)
    assert (chunks.products, chunks.attention) == (work.products, work.attention)
    assert chunks.rise < 0.6 * work.rise
    whole = replace(recipe, engine=EngineSpec(attention="materialised"))
    assert step_work(whole, 10, 2).attention == 0
    assert step_work(whole, 10, 2).moved > work.moved


def test_depthwise_convolutions_count_each_channel_once() -> None:
    with torch.device("meta"):
        net, x = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False), torch.empty(2, 6, 4, 4)
    work = count_work(net, {"x": x}, lambda inputs: net(inputs["x"]).sum())
    assert work.depthwise == 2 * (2 * 2 * 6 * 16 * 9)  # the input needs no gradient
