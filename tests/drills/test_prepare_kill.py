"""A preparation that is killed again and again comes to the same bytes as an undisturbed one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sounds import sound, write_sound

from passt_bench.data import open_dataset
from passt_bench.spec.recipe import DataSpec

HERE = Path(__file__).parent
RATE = 8000
CLIPS = 500  # nine shards
MARK = "PASST_BENCH_DRILL"  # every process of a drill inherits it, those of fork servers too


@pytest.fixture(scope="module")
def drilled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], str]:
    root = tmp_path_factory.mktemp("prepare")
    rows = ["path,labels,split"]
    for clip in range(CLIPS):
        write_sound(root / "data" / f"{clip}.wav", sound(clip, 0.02 + 0.0001 * clip, RATE), RATE)
        rows.append(f"{clip}.wav,{'ab'[clip % 2]},{'test' if clip % 5 == 0 else 'train'}")
    (root / "data" / "manifest.csv").write_text("\n".join(rows) + "\n")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(HERE / "preparing.py"), str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "ignore", MARK: str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print(f"\n{done.stdout}all in {time.monotonic() - began:.0f} s")
    return root, done.stdout.splitlines(), done.stderr


def test_every_kill_took_place(drilled: tuple[Path, list[str], str]) -> None:
    _, lines, said = drilled
    killed = -signal.SIGKILL
    assert lines == [
        "undisturbed 0",
        f"preparing.json {killed} False",
        f"waveforms.i16 {killed} False",
        "worker 2 False",
        f"preparing.json {killed} False",
        f"clips.npz {killed} False",
        f"prepared.json {killed} False",  # nothing half done is taken for a whole
        f"tidy {killed} True",
        "last 0",
    ]
    assert said.count("a decoding process was killed") == 1


def test_the_bytes_equal_those_of_an_undisturbed_one(
    drilled: tuple[Path, list[str], str],
) -> None:
    root, _, _ = drilled
    undisturbed, resumed = (
        {path.name: path.read_bytes() for path in (root / folder).iterdir()}
        for folder in ("undisturbed", "killed")
    )
    assert resumed == undisturbed
    data = open_dataset(DataSpec("manifest", seconds=0.05), RATE, root / "killed")
    assert len(data.ids) == CLIPS
    assert all(np.abs(data.waveform(clip)).max() > 0.01 for clip in range(0, CLIPS, 50))


def test_no_process_is_left_behind(drilled: tuple[Path, list[str], str]) -> None:
    root, _, _ = drilled
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = [
            process
            for process in psutil.process_iter(["environ"])
            if (process.info["environ"] or {}).get(MARK) == str(root)
        ]
        if not left:
            break
        time.sleep(0.2)
    assert not left
