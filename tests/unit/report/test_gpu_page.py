"""The numbers in docs/gpu.md are those of its records, from which this file prints the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from passt_bench.intervals import Rounds, phase_intervals, ratio_intervals
from passt_bench.records.files import unpack_json

ROOT = Path(__file__).parents[3]
REPORT = ROOT / "reports" / "engine_x_patchout_h100_batch_12"
TOKENS = (1190, 474, 254)
CLIPS = 12  # a step
# Engine and phase of each row, in the order of the page.
ROWS = (
    ("2021", "train_step"),
    ("2021", "train_step_device"),
    ("bfloat16, eager", "train_step"),
    ("bfloat16, eager", "train_step_device"),
    ("today", "train_step"),
)


def samples_of(engine: str) -> list[dict[str, Rounds]]:
    """Phase → rounds of each number of tokens, from the session that has all of an engine's."""
    record = json.loads((REPORT / "studies" / f"{REPORT.name}.json").read_text())
    arms = {variant["name"]: variant["arm"] for variant in record["variants"]}
    keys = [arms[f"{engine}, {tokens} tokens"] for tokens in TOKENS]
    paths = REPORT.glob("records/*/samples.json.gz")
    sessions = [unpack_json(path) for path in paths]
    samples = next(found for found in sessions if set(keys) <= set(found))
    return [samples[key] for key in keys]


def rows() -> list[str]:
    """Clips a second without patchout, and with both patchouts beside the speed-up's interval."""
    lines = []
    for engine, phase in ROWS:
        whole, *dropped = samples_of(engine)
        cells = [f"{CLIPS / phase_intervals(whole)[phase].median:.0f}"]
        for samples in dropped:
            speed = ratio_intervals(whole, samples)[phase]
            cells.append(f"{CLIPS / phase_intervals(samples)[phase].median:.0f}")
            cells.append(f"{speed.median:.2f}× [{speed.low:.2f}, {speed.high:.2f}]")
        lines.append(" | ".join(cells))
    return lines


def test_gains_come_from_the_session_that_timed_both_models() -> None:
    with (REPORT / "tables" / "gains.csv").open(newline="") as file:
        gains = {row["variant"]: row for row in csv.DictReader(file)}
    for engine in ("2021", "bfloat16, eager", "today"):
        whole, *dropped = samples_of(engine)
        for tokens, samples in zip(TOKENS[1:], dropped, strict=True):
            row, speed = gains[f"{engine}, {tokens} tokens"], ratio_intervals(whole, samples)
            assert float(row["speedup"]) == pytest.approx(speed["train_step"].median, rel=1e-5)
            # Four models of one session are needed; that of today's engine has two of them.
            assert bool(row["relative"]) == (engine == "bfloat16, eager")


def test_the_report_names_what_is_launch_bound() -> None:
    report = (REPORT / "index.html").read_text(encoding="utf-8")
    named = report.split("Launch-bound", 1)[1].split("</p>", 1)[0]
    with (REPORT / "tables" / "cost.csv").open(newline="") as file:
        device = {row["variant"]: row["train_step_device_seconds"] for row in csv.DictReader(file)}
    for engine, waits in (
        ("2021", (False, True, True)),
        ("bfloat16, eager", (False, True, True)),
        ("today", (False, False, False)),
    ):
        for tokens, samples, named_here in zip(TOKENS, samples_of(engine), waits, strict=True):
            found, name = phase_intervals(samples), f"{engine}, {tokens} tokens"
            step, alone = (found[phase].median for phase in ("train_step", "train_step_device"))
            assert float(device[name]) == pytest.approx(alone, rel=1e-5)
            assert (f"“{name}”" in named) is named_here is (alone < 0.9 * step)
    on_cpu = ROOT / "reports" / "engine_x_patchout" / "index.html"
    assert "Launch-bound" not in on_cpu.read_text(encoding="utf-8")


def test_every_row_is_on_the_page() -> None:
    text = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    assert [row for row in rows() if f"| {row} |" not in text] == []


if __name__ == "__main__":
    print("\n".join(rows()))
