"""Cells by the protocols of the paper, on small data sets of the published formats."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import write_esc50, write_fsd50k_hdf5, write_openmic_hdf5
from rich.console import Console
from small_search import BASE

from passt_bench.data import open_dataset
from passt_bench.errors import InputError
from passt_bench.models import read_model
from passt_bench.paper import protocol_recipe
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import MODEL, _picture, run_cell, split_clips
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.executor import prepare, run_cells
from passt_bench.runner.planned_cell import PlannedCell, plan_cell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run_status import CURVES, read_epochs
from passt_bench.spec import ModelSpec, Recipe, override
from passt_bench.training.evaluate import predict
from passt_bench.training.features import Waveforms
from passt_bench.training.metrics import score


def small(protocol: str, **changes: Any) -> Recipe:
    """A protocol with a tiny model on half a second."""
    model = ModelSpec("passt_micro", patch=(16, 16), stride=(16, 16), width=16, depth=1, heads=2)
    usual = {
        "model": model, "data.seconds": 0.5, "engine.precision": "float32", "training.epochs": 4,
        "training.batch_size": 4, "training.ramp_epochs": 1, "training.learning_rate": 1e-3,
        "training.mask_time": 8, "training.mask_frequency": 8,
    }  # fmt: skip
    own = {name.replace("__", "."): value for name, value in changes.items()}
    return override(protocol_recipe(protocol), usual | own)


def plan(recipe: Recipe, runs: Path, **data: Path) -> tuple[PlannedCell, Paths]:
    paths = Paths(runs, data)
    datasets = Datasets(paths)
    cell = plan_cell("a", recipe, 0, None, datasets)
    prepare([cell], paths, datasets, Console(quiet=True))
    return cell, paths


def run(cell: PlannedCell, paths: Paths) -> RunRecord:
    run_cell(replace(cell, keeps_model=True), paths, RunConfig())
    record = Store(paths.runs).run(cell.key)
    assert record.status == "ok", record.message
    return record


def test_the_loudest_of_the_first_clips_is_pictured(tmp_path: Path) -> None:
    cell, _ = plan(BASE, tmp_path)
    silent = np.zeros((cell.recipe.frontend.mels, 64))
    loud = silent + np.linspace(0, 1, 64)
    for clips, top in (([silent, loud, silent], 255), ([silent] * 8 + [loud], 0)):
        picture = _picture(replace(cell, pictured=True), clips, 1)
        assert picture is not None and np.max(picture.logmel) == top
    assert _picture(cell, [loud], 1) is None


def test_fewer_clips_are_a_part_of_more(tmp_path: Path) -> None:
    small_set = {"data__name": "synthetic", "data__train_clips": 64, "data__test_clips": 16}
    recipe = override(Recipe(ModelSpec("passt_micro")), {
        name.replace("__", "."): value for name, value in small_set.items()
    })  # fmt: skip
    datasets, sizes = Datasets(Paths(tmp_path)), (8, 32, 64)

    def clips(size: int, seed: int) -> list[int]:
        own = override(recipe, {"training.clips": size, "training.batch_size": 8})
        cell = plan_cell("a", own, seed, None, datasets)
        train, validation, test = split_clips(cell, datasets.get(own))
        assert validation is None and list(test) == list(range(64, 80))
        return list(train)

    for seed in (0, 1):
        few, some, all_clips = (clips(size, seed) for size in sizes)
        assert (len(few), len(some), all_clips) == (8, 32, list(range(64)))
        assert {*few} < {*some} and few == sorted(few)
    assert clips(8, 0) != clips(8, 1)
    with pytest.raises(InputError, match="more clips than the 64 to train on"):
        clips(65, 0)


def test_fsd50k_chooses_its_epoch_on_the_authors_validation_clips(tmp_path: Path) -> None:
    root = write_fsd50k_hdf5(tmp_path / "data").root
    cell, paths = plan(small("fsd50k", training__swa_start=1), tmp_path / "runs", fsd50k=root)
    record = run(cell, paths)
    assert len(record.curves["inner/mAP_official"]) == 4
    for name, curve in record.curves.items():
        epochs = read_epochs(Store(paths.runs).folder(record.key) / CURVES).values()
        assert tuple(values[name] for values in epochs) == curve
    assert record.train["epoch"] >= 1
    assert {"mAP_official", "swa_mAP_official", "AUC", "swa_AUC"} <= set(record.metrics)
    net = read_model(tmp_path / "runs" / "records" / record.key / MODEL).net
    assert net.thresholds is None  # most classes have few validation clips
    dataset = open_dataset(cell.recipe.data, 32000, root)
    train, test = dataset.split(None)[:2]
    official = dataset.validation()
    for found, wanted in zip(split_clips(cell, dataset), (train, official, test), strict=True):
        np.testing.assert_array_equal(found, wanted)
    searched = override(cell.recipe, {"training.checkpoint_selection": "validation"})
    _, nothing, shown = split_clips(replace(cell, recipe=searched), dataset)
    assert nothing is None
    np.testing.assert_array_equal(shown, official)


def test_openmic_learns_from_labels_that_are_partly_known(tmp_path: Path) -> None:
    # Eight test clips: a class has both positives and negatives among them.
    root = write_openmic_hdf5(tmp_path / "data", {"train": 8, "test": 8}).root
    record = run(*plan(small("openmic"), tmp_path / "runs", openmic=root))
    assert set(record.metrics) == {"mAP_masked", "swa_mAP_masked"}
    assert all(np.isfinite(record.curves["train_loss"]))
    with pytest.raises(InputError) as caught:
        plan(small("openmic", training__loss="bce"), tmp_path / "b", openmic=root)
    assert (caught.value.field, caught.value.value) == ("training.loss", "bce")


def test_each_set_of_weights_has_its_own_metrics(tmp_path: Path) -> None:
    """The reference code counts right answers of the plain weights for both (ex_esc50.py:218)."""
    own = {
        "data__name": "synthetic", "data__train_clips": 24, "data__test_clips": 40,
        "training__loss": "bce", "metrics": ("AUC", "mAP"), "training__wavmix": 0.5,
    }  # fmt: skip
    last, swa = (
        run(*plan(small("esc50", **own, training__eval_weights=weights), tmp_path))
        for weights in ("last", "swa")
    )
    for name in ("AUC", "mAP"):
        assert last.metrics[f"swa_{name}"] == swa.metrics[name]
        assert swa.metrics[f"last_{name}"] == last.metrics[name]
    assert last.metrics["mAP"] != swa.metrics["mAP"]
    assert last.curves["train_loss"] == swa.curves["train_loss"]
    assert last.key != swa.key
    for record in (last, swa):  # the model that is kept is the one that was tested
        net, *_ = read_model(tmp_path / "records" / record.key / MODEL)
        dataset = open_dataset(record.recipe.data, 32000, None)
        clips = dataset.split(None)[1]
        features = Waveforms(dataset, record.recipe.frontend, 0.5)
        scores = predict(net, features, clips)
        assert score("AUC", dataset.targets[clips], scores)[0] == record.metrics["AUC"]


def test_processes_take_the_open_data_and_notice_a_file_that_changed(tmp_path: Path) -> None:
    """A cell and its loaders read no list; a file that is not the one planned on is named."""
    written = write_esc50(tmp_path / "data", rate=8000, seconds=0.5)
    recipe = small("esc50", training__epochs=2, data__storage="streamed", engine__num_workers=1)
    paths = Paths(tmp_path / "runs", {"esc50": written.root})
    datasets = Datasets(paths)
    good, bad = (plan_cell("a", recipe, seed, 1, datasets) for seed in (0, 1))
    (written.root / "meta" / "esc50.csv").unlink()
    (end,) = run_cells([good], paths, RunConfig(workers=1)).values()
    assert end.status == "ok", end.message
    changed = written.clips[-1].path
    os.utime(changed, ns=(0, 1))
    (end,) = run_cells([bad], paths, RunConfig(workers=1)).values()
    assert end.status == "error"
    assert f"{changed.name}: " in end.message and "has changed since" in end.message
