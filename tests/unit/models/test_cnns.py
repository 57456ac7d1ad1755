"""The CNNs: receptive fields, least input, the authors' own logits."""

from __future__ import annotations

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model

# By rho: the table of Koutini et al. 2019 ("Receptive-field-regularized CNN variants ..."), and on.
FIELDS = [23, 31, 39, 55, 71, 87, 103, 135, 167, 199, 231, 263, 295, 327, 359, 391]


def test_mobilenets_size_is_that_of_torchvision() -> None:
    """The others are rows of docs/models.md, see test_models.py."""
    with torch.device("meta"):
        net = build_model("mobilenetv3", 1000)
    colors = 2 * 9 * 16  # the first filters see one channel in place of three
    assert sum(parameter.numel() for parameter in net.parameters()) + colors == 5_483_032


@pytest.mark.parametrize(
    ("name", "least"), [("cnn14", 32), ("cnn10", 16), ("cnn6", 16), ("cp_resnet", 17)]
)
def test_least_input(name: str, least: int) -> None:
    net = create_model(name, 3, width=2, mels=least, frames=least).eval()
    assert net(torch.randn(2, 1, least, least)).shape == (2, 3)
    assert net(torch.randn(2, 1, least, 3 * least + 1)).shape == (2, 3)
    with pytest.raises(InputError) as refused:
        net(torch.randn(2, 1, least, least - 1))
    assert (refused.value.field, refused.value.value) == ("frames", least - 1)
    with pytest.raises(InputError) as refused:
        build_model(name, 3, width=2, mels=least - 1)
    assert refused.value.field == "frontend.mels"


@torch.no_grad()
def test_panns_micro_gives_what_it_gave() -> None:
    """Committed reports rest on it."""
    net = create_model("panns_micro", 4, mels=64, frames=64).eval()
    x = torch.sin(torch.arange(2 * 64 * 64.0)).reshape(2, 1, 64, 64)
    wanted = torch.tensor(
        [
            [0.1357988, -0.29623, -0.1315677, -0.3991852],
            [0.1356253, -0.2971672, -0.1303837, -0.3996139],
        ]
    )
    torch.testing.assert_close(net(x), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rho", [0, 5, 9, 15])
@pytest.mark.parametrize("axis", ["mels", "frames"])
@torch.no_grad()
def test_the_measured_field_is_that_of_the_publication(rho: int, axis: str) -> None:
    """An impulse anywhere within the field reaches one value of the last map, and none beyond."""
    field = FIELDS[rho]
    length = field + 200  # the field of a value in the middle is within
    net = build_model("cp_resnet", 1, mels=64, frames=64, width=1, rho=rho).eval()
    for parameter in net.parameters():
        parameter.fill_(0.5)  # positive, so that no impulse dies in a ReLU and pooling takes it
    impulses = torch.zeros(length, 1, length, 17)
    impulses[torch.arange(length), 0, torch.arange(length)] = 1e3
    silence = torch.zeros(1, 1, length, 17)
    if axis == "frames":
        impulses, silence = impulses.transpose(2, 3), silence.transpose(2, 3)

    def middle(x: torch.Tensor) -> torch.Tensor:
        found = net.double().features(x.double())[:, 0]
        line = found[:, :, 0] if axis == "mels" else found[:, 0]
        return line[:, line.shape[1] // 2]

    heard = (middle(impulses) != middle(silence)).nonzero()[:, 0]
    assert len(heard) == int(heard[-1] - heard[0]) + 1 == field


# Computed with models/cp_resnet.py of github.com/kkoutini/cpjku_dcase20 from the same weights.
AUTHORS = {5: [16.49117, 14.95635, 9.102225], 9: [24.22708, 22.3274, 14.20869]}


@pytest.mark.parametrize("rho", AUTHORS)
@torch.no_grad()
def test_logits_of_cp_resnet_are_those_of_the_authors_code(rho: int) -> None:
    net = build_model("cp_resnet", 3, width=4, rho=rho, mels=64, frames=100).eval()
    for number, (name, tensor) in enumerate(sorted(net.state_dict().items())):
        if tensor.is_floating_point():
            places = torch.arange(tensor.numel(), dtype=torch.float64)
            wave = torch.sin(0.37 * places + number).reshape(tensor.shape).float()
            scale = tensor.ndim == 1 and name.endswith("weight")
            positive = scale or name.endswith("running_var")
            tensor.copy_(1 + 0.5 * wave if positive else 0.3 * wave)
    places = torch.arange(64 * 100, dtype=torch.float64)
    x = torch.sin(0.11 * places).reshape(1, 1, 64, 100).float()
    torch.testing.assert_close(net(x)[0], torch.tensor(AUTHORS[rho]), rtol=1e-4, atol=1e-5)
