"""Files and servers of others, met by real processes: no traceback, no wait, no memory."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import small_study
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from small_model import write_model
from study_on_disk import SMALL, write_study

# Beyond what the same command takes on harmless input: bytes, and s of CPU time, which do not count
# how busy the machine is or how long a server is waited for. What hangs is killed after so many s.
GROWTH, CPU_SECONDS, KILLED_AFTER = 1 << 30, 10.0, 600.0

Idle = dict[object, tuple[int, float]]


def ended(*words: object, **environment: str) -> tuple[int, str, int, float]:
    """Status, output, largest memory in bytes and CPU seconds of a command with its children."""
    process = subprocess.Popen(
        [sys.executable, "-m", "passt_bench", *map(str, words)],
        env={**small_study.ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    timer = threading.Timer(KILLED_AFTER, process.kill)
    timer.start()
    assert process.stdout is not None
    with process.stdout as out:
        said = out.read().decode(errors="replace")
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    timer.cancel()
    return process.returncode, said, 1024 * used.ru_maxrss, used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Idle:
    """Memory and CPU seconds of each command on harmless input, with all that it imports."""
    runs = tmp_path_factory.mktemp("idle")
    store = write_study(runs, SMALL[:2], seeds=(0,), rich=False)
    (runs / "w.pt").write_bytes(b"PK")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    return {
        "predict": ended("predict", runs, "--checkpoint", runs / "w.pt")[2:],
        "report": ended("report", store.studies()[0], "--runs", runs)[2:],
        "sync": ended("sync", "--runs", runs, MLFLOW_TRACKING_URI=nowhere)[2:],
    }


def _refused(idle: Idle, *words: object, **environment: str) -> None:
    code, said, memory, seconds = ended(*words, **environment)
    assert code == 2 and "error: " in said and "Traceback" not in said, said
    assert "\x1b" not in said
    assert memory < idle[words[0]][0] + GROWTH
    assert seconds < idle[words[0]][1] + CPU_SECONDS


RECORDS: dict[str, Callable[[Path], object]] = {
    "endless": lambda path: os.truncate(path, 1 << 40),
    "nested": lambda path: path.write_text("[" * 10**6),
    "escapes": lambda path: path.write_text('{"schema":"\\u001b[31m"}'),
}


@pytest.mark.parametrize("what", RECORDS)
def test_records(what: str, idle: Idle, tmp_path: Path) -> None:
    store = write_study(tmp_path / "runs", SMALL[:2], rich=False)
    key = store.study("quick").variants[1].cells[0].key
    RECORDS[what](store.folder(key) / "record.json")
    _refused(idle, "report", "quick", "--runs", tmp_path / "runs")
    assert not (tmp_path / "runs" / "reports" / "quick").exists()


def _deep(path: Path) -> None:
    model = write_model(path.parent / "model", ["a", "b"])
    with safe_open(model, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        ((mark, text),) = file.metadata().items()
    facts = json.loads(text)
    facts["recipe"]["model"]["depth"] = 10**7
    save_file(tensors, path, {mark: json.dumps(facts)})


def _short_of(kind: int, kib: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (kib << 10, resource.RLIM_INFINITY))


@pytest.mark.parametrize("kib", [200_000, 400_000, 900_000])  # where OpenBLAS used to hang
def test_too_little_memory_for_libraries(kib: int) -> None:
    words = [sys.executable, "-m", "passt_bench", "predict", "a.wav"]
    limit = _short_of(resource.RLIMIT_AS, kib)
    done = subprocess.run(words, preexec_fn=limit, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"error: ulimit -v = {kib}: too little" in done.stdout


class _Program:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


WEIGHTS: dict[str, Callable[[Path], object]] = {
    "stride": lambda p: torch.save({"w": torch.zeros(1).as_strided((10**10,), (0,))}, p),
    "depth": _deep,
    "program": lambda p: torch.save({"w": _Program()}, p),
}


@pytest.mark.parametrize("what", WEIGHTS)
def test_weights(what: str, idle: Idle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    WEIGHTS[what](tmp_path / "w.pt")
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    _refused(idle, "predict", tmp_path / "a.wav", "--checkpoint", tmp_path / "w.pt")
    assert not (tmp_path / "executed").exists()


def _strange_rate(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(1)
        file.writeframes(bytes(8000))


RECORDINGS: dict[str, Callable[[Path], object]] = {
    "a.wav": _strange_rate,
    "list.m4a": lambda p: p.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/elsewhere.m4a\n"),
    "concat.m4a": lambda p: p.write_text(f"ffconcat version 1.0\nfile '{p.parent / 'good.wav'}'\n"),
    "\x1b[31mred.wav": lambda p: p.write_bytes(b"RIFF"),
    "[red]rate[blink].wav": lambda p: p.write_bytes(b"RIFF"),
    "'; touch executed; '.wav": lambda p: p.write_bytes(b"RIFF"),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_recordings_and_their_names(
    name: str, idle: Idle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    soundfile.write("in/good.wav", np.zeros(16000), 16000)
    RECORDINGS[name](tmp_path / "in" / name)
    model = write_model(tmp_path / "model", ["a", "b"])
    out = tmp_path / "out.csv"
    words = ["predict", tmp_path / "in", "--checkpoint", model, "--format", "csv", "--output", out]
    code, said, memory, seconds = ended(*words)
    assert code == 1 and said.count("error: ") == 1 and "Traceback" not in said, said
    assert "\x1b" not in said and "good.wav" in out.read_text(encoding="utf-8")
    assert memory < idle["predict"][0] + GROWTH and seconds < idle["predict"][1] + CPU_SECONDS
    assert {path.name for path in tmp_path.iterdir()} == {"in", "model", "out.csv"}


@contextmanager
def _answering(answer: bytes, times: int, pause: float) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    with server.accept()[0] as client:
                        for _ in range(times):
                            client.sendall(answer)
                            time.sleep(pause)
                except OSError:
                    if server.fileno() < 0:
                        return

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
SERVERS = {
    "without end": (HEAD + b"[" * (1 << 20), 30_000, 0.0),
    "drips": (b"H", 10_000, 0.5),
    "garbage": (HEAD + b"\x1b[31m{}{", 1, 0.0),
}


@pytest.mark.parametrize("what", SERVERS)
def test_servers(what: str, idle: Idle, tmp_path: Path) -> None:
    write_study(tmp_path / "runs", SMALL[:2], seeds=(0,), rich=False)
    with _answering(*SERVERS[what]) as address:
        _refused(idle, "sync", "--runs", tmp_path / "runs", MLFLOW_TRACKING_URI=address)
