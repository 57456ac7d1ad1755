"""A search that is killed goes on where it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
from optuna.trial import TrialState
from rich.console import Console

from passt_bench.runner.plan import Datasets, plan_study
from passt_bench.runner.request import Paths
from passt_bench.runner.search import SearchOptions, search
from passt_bench.runner.trials import open_storage
from passt_bench.spec import (
    DataSpec,
    FrontendSpec,
    ModelSpec,
    Patchout,
    Recipe,
    Study,
    TrainingSpec,
    Variant,
)

BASE = Recipe(
    model=ModelSpec("passt_micro", patch=(8, 8), stride=(8, 8), width=16, depth=1, heads=2),
    frontend=FrontendSpec(sampling_rate=8000, n_fft=256, window=200, hop=125, mels=32, fmax=3500.0),
    data=DataSpec("synthetic", seconds=0.5, train_clips=40, test_clips=20),
    training=TrainingSpec(epochs=1, batch_size=16),
)
STUDY = Study(
    name="tiny",
    question="?",
    base=BASE,
    variants=(Variant("none"), Variant("half", {"patchout": Patchout("time", rate=0.5)})),
    baseline="none",
    seeds=(0, 1),
)
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_search_kill
if __name__ == "__main__":
    test_search_kill.run_search(Path({root!r}))
"""


def run_search(root):
    paths = Paths(root)
    datasets = Datasets(paths)
    plan = plan_study(STUDY, paths, datasets=datasets)
    options = SearchOptions(trials=10, minutes=None, workers=2, confirm=2)
    return search(plan, paths, options, Console(quiet=True))


def records(root):
    return {path.parent.name for path in root.glob("records/*/record.json")}


def kill_after(root, finished):
    """Starts a search and kills it with all its children once so many cells are finished."""
    script = root / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(__file__).parent), root=str(root)))
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    deadline = time.monotonic() + 300
    while len(records(root)) < finished:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_three_times_it_comes_to_the_trials_that_were_asked_for(tmp_path):
    for finished in (1, 3, 6):
        kill_after(tmp_path, finished)
        kept = {key: (tmp_path / "records" / key / "record.json").read_bytes()
                for key in records(tmp_path)}  # fmt: skip
    result = run_search(tmp_path)
    assert len(result.record.trials) == 10
    assert len(result.record.confirmed) == 2
    assert result.failed == 0
    storage = open_storage(tmp_path, "search-tiny", None)
    (summary,) = optuna.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    states = [trial.state for trial in study.trials]
    assert TrialState.RUNNING not in states and TrialState.WAITING not in states
    assert states.count(TrialState.COMPLETE) == 10
    for key, before in kept.items():
        assert (tmp_path / "records" / key / "record.json").read_bytes() == before
