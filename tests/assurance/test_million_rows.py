"""A list of a million clips is opened, looked over and read within bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from sounds import sound, write_sound

ROWS = 1_000_000
GIB = 2**30
CLASSES = 50
SPLITS = ("train",) * 8 + ("validation", "test")
# In a process of its own: what is measured is its peak since it began, torch and all. Not by
# getrusage, whose peak begins with that of the process that started it.
OPEN = """
import json, sys
from pathlib import Path
from passt_bench.data import open_dataset
from passt_bench.data.check import check
from passt_bench.measure.memory import resident
from passt_bench.spec.recipe import DataSpec

data = open_dataset(DataSpec(name="manifest", seconds=0.5), 16000, Path(sys.argv[1]))
splits = [*data.split(None), data.validation()]
waves = [float(abs(data.waveform(int(clips[-1]))).max()) for clips in splits]
told = check(data, lambda share, text: None)
print(json.dumps({
    "splits": [len(clips) for clips in splits],
    "waves": waves,
    "parts": [part.found for part in told.splits],
    "positives": sum(sum(item.found) for item in told.classes),
    "findings": {item.kind: item.count for item in told.findings},
    "peak": resident("VmHWM"),
}))
"""


def write_rows(root: Path) -> None:
    """A manifest of a million stretches of ten recordings."""
    for number in range(10):
        write_sound(root / f"real/{number}.wav", sound(number, 120.0, 8000), 8000)
    with (root / "manifest.csv").open("w", encoding="utf-8") as file:
        file.write("path,label,split,start,end\n")
        for row in range(ROWS):
            label, split = f"class {row % CLASSES:02}", SPLITS[row % 10]
            start = row / 10 * 0.001
            file.write(f"real/{row % 10}.wav,{label},{split},{start:.4f},{start + 0.5:.4f}\n")


def test_a_million_stretches_of_few_recordings(tmp_path: Path) -> None:
    write_rows(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PASST_BENCH_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    print(found)
    assert found["splits"] == found["parts"] == [800_000, 100_000, 100_000]
    assert found["positives"] == ROWS
    assert min(found["waves"]) > 0.1
    # Each class stands in one split alone here, so that it lacks in the two others.
    assert found["findings"] == {"class without a positive": 2 * CLASSES}
    assert found["peak"] < GIB
