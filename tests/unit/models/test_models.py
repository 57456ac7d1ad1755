"""Building models by name; what each must do stands in tests/unit/models/test_model_contract.py."""

from __future__ import annotations

from typing import Any

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


@pytest.mark.parametrize(
    ("size", "field"),
    [
        ({"stride": (0, 8)}, r"model\.stride = \(0, 8\)"),
        ({"stride": -1}, r"model\.stride = -1"),
        ({"patch": (0, 0)}, r"model\.patch = \(0, 0\)"),
        ({"heads": 0}, r"model\.heads = 0"),
        ({"frames": 0}, "frames = 0"),
        ({"num_classes": 0}, "num_classes = 0"),
    ],
)
def test_sizes_below_one_are_refused(size: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"{field}: "):
        build_model("passt_micro", **{"num_classes": 5, **SMALL, **size})


def test_a_model_is_built_for_its_own_front_end_unless_told() -> None:
    with torch.device("meta"):
        grids = {name: build_model(name, 527).known_grid for name in ("ast", "ast_n")}
        rows = [build_model(name, 527).bn0.num_features for name in ("cnn14", "cnn10", "cnn6")]
        passt = build_model("passt_s", 527)
    assert grids == {"ast": (12, 101), "ast_n": (8, 64)}
    assert rows == [64, 64, 64]
    assert (passt.mels, passt.time_new_pos_embed.shape[3]) == (128, 99)


def test_the_policy_for_longer_input_comes_from_the_recipe() -> None:
    recipe = override(
        Recipe(), {"model.name": "passt_micro", "model.frames": 60, "model.stride": (10, 10)}
    )
    assert from_recipe(recipe, 5, 100).grid(100) == (5, 6)
    longer = override(recipe, {"model.overlong": "stretch"})
    assert from_recipe(longer, 5, 100).grid(100) == (5, 9)
    assert from_recipe(override(longer, {"model.frames": None}), 5, 100).grid(100) == (5, 9)
    with pytest.raises(InputError, match=r"model\.overlong"):
        from_recipe(override(Recipe(), {"model.name": "cnn6", "model.overlong": "stretch"}), 5, 100)
