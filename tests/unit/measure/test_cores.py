"""Turns of a round run on the same cores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from known_subjects import NotesCores

from passt_bench.measure.arm import Arm
from passt_bench.measure.machine import all_cores, cores_of_round
from passt_bench.measure.session import run_session
from passt_bench.spec import EngineSpec, MeasurementSpec

pytestmark = pytest.mark.skipif(all_cores() is None, reason="no choice of cores on this system")


def test_rounds_go_round_all_cores() -> None:
    cores = sorted(os.sched_getaffinity(0))
    n = len(cores)
    assert [cores_of_round(number, 1) for number in range(2 * n)] == [(c,) for c in cores] * 2
    for number in range(n):
        assert set(cores_of_round(number, n) or ()) == set(cores)
        assert set(cores_of_round(number, n + 3) or ()) == set(cores)


def test_all_threads_are_bound() -> None:
    """Also those that a library has started before."""
    text = """
import os, pathlib, torch
from passt_bench.measure.machine import bind
torch.set_num_threads(2)
torch.rand(600, 600) @ torch.rand(600, 600)
core = max(os.sched_getaffinity(0))
bind((core,))
threads = [int(path.name) for path in pathlib.Path("/proc/self/task").iterdir()]
assert len(threads) > 1, threads
assert {tuple(os.sched_getaffinity(thread)) for thread in threads} == {(core,)}
bind(None)
"""
    subprocess.run([sys.executable, "-c", text], check=True)


def test_arms_of_a_round_share_a_core(tmp_path: Path) -> None:
    spec = MeasurementSpec(warmup_steps=1, rounds=6, most_rounds=6, steps=2, half_width=9)
    names = ("base", "other")
    arms = [Arm(name, NotesCores(tmp_path / name), EngineSpec(threads=1)) for name in names]
    assert run_session(arms, "base", spec).rounds == 6
    base, other = ((tmp_path / name).read_text().split() for name in names)
    assert base[-12:] == other[-12:]  # two steps in each of six rounds
    assert base[-12:] == [str(core) for n in range(6) for core in cores_of_round(n, 1) * 2]
    everywhere = ",".join(map(str, all_cores()))
    assert set(base[:-12]) == {everywhere}  # while it warmed up and memory was measured
