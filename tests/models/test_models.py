"""Building models by name; what each must do stands in tests/contract."""

from __future__ import annotations

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model, from_recipe
from passt_bench.spec import Recipe, override

SMALL = {"mels": 64, "frames": 64}


def test_a_stride_changes_the_encodings_alone() -> None:
    nets = [create_model("passt_micro", 5, patch=8, stride=s, **SMALL) for s in (8, 6)]
    one, two = (dict(net.named_parameters()) for net in nets)
    differ = {name for name in one if one[name].shape != two[name].shape}
    assert differ == {"freq_new_pos_embed", "time_new_pos_embed"}
    assert all(torch.equal(one[name], two[name]) for name in one if name not in differ)


def test_bad_fields_are_named() -> None:
    with pytest.raises(InputError, match=r"model.stride"):
        build_model("panns_micro", 5, stride=8, **SMALL)
    with pytest.raises(InputError, match="Did you mean 'passt_s'"):
        build_model("pasts_s", 5)
    with pytest.raises(InputError, match="model.width = 65"):
        build_model("passt_micro", 5, width=65, patch=8, stride=8, **SMALL)
    with pytest.raises(InputError, match="shorter than a patch"):
        build_model("passt_micro", 5, mels=64, frames=10)


def test_the_policy_for_longer_input_comes_from_the_recipe() -> None:
    recipe = override(
        Recipe(), {"model.name": "passt_micro", "model.frames": 60, "model.stride": (10, 10)}
    )
    assert from_recipe(recipe, 5, 100).grid(100) == (5, 6)
    longer = override(recipe, {"model.longer": "stretch"})
    assert from_recipe(longer, 5, 100).grid(100) == (5, 9)
    assert from_recipe(override(longer, {"model.frames": None}), 5, 100).grid(100) == (5, 9)
    with pytest.raises(InputError, match=r"model\.longer"):
        from_recipe(override(Recipe(), {"model.name": "cnn6", "model.longer": "stretch"}), 5, 100)
