"""Searches of several processes on a real PostgreSQL, killed and with the server restarted.

Needs Debian's package postgresql.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import small_search
from optuna.trial import TrialState
from small_search import BASE, STUDY

from passt_bench.runner import trials
from passt_bench.runner.tracking import sync
from passt_bench.runner.trials import open_storage
from passt_bench.spec import override

USER, PASSWORD = "searcher", "nobody-may-read-this"
SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from passt_bench.runner import trials
trials._HEARTBEAT, trials._GRACE = 1, 5
from dataclasses import replace
from small_search import BASE, STUDY, run_search
from passt_bench.spec import override
if __name__ == "__main__":
    folder, total, address, epochs = sys.argv[1:]
    study = replace(STUDY, base=override(BASE, {{"training.epochs": int(epochs)}}))
    run_search(Path(folder), int(total), study=study, storage=address, workers=1)
"""


class Server:
    """A server of its own in a temporary folder, on a free port."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._folder = binaries, folder
        # The server refuses to run as root; Debian's package has a user for it.
        self._as = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as:
            shutil.chown(folder, "postgres")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        (folder / "password").write_text(PASSWORD)
        if self._as:
            shutil.chown(folder / "password", "postgres")
        how = ("-U", USER, "-A", "scram-sha-256", "--pwfile", str(folder / "password"))
        self._run("initdb", "-D", str(folder / "data"), *how)
        self.control("start")

    def _run(self, tool: str, *words: str) -> None:
        command = [*self._as, str(self._binaries / tool), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=self._folder)

    def control(self, what: str) -> None:
        """Starts, restarts or stops it."""
        options = f"-p {self.port} -k {self._folder} -h 127.0.0.1"
        place = ("-D", str(self._folder / "data"), "-l", str(self._folder / "log"))
        self._run("pg_ctl", *place, "-m", "immediate", "-w", "-o", options, what)

    def dump(self) -> bytes:
        """Everything in its tables."""
        command = [str(self._binaries / "pg_dump"), "--data-only", self.address]
        return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture
def server(monkeypatch):
    found = [*sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")), shutil.which("initdb")]
    if found[0] is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    monkeypatch.setattr(trials, "_HEARTBEAT", 1)
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    made = Server(Path(found[0]).parent, folder)
    yield made
    made.control("stop")
    shutil.rmtree(folder)


def start(folder, total, server, log, epochs=1):
    """A search in a process group of its own."""
    script = log.with_suffix(".py")
    script.write_text(SCRIPT.format(here=str(Path(small_search.__file__).parent)))
    command = [sys.executable, str(script), str(folder), str(total), server.address, str(epochs)]
    with log.open("ab") as output:
        return subprocess.Popen(command, start_new_session=True, stdout=output, stderr=output)


def wait_for(process, folder, runs):
    """Waits until there are so many records of runs."""
    deadline = time.monotonic() + 300
    while len(list(folder.glob("records/*/record.json"))) < runs:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)


def kill(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def states(server, folder):
    storage = open_storage(folder, "search-tiny", server.address)
    (name,) = optuna.get_all_study_names(storage)
    return [trial.state for trial in optuna.load_study(study_name=name, storage=storage).trials]


def suggested(record):
    return [(trial.params, trial.value) for trial in record.trials]


def test_killed_and_with_the_server_restarted_it_equals_the_undisturbed_search(server, tmp_path):
    undisturbed, _ = small_search.run_search(tmp_path / "undisturbed", 8, workers=1)
    folder, log = tmp_path / "runs", tmp_path / "log"
    process = start(folder, 8, server, log)
    wait_for(process, folder, 2)
    kill(process)
    process = start(folder, 8, server, log)
    wait_for(process, folder, 3)
    for path in Path("/proc").glob("[0-9]*/cmdline"):  # what `ps` shows
        try:
            assert PASSWORD.encode() not in path.read_bytes()
        except OSError:
            continue
    server.control("restart")
    try:
        assert process.wait(400) == 0, log.read_text()
    finally:
        if process.poll() is None:
            kill(process)
    record, _ = small_search.run_search(folder, 8, storage=server.address, workers=1)
    assert suggested(record) == suggested(undisturbed)
    found = states(server, folder)
    assert found.count(TrialState.COMPLETE) == 8
    assert not {TrialState.RUNNING, TrialState.WAITING} & {*found}
    sync(folder)
    kept = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert (folder / "mlflow.db").is_file()
    assert not any(PASSWORD.encode() in text for text in (*kept, log.read_bytes(), server.dump()))


def test_two_processes_share_the_trials_and_one_does_not_miss_the_other(server, tmp_path):
    folders = tmp_path / "a", tmp_path / "b"
    long = 60  # epochs, so that the first does not end before the second has begun
    one = start(folders[0], 14, server, tmp_path / "one", long)
    while one.poll() is None and not (folders[0] / "search").is_dir():
        time.sleep(0.02)
    two = start(folders[1], 14, server, tmp_path / "two", long)
    try:
        wait_for(one, folders[0], 1)
        wait_for(two, folders[1], 1)
        kill(one)
        assert two.wait(400) == 0, (tmp_path / "two").read_text()
    finally:
        for process in (one, two):
            if process.poll() is None:
                kill(process)
    study = replace(STUDY, base=override(BASE, {"training.epochs": long}))
    record, _ = small_search.run_search(folders[1], 14, None, study, server.address, workers=1)
    assert len(record.trials) == 14 and {trial.status for trial in record.trials} == {"ok"}
    found = states(server, folders[1])
    assert found.count(TrialState.COMPLETE) == 14 and TrialState.RUNNING not in found
