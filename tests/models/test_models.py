"""Golden facts of the models, and the contract that every registered one keeps."""

from __future__ import annotations

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model, resolve
from passt_bench.registry import MODELS

GOLDEN = {
    "passt_b": (86_153_758, (12, 99), 1190),
    "passt_u": (86_153_758, (12, 99), 790),
    "passt_s": (86_153_758, (12, 99), 474),
    "passt_s_l": (50_714_398, (12, 99), 474),
    "passt_s_n": (86_122_270, (8, 62), 254),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_published_sizes(name: str) -> None:
    parameters, grid, tokens = GOLDEN[name]
    with torch.device("meta"):
        net = build_model(name, 527)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert net.grid(998) == grid
    assert resolve(net.patchout, grid).kept + net.special_tokens == tokens


@pytest.mark.parametrize(
    ("stride", "tokens"), [(10, 1190), (12, 822), (14, 641), (16, 498), ((10, 16), 12 * 62 + 2)]
)
def test_published_grids(stride: int | tuple[int, int], tokens: int) -> None:
    with torch.device("meta"):
        net = build_model("passt_b", 527, stride=stride)
    rows, columns = net.grid(998)
    assert rows * columns + 2 == tokens


SMALL = {"mels": 64, "frames": 64}


@pytest.fixture(params=[model.name for model in MODELS.all() if "micro" in model.name])
def net(request: pytest.FixtureRequest) -> torch.nn.Module:
    extra = {"patch": 8, "stride": 8} if "passt" in request.param else {}
    return create_model(request.param, 5, **SMALL, **extra)


def test_logits_have_the_shape(net: torch.nn.Module) -> None:
    for batch in (1, 3):
        logits = net(torch.randn(batch, 1, 64, 64))
        assert logits.shape == (batch, 5)
        assert torch.isfinite(logits).all()


def test_same_seed_same_weights(net: torch.nn.Module) -> None:
    torch.manual_seed(99)
    name = "panns_micro" if net.special_tokens == 0 else "passt_micro"
    extra = {"patch": 8, "stride": 8} if name == "passt_micro" else {}
    again = create_model(name, 5, **SMALL, **extra)
    other = create_model(name, 5, seed=1, **SMALL, **extra)
    pairs = list(zip(net.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


def test_every_weight_learns(net: torch.nn.Module) -> None:
    net.train()
    torch.manual_seed(0)
    net(torch.randn(4, 1, 64, 64)).square().sum().backward()
    silent = [
        name
        for name, parameter in net.named_parameters()
        if not name.startswith("head_dist") and (parameter.grad is None or not parameter.grad.any())
    ]
    assert not silent


def test_a_stride_changes_the_encodings_alone() -> None:
    nets = [create_model("passt_micro", 5, patch=8, stride=s, **SMALL) for s in (8, 6)]
    one, two = (dict(net.named_parameters()) for net in nets)
    differ = {name for name in one if one[name].shape != two[name].shape}
    assert differ == {"freq_new_pos_embed", "time_new_pos_embed"}
    assert all(torch.equal(one[name], two[name]) for name in one if name not in differ)


@pytest.mark.parametrize("frames", [8, 40, 63, 64, 200])
@pytest.mark.parametrize("training", [True, False])
def test_any_length_works(frames: int, training: bool) -> None:
    net = create_model("passt_micro", 5, patch=8, stride=8, **SMALL).train(training)
    assert net(torch.randn(2, 1, 64, frames)).shape == (2, 5)


def test_short_input_takes_a_random_part_of_the_encodings_in_training() -> None:
    net = create_model("passt_micro", 5, patch=8, stride=8, **SMALL)
    x = torch.randn(1, 1, 64, 24)
    with torch.no_grad():
        assert torch.equal(net.eval()(x), net.eval()(x))
        torch.manual_seed(0)
        outputs = {float(net.train()(x)[0, 0]) for _ in range(20)}
    assert 1 < len(outputs) <= 6  # six offsets of three columns in eight


def test_bad_fields_are_named() -> None:
    with pytest.raises(InputError, match=r"model.stride"):
        build_model("panns_micro", 5, stride=8, **SMALL)
    with pytest.raises(InputError, match="Did you mean 'passt_s'"):
        build_model("pasts_s", 5)
    with pytest.raises(InputError, match="model.width = 65"):
        build_model("passt_micro", 5, width=65, patch=8, stride=8, **SMALL)
    with pytest.raises(InputError, match="shorter than a patch"):
        build_model("passt_micro", 5, mels=64, frames=10)
