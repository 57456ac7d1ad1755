"""From a saved benchmark of the data to docs/throughput.json and the tables of docs/measuring.md.

``python tests/helpers/throughput.py BENCHMARK.json`` writes both, BENCHMARK.json being what
``nox -s bench -- -k test_bench_data --benchmark-json=BENCHMARK.json`` leaves.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RECORD, DOCUMENT = ROOT / "docs" / "throughput.json", ROOT / "docs" / "measuring.md"
PAPER = ROOT / "reports" / "paper" / "table1.csv"
BEGIN, END = "<!-- throughput -->\n", "<!-- end of throughput -->\n"
SYSTEMS = ("PaSST-B", "PaSST-U", "PaSST-S", "PaSST-S-L", "PaSST-S-N")
NAMES = {
    "wav": "WAV", "flac": "FLAC", "ogg": "Ogg Vorbis", "mp3": "MP3",
    "mp3 at 32 kHz": "MP3 at 32 kHz in HDF5", "cache at 32 kHz": "prepared clips at 32 kHz",
    "pyav at 32 kHz": "the same MP3 by PyAV",
}  # fmt: skip


def record_of(saved: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a saved benchmark; no host, user or path."""
    machine = saved["machine_info"]
    rows = [entry["extra_info"] for entry in saved["benchmarks"]]
    return {
        "cpu": machine["cpu"].get("brand_raw", "unknown"),
        "cores": machine["cpu"].get("count"),
        "python": machine["python_version"],
        "rows": [row for row in rows if "clips_per_second" in row],
    }


def tables_of(record: dict[str, Any]) -> str:
    """Clips a second; and cores for the paper's training rates."""
    found = {(row["format"], row["stage"]): row for row in record["rows"]}
    rates = {key: row["clips_per_second"] for key, row in found.items()}
    ratio = found["cache against mp3", "ratio"]
    lines = [
        f"One core of {record['cpu']}, {found['wav', 'decode']['sound']}, clips of 10 s, files in "
        "memory; clips per second:",
        "",
        "| | waveform | resampled to 32 kHz | log-mel, 128 × 1000 |",
        "|---|---|---|---|",
    ]
    for kind in ("wav", "flac", "ogg", "mp3"):
        values = " | ".join(
            _short(rates[kind, stage]) for stage in ("decode", "resample", "logmel")
        )
        lines.append(f"| {NAMES[kind]}, 44.1 kHz | {values} |")
    for kind in ("mp3 at 32 kHz", "cache at 32 kHz"):
        lines.append(
            f"| {NAMES[kind]} | {_short(rates[kind, 'decode'])} | – | "
            f"{_short(rates[kind, 'logmel'])} |"
        )
    lines += ["", "| in a `torch.utils.data` loader | waveform |", "|---|---|"]
    for kind in ("pyav at 32 kHz", "mp3 at 32 kHz", "cache at 32 kHz"):
        lines.append(f"| {NAMES[kind]} | {_short(rates[kind, 'loader'])} |")
    lines += [
        "",
        "Prepared clips against that MP3, the same clip by both in turn: "
        f"**{ratio['ratio']:g} times** as fast (median of 25 rounds; eight in ten lie between "
        f"{ratio['ratio_tenth']:g} and {ratio['ratio_ninetieth']:g}). The table reads one kind "
        "after the other, and there prepared clips stay in the core's cache.",
        "",
        "| training rate, paper's Table 1 | clips/s | cores, MP3 to log-mel | cores, prepared to "
        "log-mel | cores, MP3 to waveform |",
        "|---|---|---|---|---|",
    ]
    for system, rate in _paper().items():
        cores = [
            rate / rates[key]
            for key in (
                ("mp3 at 32 kHz", "logmel"),
                ("cache at 32 kHz", "logmel"),
                ("mp3 at 32 kHz", "decode"),
            )
        ]
        lines.append(f"| {system} | {rate:g} | " + " | ".join(f"{c:.2g}" for c in cores) + " |")
    return "\n".join(lines) + "\n"


def _short(rate: float) -> str:
    return f"{rate:,.0f}".replace(",", " ")


def _paper() -> dict[str, float]:
    with PAPER.open(newline="", encoding="utf-8") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    return {name: float(rows[name]["train_spectrograms_per_s"]) for name in SYSTEMS}


def within(document: str) -> str:
    """What stands between the marks."""
    return document.partition(BEGIN)[2].partition(END)[0]


def main(path: Path) -> None:
    """Writes record and document."""
    record = record_of(json.loads(path.read_text()))
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    before, mark, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{mark}{tables_of(record)}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
