"""Initial weights from a model file: keys, what is drawn instead, and files that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import small_study
import torch
from small_weights import panns_buffers

from passt_bench.errors import InputError
from passt_bench.models import create_model, from_recipe, save_model
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.initial_weights import load_initial_weights, resolve_init
from passt_bench.runner.plan import plan_study
from passt_bench.runner.request import Paths
from passt_bench.runner.studies import load_study
from passt_bench.spec import DataSpec, FrontendSpec, InitSpec, ModelSpec, Recipe
from passt_bench.spec.frontends import ast_frontend, panns_frontend
from passt_bench.spec.key import key_fields

CLASSES = ("a", "b", "c")
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    frontend=FrontendSpec(hop=250),
    data=DataSpec(seconds=1.0),
)


def _start(path: Path | str, sha256: str | None = None) -> Recipe:
    return replace(RECIPE, init=InitSpec("checkpoint", str(path), sha256))


def _saved(path: Path, seed: int = 7) -> Path:
    path.parent.mkdir(exist_ok=True)
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64, seed=seed)
    return save_model(path, net, RECIPE, CLASSES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return _saved(tmp_path / "start.safetensors")


def test_the_content_enters_the_key_and_the_path_does_not(path: Path, tmp_path: Path) -> None:
    moved = _saved(tmp_path / "moved" / "other.safetensors")
    settled = []
    for file in (path, moved, _saved(tmp_path / "changed.safetensors", seed=8)):
        recipe, found = resolve_init(_start(file), CLASSES, Path("runs"))
        assert found == file
        assert recipe.init.checkpoint == file.name
        settled.append(key_fields(recipe))
    assert settled[0] == settled[1] != settled[2]
    assert "init" not in key_fields(RECIPE)
    assert resolve_init(RECIPE, CLASSES, Path("runs")) == (RECIPE, None)


def test_what_the_file_does_not_give_is_drawn_from_the_seed(path: Path) -> None:
    classes = ("x", "y", "z")  # as many, and others
    recipe, found = resolve_init(_start(path), classes, Path("runs"))
    nets = []
    for seed in (0, 0, 1):
        net = from_recipe(recipe, 3, 64)
        notes = load_initial_weights(net, recipe, seed, found, classes)
        nets.append(net.state_dict())
    assert any("head.1.weight" in note and "other classes" in note for note in notes)
    for name in nets[0]:
        same = torch.equal(nets[0][name], nets[2][name])
        assert same != (name in {"head.1.weight", "head_dist.weight"}), name
        assert torch.equal(nets[0][name], nets[1][name])


def test_a_file_that_changed_after_planning_is_refused(path: Path) -> None:
    recipe, found = resolve_init(_start(path), CLASSES, Path("runs"))
    _saved(path, seed=9)
    with pytest.raises(RuntimeError, match="changed since the study was planned"):
        load_initial_weights(from_recipe(recipe, 3, 64), recipe, 0, found, CLASSES)


def test_weights_of_another_front_end_are_refused(tmp_path: Path) -> None:
    state = create_model("cnn6", 3, width=4, mels=64).state_dict()
    torch.save(state | panns_buffers(16000, 512, 8000.0), tmp_path / "cnn6_16k.pth")
    recipe = Recipe(
        model=ModelSpec("cnn6", width=4),
        frontend=panns_frontend(),
        init=InitSpec("checkpoint", str(tmp_path / "cnn6_16k.pth")),
    )
    with pytest.raises(InputError) as caught:
        resolve_init(recipe, CLASSES, Path("runs"))
    assert (caught.value.field, caught.value.value) == ("frontend.sampling_rate", 32000)
    for number, (name, settings) in enumerate(
        (
            ("sample_rate", {"hyper_parameters": {"sample_rate": 16000}}),  # of Lightning
            ("sr", {"args": {"sr": 16000}}),
            ("n_mels", {"config": {"audio": {"n_mels": 128}}}),
            ("hopsize", {"hopsize": 500}),
        )
    ):
        path = tmp_path / f"stated{number}.ckpt"
        torch.save({"state_dict": state, "optimizer": {"state": {}}, **settings}, path)
        with pytest.raises(InputError, match="Set the recipe's front end") as caught:
            resolve_init(
                replace(recipe, init=InitSpec("checkpoint", str(path))), CLASSES, Path("runs")
            )
        assert (caught.value.source, caught.value.field) == (path, name)


def test_class_names_stated_in_a_file_of_others_remake_the_classifier(tmp_path: Path) -> None:
    path, drawn = tmp_path / "cnn6.pth", create_model("cnn6", 3, width=4, mels=64, seed=5)
    state, head = drawn.state_dict(), "fc_audioset.weight"
    start = InitSpec("checkpoint", str(path))
    recipe = Recipe(model=ModelSpec("cnn6", width=4), frontend=panns_frontend(), init=start)
    for names, other in ((CLASSES, False), (CLASSES[::-1], True), (("x", "y", "z"), True)):
        torch.save({"model": state, "args": {"class_names": list(names)}}, path)
        found, checkpoint = resolve_init(recipe, CLASSES, Path("runs"))
        net = from_recipe(found, 3, 64)
        notes = load_initial_weights(net, found, 0, checkpoint, CLASSES)
        assert any("other classes in the file" in note for note in notes) == other
        assert torch.equal(net.state_dict()[head], state[head]) != other


def test_the_normalisation_stated_beside_an_ast_must_be_the_recipes(tmp_path: Path) -> None:
    size = {"width": 64, "depth": 1, "heads": 1}
    path, beside = tmp_path / "ast.pth", tmp_path / "preprocessor_config.json"
    torch.save(create_model("ast", 3, frames=128, mels=128, **size).state_dict(), path)
    recipe = Recipe(
        model=ModelSpec("ast", **size),
        frontend=replace(ast_frontend(), frames=256, mean=-6.8, std=11.0),
        init=InitSpec("checkpoint", str(path)),
    )
    # The length may be another: position encodings are adapted.
    beside.write_text('{"mean": -6.8, "std": 5.5, "max_length": 128, "sampling_rate": 16000}')
    assert resolve_init(recipe, CLASSES, Path("runs"))[1] == path
    longer = beside.read_text().replace("128", "512")
    for text, field in ((longer, "max_length"), ('{"num_hidden_layers": 2}', "num_hidden_layers")):
        other = tmp_path / field / path.name
        other.parent.mkdir()
        other.write_bytes(path.read_bytes())
        other.with_name(beside.name).write_text(text)
        with pytest.raises(InputError) as caught:
            resolve_init(
                replace(recipe, init=InitSpec("checkpoint", str(other))), CLASSES, Path("runs")
            )
        assert caught.value.field == field
    wrong = replace(recipe, frontend=replace(recipe.frontend, std=5.5))
    with pytest.raises(InputError, match=r"Set frontend\.std=11\.0") as caught:
        resolve_init(wrong, CLASSES, Path("runs"))
    assert caught.value.source == beside
    assert (caught.value.field, caught.value.value) == ("frontend.std", 5.5)


def test_wrong_initial_weights_are_refused_before_anything_runs(path: Path, tmp_path: Path) -> None:
    wide = replace(_start(path), model=replace(RECIPE.model, width=32))
    for recipe, field in (
        (replace(RECIPE, init=InitSpec("scratch", "w.pt")), "init.checkpoint"),
        (replace(RECIPE, init=InitSpec("checkpoint")), "init.checkpoint"),
        (_start(path, "00"), "init.sha256"),
        (wide, "cls_token"),
    ):
        with pytest.raises(InputError) as caught:
            resolve_init(recipe, CLASSES, Path("runs"))
        assert caught.value.field == field
    study = load_study(str(small_study.write(tmp_path, "wrong"))).study
    base = replace(study.base, init=InitSpec("checkpoint", str(tmp_path / "none.pt")))
    with pytest.raises(InputError) as caught:
        plan_study(replace(study, base=base), Datasets(Paths(tmp_path)))
    assert caught.value.field == "init.checkpoint"
