"""Python files of the current folder are not run by the command, nor by what it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_study
from faulty_server import free_port, serving
from hostile_folder import HostileFolder
from layouts import write_manifest

from passt_bench.records.store import Store

COMMAND = Path(sys.executable).with_name("passt-bench")
ROOT = Path(__file__).parents[2]
NEIGHBOUR = """from passt_bench.spec import Patchout

HALF = Patchout("time", rate=0.5)
"""
# Users of the Python interface start processes without the command's entry point.
SCRIPT = """import os
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console

from passt_bench.console import Stopwatch
from passt_bench.measure.session import ArmProcess
from passt_bench.runner.tracking import updating_mlflow
from passt_bench.training.batches import load


def make(number):
    return (np.full(2, number),)


if __name__ == "__main__":
    before = dict(os.environ)
    with updating_mlflow(Path("runs"), Stopwatch(), Console()):
        arm = ArmProcess()
        arm.send(make, 1)
        assert arm.receive(120) == ("ok", None)
        arm.close()
    with closing(load(make, [1, 2], 1)) as batches:
        assert [int(batch[0][0]) for batch in batches] == [1, 2]
    assert dict(os.environ) == before
"""


def write_study(folder: Path) -> None:
    imports = "from neighbour import HALF\n"
    base = 'override(synthetic(), {"data.storage": "streamed"})'
    small_study.killed(folder, 1, 1, "HALF", imports=imports, base=base)
    (folder / "neighbour.py").write_text(NEIGHBOUR)


def environment() -> dict[str, str]:
    """Of somebody who has never heard of the variable; the package is found as it is here."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    return {**kept, "PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "true"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> HostileFolder:
    """A study with costs, MLflow and kept models was run there."""
    folder = HostileFolder(tmp_path_factory.mktemp("hostile"))
    write_study(folder.path)
    out = command(folder, "run", "small.py", "--set", "engine.num_workers=2", "--keep-models")
    assert "small/index.html" in out
    return folder


def run(hostile: HostileFolder, *words: str | Path) -> str:
    done = subprocess.run(
        words, cwd=hostile.path, env=environment(), capture_output=True, text=True, check=False
    )
    assert not hostile.marks(), done.stdout + done.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command(hostile: HostileFolder, *words: str) -> str:
    return run(hostile, COMMAND, *words)


def test_a_study_with_costs_and_mlflow(hostile: HostileFolder) -> None:
    records = list(hostile.path.glob("runs/records/*/record.json"))
    assert len(records) == 4  # three runs and the session that measured them
    (session,) = Store(hostile.path / "runs").sessions()
    assert {arm.status for arm in session.arms} == {"ok"}
    assert "6 unchanged" in command(hostile, "sync")  # a run of MLflow each, and one a variant


def test_data_and_evaluation(hostile: HostileFolder) -> None:
    write_manifest(hostile.path / "DIR", folds=2)
    command(hostile, "data", "prepare", "manifest=DIR", "--rate", "8000", "--workers", "2")
    assert (hostile.path / "DIR" / "prepared-8000").is_dir()
    model = next(hostile.path.glob("runs/records/*/model.safetensors"))
    assert "mAP" in command(hostile, "evaluate", "--checkpoint", str(model), "--data", "synthetic")


def test_search(hostile: HostileFolder) -> None:
    out = command(hostile, "search", "small.py", "--trials", "2", "--set", "training.epochs=20")
    assert "search-small/index.html" in out


def test_compare_and_doctor(hostile: HostileFolder) -> None:
    few = ("--batch", "1", "--seconds", "1", "--set", "measurement.seconds=1")
    assert "passt_micro" in command(hostile, "compare", "passt_micro", "panns_micro", *few)
    assert "exactly" in command(hostile, "doctor", "--instruments")


def test_ui(hostile: HostileFolder) -> None:
    port = free_port()
    with serving([COMMAND, "ui"], port, cwd=hostile.path, env=environment()):
        assert not hostile.marks()


def test_processes_of_the_python_interface(hostile: HostileFolder, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    run(hostile, sys.executable, script)


def test_what_python_m_starts(tmp_path: Path) -> None:
    # The process itself is its user's to aim; it needs nothing of these names before it starts any.
    hostile = HostileFolder(tmp_path, ("mlflow", "alembic", "optuna"))
    write_study(hostile.path)
    words = ("run", "small.py", "--no-cost", "--no-baseline", "--variant", "half")
    run(hostile, sys.executable, "-m", "passt_bench", *words)
