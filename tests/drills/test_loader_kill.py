"""Processes that make batches, and SIGKILL: nobody is left, and the result is what it would be.

Run as a script, this file runs the cell of the tests with two such processes.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from passt_bench.paper import protocol_recipe
from passt_bench.records.run import RunRecord
from passt_bench.records.store import Store
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.executor import prepare, run_cells
from passt_bench.runner.planned_cell import plan_cell
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.spec import ModelSpec, override

FAMILY = 4  # the fork server of the cell, two that make batches, and the cell itself


def run(folder: Path, workers: int) -> RunRecord:
    """A cell with everything random that a protocol has; resumes what an earlier process left."""
    recipe = override(
        protocol_recipe("esc50"),
        {
            "model": ModelSpec("passt_micro", patch=(16, 16), stride=(16, 16), width=16, depth=1),
            "data.name": "synthetic", "data.seconds": 0.5, "data.train_clips": 48,
            "data.test_clips": 60, "data.storage": "streamed", "training.epochs": 24,
            "training.batch_size": 4, "training.loss": "bce", "training.wavmix": 0.5,
            "training.sampling": "weighted", "training.epoch_clips": 40, "metrics": ["mAP"],
            "training.swa_every": 2, "engine.precision": "float32", "engine.num_workers": workers,
        },
    )  # fmt: skip
    paths = Paths(folder)
    datasets = Datasets(paths)
    cell = plan_cell("a", recipe, 0, None, datasets)
    prepare([cell], paths, datasets, Console(quiet=True))
    run_cells([cell], paths, RunConfig(workers=1, checkpoint_seconds=0.0))
    record = Store(paths.runs).run(cell.key)
    assert record is not None
    return record


def _cell_at_work(process: psutil.Process, folder: Path) -> psutil.Process:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        time.sleep(0.01)
        try:
            epochs = [
                len(path.read_text().splitlines())
                for path in folder.glob("records/*/progress.jsonl")
            ]
            cells = [cell for server in process.children() for cell in server.children()]
            underway = epochs and 2 <= epochs[0] <= 16 and len(cells) == 1
            if underway and len(cells[0].children(recursive=True)) >= FAMILY - 1:
                return cells[0]
        except psutil.NoSuchProcess:  # a short-lived one, such as git
            continue
    raise AssertionError("the cell was never at work with all its processes")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    record = run(tmp_path_factory.mktemp("alone"), 0)
    assert record.status == "ok", record.message
    return record


@pytest.mark.parametrize("killed", ["cell", "command"])
def test_what_is_killed_leaves_nobody_and_resumes(
    killed: str, tmp_path: Path, expected: RunRecord
) -> None:
    with subprocess.Popen([sys.executable, __file__, str(tmp_path)]) as process:
        command = psutil.Process(process.pid)
        cell = _cell_at_work(command, tmp_path)
        victim = cell if killed == "cell" else command
        family = victim.children(recursive=True)
        victim.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not alive, [child.cmdline() for child in alive]
        assert process.wait(120) == (0 if killed == "cell" else -9)
    record = run(tmp_path, 1)  # of the command that was killed, the rest
    for name in ("key", "status", "metrics", "curves", "per_class", "occlusions", "picture"):
        assert getattr(record, name) == getattr(expected, name)


if __name__ == "__main__":
    run(Path(sys.argv[1]), 2)
