"""Building models by name; docs/models.md has a row for every model. What each must do is in
test_model_contract.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from passt_bench.errors import InputError
from passt_bench.models import build_model, create_model, from_recipe, resolve
from passt_bench.models.frontend import frame_count
from passt_bench.registry import MODELS
from passt_bench.spec import Recipe, override
from passt_bench.spec.frontends import frontend_of
from passt_bench.spec.recipe import Patchout

SMALL = {"mels": 64, "frames": 64}
PAGE = Path(__file__).parents[3] / "docs" / "models.md"
ROWS = {
    cells[1].strip().strip("`"): [cell.strip() for cell in cells[2:-1]]
    for cells in (line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines())
    if len(cells) == 7 and cells[1].strip().startswith("`")
}


def test_every_model_has_a_row_in_the_docs() -> None:
    assert set(ROWS) == {model.name for model in MODELS.all() if not model.packages}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_correct(name: str) -> None:
    _, parameters, tokens, frontend = ROWS[name]
    spec = frontend_of(name)
    frames = 998 if spec.name == "logmel" else frame_count(spec, 10.0)
    with torch.device("meta"):
        net = build_model(name, 527, mels=spec.mels, frames=frames)
    assert f"{sum(parameter.numel() for parameter in net.parameters()):,}" == parameters
    grid = net.grid(frames)
    if grid is None:
        assert tokens == "–"
    else:
        counts = (grid[0] * grid[1], resolve(net.patchout, grid).kept)
        assert tokens == ", ".join(str(count + net.special_tokens) for count in counts)
    kinds = {"logmel": "passt", "kaldi": "ast", "panns": "panns"}
    assert frontend.strip("`") in (kinds[spec.name], "any")


def test_a_stride_changes_the_encodings_alone() -> None:
    nets = [create_model("passt_micro", 5, patch=8, stride=s, **SMALL) for s in (8, 6)]
    one, two = (dict(net.named_parameters()) for net in nets)
    differ = {name for name in one if one[name].shape != two[name].shape}
    assert differ == {"freq_new_pos_embed", "time_new_pos_embed"}
    assert all(torch.equal(one[name], two[name]) for name in one if name not in differ)


@pytest.mark.parametrize(
    ("name", "options", "field"),
    [
        ("panns_micro", {"stride": 8}, "model.stride"),
        ("panns_micro", {"heads": 3}, "model.heads"),
        ("panns_micro", {"patchout": Patchout("time", rate=0.5)}, "patchout.kind"),
        ("pasts_s", {}, "model"),
        ("passt_micro", {"width": 65, "patch": 8, "stride": 8}, "model.width"),
        ("passt_micro", {"frames": 10}, "frames"),
        ("passt_micro", {"stride": (0, 8)}, "model.stride"),
        ("passt_micro", {"patch": (0, 0)}, "model.patch"),
        ("passt_micro", {"heads": 0}, "model.heads"),
        ("passt_micro", {"frames": 0}, "frames"),
        ("passt_micro", {"num_classes": 0}, "num_classes"),
        ("cp_resnet", {"rho": 23}, "model.rho"),
        ("ast", {"width": 17}, "model.width"),
    ],
)
def test_bad_fields_are_named(name: str, options: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as refused:
        build_model(name, **{"num_classes": 5, **SMALL, **options})
    assert refused.value.field == field
    assert refused.value.value == options.get(field.rpartition(".")[2], refused.value.value)


@pytest.mark.parametrize(
    ("name", "mels", "frames", "field"),
    [("passt_micro", 40, 64, "mels"), ("passt_micro", 64, 7, "frames"),
     ("ast", 40, 64, "mels"), ("ast", 64, 7, "frames")],
)  # fmt: skip
def test_input_that_does_not_fit_is_refused(name: str, mels: int, frames: int, field: str) -> None:
    net = create_model(name, 3, patch=8, stride=8, width=16, depth=1, heads=2, **SMALL)
    with pytest.raises(InputError) as refused:
        net.grid(frames), net(torch.randn(1, 1, mels, frames))
    wanted = {"mels": mels, "frames": frames}[field]
    assert (refused.value.field, refused.value.value) == (field, wanted)


@pytest.mark.parametrize("name", ["passt_micro", "ast", "panns_micro"])
def test_a_log_mel_without_its_channel_is_refused(name: str) -> None:
    with torch.device("meta"):
        net, x = build_model(name, 3), torch.zeros(4, 128, 998)
    with pytest.raises(InputError, match="3 dimensions.*Give \\(B, 1, mels, frames\\)"):
        net(x)


def test_patchout_may_be_text() -> None:
    net = build_model("passt_micro", 3, mels=64, frames=64, patchout="unstructured:.5")
    assert net.patchout == Patchout("unstructured", rate=0.5)


def test_the_policy_for_longer_input_comes_from_the_recipe() -> None:
    changes = {"model.name": "passt_micro", "model.frames": 60, "model.stride": (10, 10)}
    recipe = override(Recipe(), changes)
    assert from_recipe(recipe, 5, 100).grid(100) == (5, 6)
    longer = override(recipe, {"model.overlong": "stretch"})
    assert from_recipe(longer, 5, 100).grid(100) == (5, 9)
    assert from_recipe(override(longer, {"model.frames": None}), 5, 100).grid(100) == (5, 9)
    with pytest.raises(InputError) as refused:
        from_recipe(override(Recipe(), {"model.name": "cnn6", "model.overlong": "stretch"}), 5, 100)
    assert refused.value.field == "model.overlong"
