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
from sounds import sound, write_sound

from passt_bench.data import open_dataset
from passt_bench.spec.recipe import DataSpec

HERE = Path(__file__).parent
RATE = 8000
CLIPS = 500  # nine shards
MARK = "PASST_BENCH_DRILL"  # every process of a drill inherits it, those of fork servers too


def processes_of(root: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["environ"])
    return [process for process in found if (process.info["environ"] or {}).get(MARK) == str(root)]


def test_killed_time_and_again_it_comes_to_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    rows = ["path,labels,split"]
    for clip in range(CLIPS):
        sample = sound(clip, 0.02 + 0.0001 * clip, RATE)
        write_sound(tmp_path / "data" / f"{clip}.wav", sample, RATE)
        rows.append(f"{clip}.wav,{'ab'[clip % 2]},{'test' if clip % 5 == 0 else 'train'}")
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(rows) + "\n")
    done = subprocess.run(
        [sys.executable, str(HERE / "preparing.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONWARNINGS": "ignore", MARK: str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    killed = -signal.SIGKILL
    assert done.stdout.splitlines() == [
        "undisturbed 0",
        f"waveforms-000000.i16 {killed} False",
        f"waveforms- {killed} False",
        "worker 2 False",
        f"waveforms- {killed} False",
        f"clips.npz {killed} False",
        f"prepared.json {killed} False",  # nothing half done is taken for a whole
        f"tidy {killed} True",
        "last 0",
    ]
    assert done.stderr.count("a decoding process was killed") == 1
    deadline = time.monotonic() + 10
    while processes_of(tmp_path):
        assert time.monotonic() < deadline, "somebody is left behind"
        time.sleep(0.2)
    undisturbed, resumed = (
        {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        for folder in ("undisturbed", "killed")
    )
    assert resumed == undisturbed
    data = open_dataset(DataSpec("manifest", seconds=0.05), RATE, tmp_path / "killed")
    assert len(data.ids) == CLIPS
    assert all(np.abs(data.waveform(clip)).max() > 0.01 for clip in range(0, CLIPS, 50))
