"""Help, lists, reports and the status of a recorded study import no heavy library."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from passt_bench.records.store import Store
from passt_bench.runner.cells import failure
from passt_bench.runner.plan import plan_study
from passt_bench.runner.request import Paths
from passt_bench.runner.studies import load_study

COMMANDS = """
import sys
import typer
from passt_bench.cli import app

assert not sys.modules.keys() & {"pydantic", "numpy"}

def helps(command, words):
    yield [*words, "--help"]
    for name, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, [*words, name])

heavy = ["torch", "torchaudio", "mlflow", "optuna", "sklearn"]
quick = [["list", "studies"], ["status", "tiny.py"], ["status", "tiny.py", "--variant", "time"]]
for words in [*helps(typer.main.get_command(app), []), *quick]:
    app(words, standalone_mode=False)
    found = [name for name in [*heavy, "matplotlib"] if name in sys.modules]
    assert not found, (words, found)
for words in (["report", "tiny"], ["report"]):
    app(words, standalone_mode=False)
    found = [name for name in heavy if name in sys.modules]
    assert not found, (words, found)
"""


def test_commands_that_compute_nothing_load_nothing_heavy(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(study_file.read_text())
    plan = plan_study(load_study(str(study_file)).study, Paths(tmp_path / "runs"))
    store = Store(tmp_path / "runs")
    store.write_study(plan.record)
    for cell in plan.cells[:-1]:
        store.write(replace(failure(cell, "error", ""), status="ok", metrics={"mAP": 0.5}))
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "3 variants x 2 seeds = 6 runs, 5 done." in done.stdout
    assert "2 of 3 variants x 2 seeds = 4 runs" in done.stdout
