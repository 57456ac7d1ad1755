"""Fine-tuning: a kept model is where another run begins."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from passt_bench.cli import main
from passt_bench.errors import InputError
from passt_bench.models import create_model, from_recipe, read_model, save_model
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.initial_weights import fill, settle_init, sha256_of
from passt_bench.runner.plan import plan_study
from passt_bench.runner.request import Paths
from passt_bench.runner.studies import load_study
from passt_bench.spec import DataSpec, FrontendSpec, InitSpec, ModelSpec, Recipe
from passt_bench.spec.key import key_fields

STUDY = '''"""Does it help to begin with what was learnt before?"""

from passt_bench.ablations.recipes import synthetic
from passt_bench.spec import InitSpec, Patchout, Study, Variant, override

STUDY = Study(
    name="{name}",
    question="Does it help to begin with what was learnt before?",
    base=override(
        synthetic(),
        {{
            "model.width": 16, "model.depth": 1, "model.heads": 2, "model.patch": (16, 16),
            "model.stride": (16, 16), "data.train_clips": 96, "data.test_clips": 120,
            "training.epochs": {epochs}, "training.learning_rate": 0.01,
        }},
    ),
    baseline="scratch",
    variants=(Variant("scratch"), {variants}),
    seeds=(0,),
)
'''
CLASSES = ("a", "b", "c")
RECIPE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8)),
    frontend=FrontendSpec(hop=250),
    data=DataSpec(seconds=1.0),
)


def _study(folder: Path, name: str, epochs: int, variants: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(STUDY.format(name=name, epochs=epochs, variants=variants))
    return path


def _run(folder: Path, study: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[RunRecord]:
    """Runs a study by the command line; the records of its variants, in order."""
    monkeypatch.chdir(folder)
    words = ["run", str(study), "--no-cost", "--no-track", *more]
    monkeypatch.setattr(sys, "argv", ["passt-bench", *words])
    main_status = 0
    try:
        main()
    except SystemExit as ended:
        main_status = int(ended.code or 0)
    assert main_status == 0
    store = Store(folder / "runs")
    variants = store.study(study.stem).variants
    found = [store.run(variant.cells[0].key) for variant in variants]
    return [record for record in found if record is not None]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fine_tuning_begins_where_the_kept_model_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = 'Variant("time", {"patchout": Patchout("time", rate=0.5)})'
    first = _study(tmp_path, "learn", 6, other)
    taught, _ = _run(tmp_path, first, monkeypatch, "--keep-models")
    assert "2 models were kept" in capsys.readouterr().out
    model = tmp_path / "runs" / "records" / taught.key / "model.safetensors"
    kept = read_model(model)
    assert kept.recipe == taught.recipe
    assert kept.classes == taught.fingerprint.classes

    tuned = f'Variant("tuned", {{"init": InitSpec("checkpoint", {str(model)!r})}})'
    second = _study(tmp_path, "tune", 1, tuned)
    scratch, after = _run(tmp_path, second, monkeypatch)
    assert after.curves["train_loss"][0] < 0.8 * scratch.curves["train_loss"][0]
    assert after.metrics["mAP"] > scratch.metrics["mAP"]
    assert after.recipe.init == InitSpec("checkpoint", "model.safetensors", sha256_of(model))
    assert after.notes[0].startswith("model.safetensors: PaSST, ")
    assert scratch.notes == ()
    record = tmp_path / "runs" / "records" / after.key / "record.json"
    assert str(tmp_path) not in record.read_text()
    assert not (record.parent / "model.safetensors").exists()


def _saved(folder: Path, name: str = "start.safetensors", seed: int = 7) -> Path:
    net = create_model("passt_micro", 3, patch=8, stride=8, mels=64, frames=64, seed=seed)
    return save_model(folder / name, net, RECIPE, CLASSES)


def test_the_content_enters_the_key_and_the_path_does_not(tmp_path: Path) -> None:
    (tmp_path / "moved").mkdir()
    settled = []
    for path in (
        _saved(tmp_path),
        _saved(tmp_path / "moved", "other.safetensors"),
        _saved(tmp_path, "changed.safetensors", seed=8),
    ):
        recipe, found = settle_init(
            replace(RECIPE, init=InitSpec("checkpoint", str(path))), CLASSES
        )
        assert found == path
        assert recipe.init.checkpoint == path.name
        settled.append(key_fields(recipe))
    assert settled[0] == settled[1] != settled[2]
    assert "init" not in key_fields(RECIPE)
    assert settle_init(RECIPE, CLASSES) == (RECIPE, None)


def test_what_the_file_does_not_give_is_drawn_from_the_seed(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    wanted = replace(RECIPE, init=InitSpec("checkpoint", str(path)))
    classes = ("x", "y", "z")  # as many, and others
    recipe, found = settle_init(wanted, classes)
    nets = []
    for seed in (0, 0, 1):
        net = from_recipe(recipe, 3, 64)
        notes = fill(net, recipe, seed, found, classes)
        nets.append(net.state_dict())
    assert any("head.1.weight" in note and "other classes" in note for note in notes)
    for name in nets[0]:
        same = torch.equal(nets[0][name], nets[2][name])
        assert same != (name in {"head.1.weight", "head_dist.weight"}), name
        assert torch.equal(nets[0][name], nets[1][name])


def test_a_file_that_changed_after_planning_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    recipe, found = settle_init(replace(RECIPE, init=InitSpec("checkpoint", str(path))), CLASSES)
    _saved(tmp_path, seed=9)
    with pytest.raises(RuntimeError, match="changed since the study was planned"):
        fill(from_recipe(recipe, 3, 64), recipe, 0, found, CLASSES)


def test_wrong_beginnings_are_refused_before_anything_runs(tmp_path: Path) -> None:
    path = _saved(tmp_path)
    wide = replace(RECIPE, model=replace(RECIPE.model, width=32))
    for recipe, field, message in (
        (replace(RECIPE, init=InitSpec("scratch", "w.pt")), "init.checkpoint", "is scratch"),
        (replace(RECIPE, init=InitSpec("scratch", None, "00")), "init.sha256", "is scratch"),
        (replace(RECIPE, init=InitSpec("checkpoint")), "init.checkpoint", "no file given"),
        (
            replace(RECIPE, init=InitSpec("checkpoint", "none.pt")),
            "init.checkpoint",
            "no such file",
        ),
        (
            replace(RECIPE, init=InitSpec("checkpoint", str(path), "00")),
            "init.sha256",
            "the hash of",
        ),
        (replace(wide, init=InitSpec("checkpoint", str(path))), "cls_token", "does not fit"),
    ):
        with pytest.raises(InputError) as caught:
            settle_init(recipe, CLASSES)
        assert caught.value.field == field
        assert message in caught.value.problem
    study = load_study(str(_study(tmp_path, "wrong", 1, 'Variant("same")'))).study
    base = replace(study.base, init=InitSpec("checkpoint", str(tmp_path / "none.pt")))
    with pytest.raises(InputError, match="no such file"):
        plan_study(replace(study, base=base), Paths(tmp_path))
