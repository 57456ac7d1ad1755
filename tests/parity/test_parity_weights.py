"""Weight files against the authors' package: what it makes of an image model, and what it loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peers
import pytest
import small_weights
import torch

from passt_bench.models import create_model, load_weights, read_model, save_model
from passt_bench.spec import DataSpec, FrontendSpec, ModelSpec, Recipe


def outputs(peer: Any, net: torch.nn.Module, frames: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Logits and every parameter: ours, theirs."""
    x = torch.randn(2, 1, 128, frames, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), peers.quiet():
        ours = {"logits": net.eval()(x), **net.state_dict()}
        theirs = {"logits": peer(x)[0], **peer.state_dict()}
    return {n: t.numpy() for n, t in ours.items()}, {n: t.numpy() for n, t in theirs.items()}


@pytest.mark.parametrize(("stride", "frames"), [(10, 998), (16, 998), (12, 2000), (14, 500)])
def test_an_image_model_becomes_what_it_becomes_there(
    stride: int, frames: int, tmp_path: Path, table
) -> None:
    image = small_weights.deit(side=24)
    torch.save({"model": image}, tmp_path / "deit.pth")
    net = small_weights.randomised(
        create_model("passt_s", 50, width=64, depth=1, heads=1, stride=stride, frames=frames)
    )
    load_weights(net, tmp_path / "deit.pth")

    peer = peers.official_passt(50, stride=stride, frames=frames)
    module = peers.load("hear21passt.models.passt")
    helpers = peers.load("hear21passt.models.helpers.vit_helpers")
    state = module.checkpoint_filter_fn({"model": image}, peer)
    weight = "patch_embed.proj.weight"
    state[weight] = helpers.adapt_input_conv(1, state[weight])
    heads = {name for name in state if name.startswith("head")}
    state = {name: tensor for name, tensor in state.items() if name not in heads}
    left = peer.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith("head") for name in left.missing_keys)
    fresh = {n: t for n, t in net.state_dict().items() if n.startswith("head")}
    peer.load_state_dict(fresh, strict=False)  # both begin with the same classifier
    ours, theirs = outputs(peer, net, frames)
    table.check("DeiT into PaSST", f"stride {stride}, {frames} frames", ours, theirs, 1e-5)


@pytest.mark.parametrize(("stride", "frames", "depth"), [(10, 998, 1), (16, 998, 7), (10, 3000, 1)])
def test_a_saved_model_is_loaded_there(
    stride: int, frames: int, depth: int, tmp_path: Path, table
) -> None:
    net = small_weights.passt(50, stride=stride, frames=frames, depth=depth)
    recipe = Recipe(
        model=ModelSpec("passt_s", None, (stride, stride), 64, depth, 1, frames=frames),
        frontend=FrontendSpec(sampling_rate=32000, n_fft=1024, window=800, hop=320, mels=128),
        data=DataSpec(seconds=10.0),
    )
    names = [f"class {number}" for number in range(50)]
    own = save_model(tmp_path / "own.safetensors", net, recipe, names)
    peer = peers.official_passt(50, stride=stride, frames=frames, depth=depth)
    peer.load_state_dict(read_model(own).net.state_dict(), strict=True)
    ours, theirs = outputs(peer, net, frames)
    name = f"stride {stride}, {frames} frames, depth {depth}"
    table.check("Exported PaSST", name, ours, theirs, 1e-5)
