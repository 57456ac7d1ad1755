"""AST from ImageNet weights, as its authors begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_weights
import torch
from torch.nn import functional as F

from passt_bench.errors import InputError
from passt_bench.models import create_model
from passt_bench.models.weights import load_weights


def test_an_ast_begins_with_a_distilled_deit(tmp_path: Path) -> None:
    image = small_weights.deit(24)
    torch.save({"model": image}, tmp_path / "deit.pth")
    net = create_model("ast", 50, width=64, depth=1, heads=1, frames=998)
    loaded = load_weights(net, tmp_path / "deit.pth")
    state = net.state_dict()
    for name in ("cls_token", "dist_token", "norm.weight", "blocks.0.attn.qkv.weight"):
        assert torch.equal(state[f"v.{name}"], image[name])
    rgb = image["patch_embed.proj.weight"]
    assert torch.equal(state["v.patch_embed.proj.weight"], rgb.sum(1, keepdim=True))
    # src/models/ast_models.py: time interpolated to 24 rows, then 12 rows from the middle.
    grid = image["pos_embed"][:, 2:].transpose(1, 2).reshape(1, 64, 24, 24)
    wide = F.interpolate(grid, size=(24, 99), mode="bilinear")[:, :, 6:18]
    assert torch.equal(state["v.pos_embed"][:, :2], image["pos_embed"][:, :2])
    assert torch.equal(state["v.pos_embed"][:, 2:], wide.flatten(2).transpose(1, 2))
    assert set(loaded.reinitialized) == {name for name in state if name.startswith("mlp_head")}
    assert set(loaded.dropped) == {name for name in image if name.startswith("head")}


@pytest.mark.parametrize("broken", ["no token", "no square"])
def test_what_is_no_deit_is_refused(tmp_path: Path, broken: str) -> None:
    image = small_weights.deit(distilled=broken != "no token")
    if broken == "no square":
        image["pos_embed"] = image["pos_embed"][:, :-1]
    torch.save(image, tmp_path / "image.pth")
    net = create_model("ast", 50, width=64, depth=1, heads=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(InputError, match="not a distilled DeiT"):
        load_weights(net, tmp_path / "image.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
