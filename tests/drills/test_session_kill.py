import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

SUBJECTS = Path(__file__).parents[1] / "helpers"
KILLED = """
import time
from known_subjects import Sleeps
from passt_bench.measure.session import ArmProcess
from passt_bench.measure.target import build

if __name__ == "__main__":
    process = ArmProcess()
    process.send(build, Sleeps(0.001), 1)
    process.receive(60)
    print(process.pid, flush=True)
    time.sleep(60)
"""


def test_arms_end_with_a_killed_coordinator(tmp_path: Path) -> None:
    script = tmp_path / "coordinator.py"
    script.write_text(KILLED)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SUBJECTS)},
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        arm = psutil.Process(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 20
    while arm.is_running() and arm.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the arm outlived its coordinator"
        time.sleep(0.05)
