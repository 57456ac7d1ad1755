"""PaSST's input of any length, and training steps as one graph."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from passt_bench.models import PaSST, Patchout, create_model, draw_batch
from passt_bench.models.passt import interpolate

SMALL = {"patch": (8, 8), "mels": 32, "frames": 64, "width": 16, "depth": 1, "heads": 2}


def small(stride: int = 8, **options: object) -> PaSST:
    net = create_model("passt_micro", 3, **{**SMALL, "stride": stride, **options})
    assert isinstance(net, PaSST)
    return net


@pytest.mark.parametrize(
    ("patch", "stride", "mels", "frames", "size"),
    [
        ((8, 8), (6, 6), 64, 64, (10, 10)),
        ((16, 16), (16, 16), 64, 288, (4, 18)),  # ESC-50
        ((4, 4), (10, 10), 64, 64, (7, 7)),  # 64 // 10 would be one too few
        ((16, 16), (10, 10), 100, 104, (10, 10)),  # patches leave 9 x 9 of them unused
        ((16, 16), (20, 17), 128, 998, (6, 58)),
        ((16, 16), (7, 3), 128, 98, (18, 32)),
        ((64, 64), (1, 1), 64, 64, (64, 64)),
    ],
)
def test_any_patches_fit_their_encodings(
    patch: tuple[int, int], stride: tuple[int, int], mels: int, frames: int, size: tuple[int, int]
) -> None:
    net = small(stride, patch=patch, mels=mels, frames=frames)  # type: ignore[arg-type]
    assert (net.freq_new_pos_embed.shape[2], net.time_new_pos_embed.shape[3]) == size
    for training in (True, False):
        assert net.train(training)(torch.randn(2, 1, mels, frames)).shape == (2, 3)


@pytest.mark.parametrize("overlong", ["cut", "stretch"])
@pytest.mark.parametrize("frames", [8, 9, 63, 64, 65, 200])
@pytest.mark.parametrize("kind", ["none", "time", "structured", "unstructured"])
def test_any_length_with_any_patchout(overlong: str, frames: int, kind: str) -> None:
    # Half of one column leaves none.
    rate = None if kind == "none" else 0.2 if kind == "time" and frames < 16 else 0.5
    net = small(patchout=Patchout(kind, rate=rate), overlong=overlong).train()
    x = torch.randn(2, 1, 32, frames)
    assert net(x).shape == (2, 3)
    rows, columns = net.grid(frames)
    assert net.embed(x, (rows, columns), None, None).shape[1] == rows * columns
    assert columns == (min(8, frames // 8) if overlong == "cut" else frames // 8)
    assert net.eval()(x).shape == (2, 3)


def test_stretching_is_linear() -> None:
    ramp = torch.arange(4.0).view(1, 1, 1, 4).expand(1, 2, 1, 4)
    assert torch.equal(interpolate(ramp, 4), ramp)
    # Centers of eight columns on the scale of four, at the ends the outermost encoding.
    assert interpolate(ramp, 8)[0, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_an_offset_says_which_columns(training: bool) -> None:
    net, x = small().train(training), torch.randn(2, 1, 32, 40)
    assert net.num_offsets(40) == 4
    assert net.num_offsets(64) == net.num_offsets(90) == 1
    outputs = [net(x, offset=torch.tensor(offset)) for offset in range(4)]
    assert all(torch.equal(net(x, offset=i), output) for i, output in enumerate(outputs))
    before = net.time_new_pos_embed.clone()
    for offset, output in enumerate(outputs):
        net.time_new_pos_embed.copy_(before.roll(-offset, dims=3))
        assert torch.equal(net(x, offset=0), output)
    with pytest.raises(IndexError):
        net(x, offset=4)


def test_gradients_reach_the_encodings_that_were_used() -> None:
    net = small().train()
    net(torch.randn(2, 1, 32, 40), offset=2).square().sum().backward()
    used = net.time_new_pos_embed.grad.abs().sum(dim=(0, 1, 2)) > 0
    assert used.tolist() == [False, False, True, True, True, True, True, False]


@pytest.fixture
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("scope", ["batch", "sample"])
@pytest.mark.parametrize("frames", [40, 64, 80])
def test_a_training_step_is_one_graph(scope: str, frames: int) -> None:
    net = small().train()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, backend=counter, fullgraph=True)
    x = torch.randn(2, 1, 32, frames)
    setting = Patchout("unstructured", rate=0.5, scope=scope)  # type: ignore[arg-type]

    def step(module: torch.nn.Module, drawn: dict[str, object]) -> list[torch.Tensor]:
        net.zero_grad()
        logits = module(x, **drawn)
        logits.square().sum().backward()
        return [logits, *(p.grad for p in net.parameters() if p.grad is not None)]

    for number in range(4):
        drawn: dict[str, object] = {"kept": draw_batch(setting, net.grid(frames), 0, number, 2)}
        if net.num_offsets(frames) > 1:
            drawn["offset"] = torch.tensor(number % net.num_offsets(frames))
        torch.testing.assert_close(step(compiled, drawn), step(net, drawn), rtol=1e-4, atol=1e-6)
    assert counter.frame_count == 1  # whatever was drawn


@pytest.mark.usefixtures("_fresh_compiler")
def test_each_stage_of_a_schedule_is_one_shape() -> None:
    explained = torch._dynamo.explain(small().train())
    draws = [(40, None), *((64, kept) for kept in (None, torch.arange(32), torch.arange(16)))]
    for frames, kept in draws:  # 40 frames: an offset is drawn within
        found = explained(torch.randn(2, 1, 32, frames), kept)
        assert (found.graph_count, found.graph_break_count) == (1, 0)
