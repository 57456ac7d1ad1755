"""Cells by the protocols of the paper, on small data sets of the published formats."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import write_esc50, write_fsd50k_hdf5, write_openmic_hdf5
from rich.console import Console

from passt_bench.data import open_dataset
from passt_bench.data.shared import SharedDataset
from passt_bench.errors import InputError
from passt_bench.models import read_model
from passt_bench.paper import protocol_recipe
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.cells import MODEL, run_cell, split_clips
from passt_bench.runner.executor import run_cells
from passt_bench.runner.plan import Datasets, PlannedCell, plan_cell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run import prepare
from passt_bench.spec import ModelSpec, Recipe, override
from passt_bench.training.evaluate import predict
from passt_bench.training.features import Waveforms
from passt_bench.training.metrics import score

SMALL: dict[str, Any] = {
    "model": ModelSpec("passt_micro", patch=(16, 16), stride=(16, 16), width=16, depth=1, heads=2),
    "data.seconds": 0.5, "training.epochs": 4, "training.batch_size": 4, "training.ramp_epochs": 1,
    "training.learning_rate": 1e-3, "engine.precision": "float32", "training.mask_time": 8,
    "training.mask_frequency": 8,
}  # fmt: skip


def _plan(recipe: Recipe, out: Path, data: dict[str, Path]) -> tuple[PlannedCell, Paths]:
    paths = Paths(out, data)
    datasets = Datasets(paths)
    fold = 1 if recipe.data.name == "esc50" else None
    cell = plan_cell("a", recipe, 0, fold, datasets)
    prepare([cell], paths, datasets, Console(quiet=True))
    return cell, paths


def _run(recipe: Recipe, out: Path, data: dict[str, Path]) -> RunRecord:
    cell, paths = _plan(recipe, out, data)
    run_cell(cell, paths, RunConfig(keep_models=True))
    record = Store(paths.runs).run(cell.key)
    assert record is not None
    assert record.status == "ok", record.message
    return record


def test_fsd50k_chooses_its_epoch_on_the_authors_validation_clips(tmp_path: Path) -> None:
    written = write_fsd50k_hdf5(tmp_path / "data")
    data = {"fsd50k": written.root}
    recipe = override(protocol_recipe("fsd50k"), SMALL | {"training.swa_start": 1})
    record = _run(recipe, tmp_path / "runs", data)
    assert len(record.curves["inner/mAP_official"]) == 4
    assert record.train["epoch"] >= 1
    assert {"mAP_official", "swa_mAP_official", "AUC", "swa_AUC"} <= set(record.metrics)
    cell, _ = _plan(recipe, tmp_path / "other", data)
    dataset = open_dataset(recipe.data, 32000, written.root)
    official = dataset.validation()
    assert official is not None
    learn, inner, test = split_clips(cell, dataset)
    np.testing.assert_array_equal(learn, dataset.split(None)[0])
    np.testing.assert_array_equal(test, dataset.split(None)[1])
    assert inner is not None
    np.testing.assert_array_equal(inner, official)
    searched = override(recipe, {"training.checkpoint_selection": "validation"})
    _, nothing, shown = split_clips(replace(cell, recipe=searched), dataset)
    assert nothing is None
    np.testing.assert_array_equal(shown, official)


def test_openmic_learns_from_labels_that_are_partly_known(tmp_path: Path) -> None:
    written = write_openmic_hdf5(tmp_path / "data")
    recipe = override(protocol_recipe("openmic"), SMALL)
    record = _run(recipe, tmp_path / "runs", {"openmic": written.root})
    assert set(record.metrics) == {"mAP_masked", "swa_mAP_masked"}
    assert all(np.isfinite(record.curves["train_loss"]))
    with pytest.raises(InputError, match="training.loss = 'bce': some labels"):
        wrong = override(recipe, {"training.loss": "bce"})
        _plan(wrong, tmp_path / "b", {"openmic": written.root})


def _synthetic(**changes: Any) -> Recipe:
    base = override(
        protocol_recipe("esc50"),
        SMALL
        | {
            "data.name": "synthetic", "data.train_clips": 24, "data.test_clips": 40,
            "training.loss": "bce", "metrics": ["accuracy", "mAP"], "training.wavmix": 0.5,
        },
    )  # fmt: skip
    return override(base, {name.replace("__", "."): value for name, value in changes.items()})


def test_each_set_of_weights_answers_for_itself(tmp_path: Path) -> None:
    """The reference code counts right answers of the plain weights for both (ex_esc50.py:218)."""
    last = _run(_synthetic(), tmp_path, {})
    swa = _run(_synthetic(training__tested="swa"), tmp_path, {})
    for name in ("accuracy", "mAP"):
        assert last.metrics[f"swa_{name}"] == swa.metrics[name]
        assert swa.metrics[f"last_{name}"] == last.metrics[name]
    assert last.metrics["mAP"] != swa.metrics["mAP"]
    assert last.curves["train_loss"] == swa.curves["train_loss"]
    assert last.key != swa.key
    for record in (last, swa):  # the model that is kept is the one that was tested
        net, *_ = read_model(tmp_path / "records" / record.key / MODEL)
        dataset = open_dataset(record.recipe.data, 32000, None)
        clips = dataset.split(None)[1]
        features = Waveforms(SharedDataset(dataset), record.recipe.frontend, 0.5)
        scores = predict(net, features, clips)
        assert score("accuracy", dataset.targets[clips], scores)[0] == record.metrics["accuracy"]


def test_storage_and_loaders_change_nothing(tmp_path: Path) -> None:
    records = []
    for storage, loaders in (("prepared", 0), ("streamed", 2)):
        recipe = _synthetic(data__storage=storage, engine__num_workers=loaders)
        out = tmp_path / storage
        cell, paths = _plan(recipe, out, {})
        assert not list((out / "cache").glob("*.npy"))  # training changes the waveforms
        run_cells([cell], paths, RunConfig(workers=1))
        record = Store(paths.runs).run(cell.key)
        assert record is not None
        assert record.status == "ok", record.message
        records.append(record)
    for record in records[1:]:
        assert record.key == records[0].key
        assert record.metrics == records[0].metrics
        assert record.curves == records[0].curves
        assert record.picture == records[0].picture


def test_processes_take_the_open_data_and_notice_a_file_that_changed(tmp_path: Path) -> None:
    """A cell and its loaders read no list; a file that is not the one planned on is named."""
    written = write_esc50(tmp_path / "data", rate=8000, seconds=0.5)
    recipe = override(
        protocol_recipe("esc50"),
        SMALL
        | {
            "training.epochs": 2,
            "data.storage": "streamed",
            "engine.num_workers": 1,
            "training.swa_start": 1,
        },
    )
    paths = Paths(tmp_path / "runs", {"esc50": written.root})
    datasets = Datasets(paths)
    good, bad = (plan_cell("a", recipe, seed, 1, datasets) for seed in (0, 1))
    (written.root / "meta" / "esc50.csv").unlink()
    (end,) = run_cells([good], paths, RunConfig(workers=1)).values()
    assert end.status == "ok", end.message
    changed = written.clips[-1].path
    assert changed is not None
    os.utime(changed, ns=(0, 1))
    (end,) = run_cells([bad], paths, RunConfig(workers=1)).values()
    assert end.status == "error"
    assert f"{changed}: " in end.message and "has changed since" in end.message
