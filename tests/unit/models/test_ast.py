"""AST: position encodings for other lengths, and patchout."""

from __future__ import annotations

import pytest
import torch

from passt_bench.models import build_model, create_model
from passt_bench.models.ast import resample_positions

SMALL = {"mels": 32, "frames": 64, "patch": 8, "stride": 8, "width": 16, "depth": 2, "heads": 2}


def _small(**changes: object) -> torch.nn.Module:
    return create_model("ast", 5, **{**SMALL, **changes})  # type: ignore[arg-type]


def test_the_size_of_the_authors_row() -> None:
    """The others are rows of docs/models.md, see test_models.py."""
    with torch.device("meta"):
        net = build_model("ast", 527, frames=998)
    assert sum(parameter.numel() for parameter in net.parameters()) == 86_575_631
    assert (net.grid(998), net.v.pos_embed.shape) == ((12, 99), (1, 1190, 768))


def test_positions_are_cut_from_the_middle() -> None:
    places = torch.arange(12 * 101.0).reshape(1, -1, 1)
    positions = torch.cat((torch.tensor([[[-1.0], [-2.0]]]), places), dim=1)
    assert torch.equal(resample_positions(positions, (12, 101), (12, 101)), positions)
    found = resample_positions(positions, (12, 101), (8, 50))
    wanted = torch.arange(12 * 101.0).reshape(12, 101)[2:10, 25:75]
    assert torch.equal(found[0, :2, 0], torch.tensor([-1.0, -2.0]))
    assert torch.equal(found[0, 2:, 0].reshape(8, 50), wanted)


@pytest.mark.parametrize("frames", [8, 40, 64, 71, 200])
@pytest.mark.parametrize("training", [True, False])
def test_any_length_works(frames: int, training: bool) -> None:
    net = _small().train(training)
    x = torch.randn(2, 1, 32, frames)
    assert net(x).shape == (2, 5)
    assert torch.equal(net(x), net(x))  # nothing is drawn


@torch.no_grad()
def test_each_place_has_an_encoding_of_its_own() -> None:
    net, x, place = _small().eval(), torch.randn(1, 1, 32, 64), 8 * 1 + 3  # row 1, column 3
    kept = torch.tensor([other for other in range(32) if other != place])
    every, without = net(x), net(x, kept)
    net.v.pos_embed[0, 2 + place] += torch.randn(16)  # a constant would vanish in the layer norm
    assert not torch.equal(net(x), every)
    assert torch.equal(net(x, kept), without)
