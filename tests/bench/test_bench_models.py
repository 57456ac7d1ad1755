"""Models: drawing patches, embedding them, forward passes and whole training steps.

Gates are on tokens, FLOPs and bytes saved for backward, which repeat exactly; times are for the
comparison with the last saved run.
"""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from closed_form import vit_flops
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.nn import functional as F

from passt_bench.measure.memory import saved_for_backward
from passt_bench.measure.step_work import WorkCounter
from passt_bench.models import Patchout, build_model, create_model, draw_batch, draw_kept
from passt_bench.models.passt import PatchEmbed
from passt_bench.spec import EngineSpec, Recipe
from passt_bench.training.engine import ModelStep

GRID = (12, 99)
KINDS = {
    "unstructured": Patchout("unstructured", patches=400),
    "structured": Patchout("structured", time=40, frequency=4),
    "block": Patchout("block", rate=0.5),
}
# family → name, options
BATCH, MELS, FRAMES = 4, 64, 128
HALF = Patchout("unstructured", rate=0.5)
FAMILIES: dict[str, tuple[str, dict[str, object]]] = {
    "passt": ("passt_micro", {"patch": (16, 16), "stride": (16, 16), "width": 128, "depth": 4}),
    "ast": ("ast", {"stride": (16, 16), "width": 128, "depth": 4, "heads": 4}),
    "cnn": ("panns_micro", {}),
    "cnn6": ("cnn6", {}),
    "cp_resnet": ("cp_resnet", {"width": 16}),
    "mobilenetv3": ("mobilenetv3", {"width_mult": 0.5}),
}
# family → FLOPs of a training step, a clip; bytes that a batch saves for backward in float32, with
# the tested versions. To be changed on purpose alone.
COSTS = {
    "passt": (74436608, 2080608),
    "ast": (74436608, 2080480),
    "cnn": (116794368, 8006528),
    "cnn6": (7630012416, 39428096),
    "cp_resnet": (57591360, 4837888),
    "mobilenetv3": (64480512, 15029888),
}
# Patchout of the small PaSST → its setting, and stride → patches kept, of 4 x 8 or 5 x 12.
PATCHOUTS = {
    "none": (Patchout(), {16: 32, 10: 60}),
    "unstructured 0.25": (Patchout("unstructured", rate=0.25), {16: 24, 10: 45}),
    "unstructured 0.5": (HALF, {16: 16, 10: 30}),
    "unstructured 0.75": (Patchout("unstructured", rate=0.75), {16: 8, 10: 15}),
    "structured 0.5": (Patchout("structured", rate=0.5), {16: 18, 10: 32}),
    "time 0.5": (Patchout("time", rate=0.5), {16: 16, 10: 30}),
    "frequency 0.5": (Patchout("frequency", rate=0.5), {16: 16, 10: 36}),
}
# Engine → its settings, and what a batch saves for backward: bytes a token, and other bytes, such
# as weights in half precision. With fused attention they follow from the number of tokens alone.
ENGINES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "float32": ({}, (113072, 45824)),
    "bfloat16": ({"precision": "bfloat16"}, (63920, 1605376)),
    "bfloat16, residual": ({"precision": "bfloat16", "residual": "compute"}, (56752, 1600256)),
    "float32, norms": ({"recompute": "norms"}, (74160, 25344)),
    "float32, blocks": ({"recompute": "blocks"}, (12304, 576)),
}
STEPS = [(patchout, stride, "float32") for patchout in PATCHOUTS for stride in (16, 10)]
STEPS += [(p, 10, e) for e in ENGINES if e != "float32" for p in ("none", "unstructured 0.5")]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", KINDS)
def test_bench_draw(benchmark: BenchmarkFixture, kind: str) -> None:
    """One pattern of the published grid."""
    kept = benchmark(draw_kept, KINDS[kind], GRID, 0, 0)
    benchmark.extra_info |= {"kept": len(kept), "grid": GRID}
    assert len(kept) == {"unstructured": 788, "structured": 472, "block": 594}[kind]


@pytest.mark.parametrize("scope", ["batch", "sample"])
def test_bench_embed(benchmark: BenchmarkFixture, scope: Literal["batch", "sample"]) -> None:
    """Embedding 594 of 1188 patches of twelve clips at the width of DeiT-B."""
    embed, x = PatchEmbed(768, (16, 16), (10, 10)), torch.rand(12, 1, 128, 998)
    kept = draw_batch(Patchout("unstructured", rate=0.5, scope=scope), GRID, 0, 0, 12)
    with torch.no_grad():
        out = benchmark(embed, x, GRID, kept)
    benchmark.extra_info |= {"dtype": "float32", "threads": 1, "tokens": out.shape[1]}
    assert out.shape == (12, 594, 768)


def _family(family: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor | None]:
    name, options = FAMILIES[family]
    net = create_model(name, 16, mels=MELS, frames=FRAMES, **options)
    x = torch.rand(BATCH, 1, MELS, FRAMES, generator=torch.Generator().manual_seed(0))
    grid = net.grid(FRAMES)
    return net, x, draw_batch(HALF, grid, 0, 0, BATCH) if grid else None


def _flops(family: str, kept: torch.Tensor | None) -> int:
    """Of a training step, a clip."""
    name, options = FAMILIES[family]
    with torch.device("meta"):
        net = build_model(name, 16, mels=MELS, frames=FRAMES, **options)
        x = torch.empty(1, 1, MELS, FRAMES)
    indices = None if kept is None else kept.to("meta")
    with WorkCounter() as counter:
        net(x, indices).sum().backward()
    return counter.flops


@pytest.mark.parametrize("family", FAMILIES)
def test_bench_forward(benchmark: BenchmarkFixture, family: str) -> None:
    """Inference of a batch, every patch kept."""
    net, x, _ = _family(family)
    net.eval()
    with torch.no_grad():
        out = benchmark(net, x)
    benchmark.extra_info |= {"dtype": "float32", "threads": 1, "clips": BATCH}
    assert out.shape == (BATCH, 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_bench_training_step(benchmark: BenchmarkFixture, family: str) -> None:
    """Forward with half of the patches, backward, AdamW."""
    net, x, kept = _family(family)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    targets = torch.zeros(BATCH, 16)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.binary_cross_entropy_with_logits(net(x, kept), targets).backward()
        optimizer.step()

    benchmark.pedantic(step, rounds=20, warmup_rounds=3, iterations=1)
    flops = _flops(family, kept)
    saved = saved_for_backward(lambda: net(x, kept), [*net.parameters(), *net.buffers()])
    tokens = len(kept) + 2 if kept is not None else 0
    benchmark.extra_info |= {"dtype": "float32", "threads": 1, "clips": BATCH}
    benchmark.extra_info |= {"tokens": tokens, "flops_per_clip": flops, "saved_bytes": saved}
    assert (flops, saved) == COSTS[family]
    # 16 of 4 x 8 patches, class and distillation token
    assert tokens == (18 if family in ("passt", "ast") else 0)
    if tokens:
        size = {"width": 128, "depth": 4, "classes": 16, "patch_elements": 256}
        assert flops == vit_flops(tokens=tokens, backward=True, **size)


@pytest.mark.parametrize(("patchout", "stride", "engine"), STEPS)
def test_bench_passt_step(
    benchmark: BenchmarkFixture, patchout: str, stride: int, engine: str
) -> None:
    """A training step of the small PaSST by kind and rate of patchout, stride and engine."""
    (setting, kept), (options, (per_token, others)) = PATCHOUTS[patchout], ENGINES[engine]
    name, size = FAMILIES["passt"]
    size = size | {"stride": (stride, stride)}
    net = create_model(name, 16, mels=MELS, frames=FRAMES, **size).train()
    step = ModelStep(net, Recipe(engine=EngineSpec(**options)))
    x = torch.rand(BATCH, 1, MELS, FRAMES, generator=torch.Generator().manual_seed(0))
    inputs = {"x": x, "targets": torch.zeros(BATCH, 16)}
    inputs |= net.step_inputs(setting, FRAMES, 0, 0, BATCH)
    benchmark.pedantic(step.run, (inputs,), rounds=20, warmup_rounds=3, iterations=1)
    resident = [*net.parameters(), *net.buffers()]
    saved = saved_for_backward(lambda: step.forward(inputs), resident)
    tokens = kept[stride] + 2
    benchmark.extra_info |= {"threads": 1, "clips": BATCH, "tokens": tokens, "saved_bytes": saved}
    assert saved == tokens * per_token + others
