"""A process that trains one run after another computes what fresh processes compute."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import small_study
from planned_study import planned
from rich.console import Console
from small_study import results

from passt_bench import processes
from passt_bench.records.store import Store
from passt_bench.runner.datasets import Datasets
from passt_bench.runner.executor import prepare, run_cells
from passt_bench.runner.request import Paths, RunConfig
from passt_bench.spec import ModelSpec, Patchout, Variant

VARIED: dict[str, dict[str, Any]] = {
    "half": {"patchout": Patchout("unstructured", rate=0.5, scope="sample")},
    "materialised": {"engine.attention": "materialised"},
    "swa": {"training.swa_start": 1, "training.swa_every": 1, "training.epochs": 3},
    "best": {"training.checkpoint_selection": "best_on_validation"},
    "CNN": {"model": ModelSpec("panns_micro")},
    "wide": {"model.width": 48},
    "diverges": {"training.learning_rate": 1e30, "training.warmup": 0.0},
    "streamed": {"salt": 1, "data.storage": "streamed", "engine.num_workers": 2},
}


def test_results_do_not_depend_on_what_a_process_ran_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_study.write(tmp_path)
    started: list[object] = []
    start = processes.PipedChild.__init__

    def count(child: processes.PipedChild, *arguments: Any, **options: Any) -> None:
        started.append(arguments)
        start(child, *arguments, **options)

    monkeypatch.setattr(processes.PipedChild, "__init__", count)
    variants = (Variant("none"), *(Variant(name, own) for name, own in VARIED.items()))
    found, numbers, peaks = [], [], []
    for number, order in enumerate((1, 1, -1)):
        paths = Paths(tmp_path / f"runs-{number}")
        plan = planned(file, paths.runs, variants=variants, seeds=(0,))
        prepare(plan.cells, paths, Datasets(paths), Console(quiet=True))
        cells = list(plan.cells)[::order]
        started.clear()
        run_cells(cells, paths, RunConfig(workers=1, fresh_processes=number == 0))
        numbers.append(len(started))
        found.append(results(paths.runs))
        records = [Store(paths.runs).run(cell.key) for cell in cells]
        peaks.append({r.key: r.train["peak_bytes"] for r in records if r and r.status == "ok"})
    assert Counter(record["status"] for record in found[0].values()) == {"ok": 8, "diverged": 1}
    assert found[1] == found[0]
    assert found[2] == found[0]
    # One for each of three engines, and one more for the cell that diverges or those after it.
    assert numbers == [9, 4, 4]
    for reused in peaks[1:]:
        assert reused == pytest.approx(peaks[0], rel=0.1)
