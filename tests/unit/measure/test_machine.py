import getpass
import json
import os
import platform
from pathlib import Path

import pytest
import torch

from passt_bench.measure import machine
from passt_bench.measure.machine import (
    all_cores,
    background_load,
    bind,
    changes,
    cores_of_round,
    describe_machine,
    library_versions,
    parse_gpus,
    query_gpus,
)


def test_the_machine_is_described_without_names() -> None:
    machine = describe_machine()
    assert machine == describe_machine()  # it enters keys
    assert {"cpu", "cores", "memory_gib", "system", "python"} <= set(machine)
    text = json.dumps(machine)
    assert machine == json.loads(text)  # as it comes back from a record
    assert platform.node() not in text
    assert getpass.getuser() not in text.split()
    assert library_versions()["torch"] == torch.__version__


def test_warnings_are_sentences() -> None:
    state = background_load(0.05)
    assert {"load", "cores", "other_cores", "stolen_cores", "warnings"} <= set(state)
    json.dumps(state)
    busy = {**state, "warnings": ["Busy."], "throttled": "3"}
    both = changes(busy, {**busy, "throttled": "4"})
    assert both["warnings"] == ["Busy.", "The CPU was throttled by heat during the session."]


def test_gpu_lines_are_read() -> None:
    text = (
        "NVIDIA H100 80GB HBM3, 37, 1024, 0x0000000000000040, 1980, 652.31, 580.159.04\n"
        "GPU, B, [N/A], [N/A], [N/A], [N/A], [N/A], 580.1\n"
    )
    first, second = parse_gpus(text)
    assert first == {
        "name": "NVIDIA H100 80GB HBM3", "busy_percent": 37, "used_mib": 1024, "slowed": 0x40,
        "clock_mhz": 1980, "power_watts": 652.31, "driver": "580.159.04",
    }  # fmt: skip
    assert list(second.values()) == ["GPU, B", 0, 0, 0, 0, 0.0, "580.1"]
    assert parse_gpus("") == []


def test_the_gpus_are_those_that_cuda_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'for last; do :; done; case "$last" in --id=1) names=B;; --id=*) exit 6;; *) names="A B";;'
        ' esac\nfor name in $names; do echo "$name, 0, 0, 0x0, 345, 70.5, 580.1"; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu["name"] for gpu in query_gpus()] == ["A", "B"]
    for visible, names in {"1": ["B"], " 1 ": ["B"], "": ["A", "B"], "MIG-1": ["A", "B"]}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert [gpu["name"] for gpu in query_gpus()] == names


def test_a_gpu_that_was_busy_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, idle = ({"name": "X", "busy_percent": n, "used_mib": 0, "slowed": 0} for n in (99, 0))
    for looks, warned in (([[busy], [idle]], False), ([[busy], [busy]], True), ([[idle]], False)):
        left = list(looks)
        monkeypatch.setattr(machine, "query_gpus", lambda left=left: left.pop(0))
        monkeypatch.setattr(machine, "_GPU_USE_WINDOW", 0.0)
        assert any("busy with" in text for text in background_load(0.0)["warnings"]) is warned
        assert left == []


@pytest.mark.skipif(all_cores() is None, reason="no choice of cores on this system")
def test_rounds_go_round_all_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    n = len(cores)
    assert [cores_of_round(number, 1) for number in range(2 * n)] == [(c,) for c in cores] * 2
    for number in range(n):
        assert set(cores_of_round(number, n) or ()) == set(cores)
        assert set(cores_of_round(number, n + 3) or ()) == set(cores)


@pytest.mark.skipif(all_cores() is None, reason="no choice of cores on this system")
def test_all_threads_are_bound() -> None:
    before, core = all_cores(), max(all_cores() or ())
    torch.set_num_threads(2)
    torch.rand(600, 600) @ torch.rand(600, 600)
    try:
        bind((core,))
        threads = [int(path.name) for path in Path("/proc/self/task").iterdir()]
        assert len(threads) > 1
        assert {tuple(os.sched_getaffinity(thread)) for thread in threads} == {(core,)}
        bind(None)
        assert all_cores() == (core,)
    finally:
        bind(before)
        torch.set_num_threads(1)
