"""Own model files, official files as models, and export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import small_weights
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from passt_bench import __version__
from passt_bench.errors import InputError
from passt_bench.models import create_model, read_model, save_model
from passt_bench.models.weights import export_model
from passt_bench.published_weights import PUBLISHED, find_published
from passt_bench.spec import DataSpec, FrontendSpec, InitSpec, ModelSpec, Recipe, TrainingSpec
from passt_bench.spec.frontends import frontend_of
from passt_bench.vocabulary import class_names

RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    frontend=FrontendSpec(hop=250),
    data=DataSpec(seconds=1.0),
    training=TrainingSpec(loss="ce"),
    init=InitSpec("checkpoint", "/home/somebody/secret/start.pt", "0" * 64),
)
CLASSES = ("dog", "Hund, groß", "cat")
X = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def _net() -> torch.nn.Module:
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64)
    return small_weights.randomised(net).eval()


def test_a_saved_model_comes_back_whole(tmp_path: Path) -> None:
    net = _net()
    path = save_model(
        tmp_path / "m.safetensors", net, RECIPE, CLASSES, metrics={"mAP": 0.5}, key="abc"
    )
    again, recipe, classes = read_model(path)
    assert torch.equal(again(X), net(X))
    assert not again.training
    assert recipe == replace(RECIPE, init=replace(RECIPE.init, checkpoint="start.pt"))
    assert classes == CLASSES
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["passt_bench"])
    assert (told["key"], told["version"]) == ("abc", __version__)
    assert told["metrics"] == {"mAP": 0.5}
    assert b"somebody" not in path.read_bytes()


def test_the_same_model_gives_the_same_file(tmp_path: Path) -> None:
    one, two = (save_model(tmp_path / n, _net(), RECIPE, CLASSES).read_bytes() for n in "ab")
    assert one == two


def test_a_compiled_or_channels_last_model_is_saved_under_plain_names(tmp_path: Path) -> None:
    net = create_model("panns_micro", 3, mels=64, frames=64)
    recipe = replace(RECIPE, model=ModelSpec("panns_micro"))
    path = save_model(
        tmp_path / "m.safetensors", torch.compile(net, backend="eager"), recipe, CLASSES
    )
    again = read_model(path).net
    assert again.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(again(X), net.eval()(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": None}, "Recipe"),
        ({"recipe": {"model": {"name": 3}}}, "model.name = 3"),
        ({"classes": [1]}, "0 = 1"),
        ({"classes": None}, "tuple"),
        ({"schema": 2}, "schema = 2: metadata that this version cannot read"),
        (None, "schema: metadata that this version"),
    ],
)
def test_wrong_facts_inside_a_file_are_named(
    tmp_path: Path, change: dict[str, object] | None, message: str
) -> None:
    path = save_model(tmp_path / "m.safetensors", _net(), RECIPE, CLASSES)
    with safe_open(path, framework="pt") as file:
        told = json.loads(file.metadata()["passt_bench"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    text = "{" if change is None else json.dumps(told | change)
    save_file(tensors, path, {"passt_bench": text})
    with pytest.raises(InputError, match="m.safetensors") as caught:
        read_model(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("stride", "frames", "hop", "window"),
    [(10, 998, 320, 10.0), (16, 998, 320, 10.0), (10, 3200, 100, 10.0), (14, 3000, 320, 30.0)],
)
def test_an_official_file_tells_its_model(
    tmp_path: Path, stride: int, frames: int, hop: int, window: float
) -> None:
    source = small_weights.passt(stride=stride, frames=frames)
    path = small_weights.save(tmp_path / "unknown.pt", source)
    net, recipe, classes = read_model(path)
    assert recipe.model.stride == (stride, stride)
    assert (recipe.model.frames, recipe.frontend.hop) == (frames, hop)
    assert recipe.training.loss == "bce"
    assert (classes[0], classes[526], len(classes)) == ("Speech", "Field recording", 527)
    x = torch.randn(1, 1, 128, frames)
    assert torch.equal(net(x), source(x))


def test_the_name_of_a_published_file_tells_hop_classes_and_loss(tmp_path: Path) -> None:
    slow = small_weights.passt(frames=2000)
    for name, hop, clip in (("stfthop160", 160, 10.0), ("passt_20sec", 320, 10.0)):
        path = small_weights.save(tmp_path / find_published(name).file, slow)
        recipe = read_model(path).recipe
        assert (recipe.frontend.hop, recipe.data.seconds) == (hop, clip)
    path = small_weights.save(tmp_path / PUBLISHED["esc50_fold1"].file, small_weights.passt(50))
    _, recipe, classes = read_model(path)
    assert (recipe.training.loss, recipe.data.seconds, classes[49]) == ("ce", 5.0, "hand_saw")
    path = small_weights.save(tmp_path / PUBLISHED["openmic"].file, small_weights.passt(20))
    assert read_model(path).classes[::19] == ("accordion", "voice")


def test_official_files_of_ast_and_panns_tell_their_models(tmp_path: Path) -> None:
    sources = {
        "ast": create_model("ast", 527, width=64, depth=1, heads=1, frames=1024),
        "cnn14": create_model("cnn14", 527, width=4, mels=64),
        "cnn6": create_model("cnn6", 527, width=4, mels=64),
    }
    for name, net in sources.items():
        small_weights.randomised(net).eval()
        path = small_weights.save(tmp_path / f"{name}.pth", net)
        again, recipe, classes = read_model(path)
        assert recipe.model.name == name
        assert recipe.frontend == frontend_of(name)
        assert len(classes) == 527
        for one, other in zip(again.parameters(), net.parameters(), strict=True):
            assert torch.equal(one, other)


def test_files_that_do_not_tell_a_model_are_refused(tmp_path: Path) -> None:
    state = dict(small_weights.passt().state_dict())
    torch.save(small_weights.deit(), tmp_path / "image.pt")
    torch.save({n: t for n, t in state.items() if "head" not in n}, tmp_path / "headless.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    torch.save({**state, "freq_new_pos_embed": torch.ones(1, 64, 200, 1)}, tmp_path / "rows.pt")
    for name, message in (
        ("image.pt", "ViT or DeiT"),
        ("headless.pt", "no classifier"),
        ("other.pt", "unknown parameters"),
        ("rows.pt", "no PaSST on 128 mels"),
        ("passt_s_p16_128_ap47", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            read_model(tmp_path / name)


def test_export_writes_official_names_in_a_plain_file(tmp_path: Path) -> None:
    path = save_model(tmp_path / "m.safetensors", _net(), RECIPE, CLASSES)
    written = export_model(path, tmp_path / "official.pt")
    state = torch.load(written, weights_only=True)
    assert list(state) == list(_net().state_dict())
    assert {"freq_new_pos_embed", "head_dist.weight", "head.0.bias"} <= set(state)
    net = create_model("panns_micro", 3, mels=64, frames=64)
    other = save_model(
        tmp_path / "c.safetensors", net, replace(RECIPE, model=ModelSpec("panns_micro")), CLASSES
    )
    with pytest.raises(InputError, match="panns_micro"):
        export_model(other, tmp_path / "no.pt")
    assert not (tmp_path / "no.pt").exists()


def test_the_table_holds_every_released_file() -> None:
    assert len(PUBLISHED) == 28
    assert len({entry.url for entry in PUBLISHED.values()}) == 28
    assert len({entry.file for entry in PUBLISHED.values()}) == 28
    swa = [entry for entry in PUBLISHED.values() if "swa" in entry.file]
    assert all(entry.averaged for entry in swa)
    for entry in PUBLISHED.values():
        stride = next(
            (
                int(part[1:])
                for part in entry.file.split("-")
                if part[:1] == "s" and part[1:].isdigit()
            ),
            None,
        )
        assert entry.stride in (stride, None) or stride is None
    with pytest.raises(InputError, match="Did you mean 'passt_20sec'"):
        find_published("passt_20se")


def test_class_names_are_built_in() -> None:
    assert len(set(class_names("audioset", 527))) == 527
    assert class_names("openmic", 20)[0] == "accordion"
    assert class_names("audioset", 3) == ("class 0", "class 1", "class 2")
