"""CP-ResNet: the receptive field by impulses, the count in closed form, the authors' own logits."""

from __future__ import annotations

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model
from passt_bench.models.cp_resnet import kernels, receptive_field

# The table of Koutini et al. 2019 ("Receptive-field-regularized CNN variants ..."), and on.
FIELDS = [23, 31, 39, 55, 71, 87, 103, 135, 167, 199, 231, 263, 295, 327, 359, 391]


def test_receptive_fields_of_the_publication() -> None:
    assert [receptive_field(rho) for rho in range(len(FIELDS))] == FIELDS
    assert receptive_field(22) == 615


@pytest.mark.parametrize("rho", [0, 3, 5, 7, 9])
@pytest.mark.parametrize("axis", ["mels", "frames"])
@torch.no_grad()
def test_the_measured_field_is_the_computed_one(rho: int, axis: str) -> None:
    """An impulse anywhere within the field reaches one value of the last map, and none beyond."""
    field = receptive_field(rho)
    length = field + 200  # the field of a value in the middle lies within
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
    assert len(heard) == field
    assert int(heard[-1] - heard[0]) + 1 == field


def _parameters(width: int, rho: int, classes: int) -> int:
    count = 25 * width + 2 * width
    inputs = width
    for stage, pairs in enumerate(kernels(rho)):
        outputs = width * 2**stage
        for first, second in pairs:
            count += outputs * (inputs * first**2 + outputs * second**2) + 4 * outputs
            count += (inputs + 2) * outputs if inputs != outputs else 0
            inputs = outputs
    return count + inputs * classes + 2 * classes


@pytest.mark.parametrize("rho", [0, 5, 7, 22])
def test_parameters_in_closed_form(rho: int) -> None:
    with torch.device("meta"):
        net = build_model("cp_resnet", 527, rho=rho)
    count = sum(parameter.numel() for parameter in net.parameters())
    assert count == _parameters(128, rho, 527)
    assert rho != 7 or count == 4_222_366  # counted with the authors' code


def known_weights(net: torch.nn.Module) -> None:
    for number, (name, tensor) in enumerate(sorted(net.state_dict().items())):
        if tensor.is_floating_point():
            places = torch.arange(tensor.numel(), dtype=torch.float64)
            wave = torch.sin(0.37 * places + number).reshape(tensor.shape).float()
            positive = name.endswith("running_var") or (
                tensor.ndim == 1 and name.endswith("weight")
            )
            tensor.copy_(1 + 0.5 * wave if positive else 0.3 * wave)


# Computed with models/cp_resnet.py of github.com/kkoutini/cpjku_dcase20 from the same weights.
AUTHORS = {5: [16.49117, 14.95635, 9.102225], 9: [24.22708, 22.3274, 14.20869]}


@pytest.mark.parametrize("rho", AUTHORS)
@torch.no_grad()
def test_logits_are_those_of_the_authors_code(rho: int) -> None:
    net = build_model("cp_resnet", 3, width=4, rho=rho, mels=64, frames=100).eval()
    known_weights(net)
    places = torch.arange(64 * 100, dtype=torch.float64)
    x = torch.sin(0.11 * places).reshape(1, 1, 64, 100).float()
    torch.testing.assert_close(net(x)[0], torch.tensor(AUTHORS[rho]), rtol=1e-4, atol=1e-5)


def test_bad_settings_are_named() -> None:
    with pytest.raises(InputError, match=r"model\.rho = 23"):
        build_model("cp_resnet", 5, rho=23)
    with pytest.raises(InputError, match=r"frames = 16: too small"):
        build_model("cp_resnet", 5, frames=16)
    net = build_model("cp_resnet", 5, width=2, mels=17, frames=17)
    assert net.eval()(torch.zeros(1, 1, 17, 17)).shape == (1, 5)
