"""A cell whose batches are made by processes, run by one of its own (`test_loader_kill`)."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from passt_bench.paper import protocol_recipe
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.executor import run_cells
from passt_bench.runner.plan import Datasets, PlannedCell, plan_cell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.runner.run import prepare
from passt_bench.spec import ModelSpec, override


def plan(folder: Path, loaders: int) -> tuple[PlannedCell, Paths]:
    """Everything random that a protocol has, in seconds on synthetic scenes."""
    recipe = override(
        protocol_recipe("esc50"),
        {
            "model": ModelSpec("passt_micro", patch=(16, 16), stride=(16, 16), width=16, depth=1),
            "data.name": "synthetic", "data.seconds": 0.5, "data.train_clips": 48,
            "data.test_clips": 60, "data.storage": "streamed", "training.epochs": 24,
            "training.batch_size": 4, "training.loss": "bce", "training.wavmix": 0.5,
            "training.sampling": "weighted", "training.epoch_clips": 40, "metrics": ["mAP"],
            "training.swa_every": 2, "engine.precision": "float32", "engine.num_workers": loaders,
        },
    )  # fmt: skip
    paths = Paths(folder)
    datasets = Datasets(paths)
    cell = plan_cell("a", recipe, 0, None, datasets)
    prepare([cell], paths, datasets, Console(quiet=True))
    return cell, paths


def run(folder: Path, loaders: int) -> RunRecord:
    """The record, from wherever an earlier process has left it."""
    cell, paths = plan(folder, loaders)
    run_cells([cell], paths, RunConfig(workers=1, checkpoint_seconds=0.0))
    record = Store(paths.runs).run(cell.key)
    assert record is not None
    return record


if __name__ == "__main__":
    run(Path(sys.argv[1]), 2)
