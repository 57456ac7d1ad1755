"""A search that is killed resumes where it was."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import small_search
from optuna.trial import TrialState

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from small_search import run_search
if __name__ == "__main__":
    run_search(Path({root!r}), 16)
"""


def records(root):
    return {path.parent.name: path.read_bytes() for path in root.glob("records/*/record.json")}


def kill_after(root, finished):
    """Starts a search and kills it with all its children once so many cells are finished."""
    script = root / "script.py"
    script.write_text(SCRIPT.format(here=str(Path(small_search.__file__).parent), root=str(root)))
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    deadline = time.monotonic() + 300
    while len(records(root)) < finished:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_three_times_it_comes_to_the_trials_that_were_asked_for(tmp_path):
    for finished in (1, 3, 5):
        kill_after(tmp_path, finished)
        kept = records(tmp_path)
    record, best = small_search.run_search(tmp_path, 16)
    assert len(record.trials) == 16 and {trial.status for trial in record.trials} == {"ok"}
    assert [variant.name for variant in best.study.variants][1:] == [*record.confirmed, "half"]
    states = Counter(trial.state for trial in small_search.journal(tmp_path).trials)
    assert TrialState.RUNNING not in states and TrialState.WAITING not in states
    assert states[TrialState.COMPLETE] == 16
    assert kept.items() <= records(tmp_path).items()
