"""Models: drawing patches, embedding them, forward passes and whole training steps.

Gates are on tokens, FLOPs and bytes saved for backward, which repeat exactly; times are for the
comparison with the last saved run.
"""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from closed_form import vit_flops
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn
from torch.nn import functional as F

from passt_bench.measure.flops import count_flops
from passt_bench.measure.memory import saved_for_backward
from passt_bench.models import Patchout, build_model, create_model, draw_batch, draw_kept
from passt_bench.models.passt import PatchEmbed

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
    "passt": (89034752, 2475360),
    "ast": (89034752, 2475232),
    "cnn": (116794368, 8006528),
    "cnn6": (7630012416, 39428096),
    "cp_resnet": (57591360, 4837888),
    "mobilenetv3": (503393280, 15029888),
}


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
    return count_flops(lambda: net(x, indices).sum(), backward=True)


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
