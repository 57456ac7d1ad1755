"""CNN14, CNN10 and CNN6: published parameter counts, names, poolings and dropout."""

from __future__ import annotations

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model

PUBLISHED = {"cnn14": 80_753_615, "cnn10": 5_219_279, "cnn6": 4_837_455}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name: str) -> None:
    with torch.device("meta"):
        net = build_model(name, 527, mels=64)
    assert sum(parameter.numel() for parameter in net.parameters()) == PUBLISHED[name]


def test_names_are_those_of_the_checkpoints() -> None:
    with torch.device("meta"):
        names = set(build_model("cnn14", 527, mels=64).state_dict())
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    wanted = {f"bn0.{part}" for part in norm}
    for block in range(1, 7):
        wanted |= {f"conv_block{block}.conv{i}.weight" for i in (1, 2)}
        wanted |= {f"conv_block{block}.bn{i}.{part}" for i in (1, 2) for part in norm}
    wanted |= {f"{layer}.{part}" for layer in ("fc1", "fc_audioset") for part in ("weight", "bias")}
    assert names == wanted


@pytest.mark.parametrize(("name", "least"), [("cnn14", 32), ("cnn10", 16), ("cnn6", 16)])
def test_least_input(name: str, least: int) -> None:
    net = create_model(name, 3, width=2, mels=least, frames=least).eval()
    assert net(torch.randn(2, 1, least, least)).shape == (2, 3)
    assert net(torch.randn(2, 1, least, 3 * least + 1)).shape == (2, 3)
    with pytest.raises(InputError, match=rf"frames = {least - 1}: too small.*at least {least}"):
        net(torch.randn(2, 1, least, least - 1))
    with pytest.raises(InputError, match=r"frontend\.mels"):
        build_model(name, 3, width=2, mels=least - 1)


@torch.no_grad()
def test_mean_over_mels_then_maximum_and_mean_over_time() -> None:
    net = create_model("cnn14", 2, width=2, mels=64, frames=96).eval()
    seen: dict[str, torch.Tensor] = {}
    net.conv_block6.register_forward_hook(lambda *found: seen.update(map=found[2]))
    net.fc1.register_forward_hook(lambda *found: seen.update(pooled=found[1][0]))
    net(torch.randn(3, 1, 64, 96))
    assert seen["map"].shape == (3, 64, 3, 2)  # time down, mels across: five poolings, not six
    by_time = seen["map"].mean(dim=3)
    torch.testing.assert_close(seen["pooled"], by_time.amax(dim=2) + by_time.mean(dim=2))


@torch.no_grad()
def test_the_small_one_gives_what_it_gave() -> None:
    """Committed reports stand on it."""
    net = create_model("panns_micro", 4, mels=64, frames=64).eval()
    x = torch.sin(torch.arange(2 * 64 * 64.0)).reshape(2, 1, 64, 64)
    wanted = torch.tensor(
        [
            [0.1357988, -0.29623, -0.1315677, -0.3991852],
            [0.1356253, -0.2971672, -0.1303837, -0.3996139],
        ]
    )
    torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-6)
